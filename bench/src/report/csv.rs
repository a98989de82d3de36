//! CSV (RFC 4180): one line for each case and subject.

use super::analysis::Analysis;
use crate::record::Unit;

/// Returns the table.
pub(super) fn render(analysis: &Analysis) -> String {
    let mut out = String::from(
        "suite,case,curve,axis,x,subject,unit,n,median,low95,high95,cpu,daemon_cpu,peer,ratio,ratio_low95,\
         ratio_high95,cpu_ratio,floor,floor_ratio,floor_low95,floor_high95,p50,p90,p99,p999,max,\
         bytes_per_second,rss,descriptors,written,marked_rounds,error\r\n",
    );
    for case in &analysis.cases {
        for cell in &case.cells {
            let value = |f: fn(&crate::stats::Estimate) -> f64| cell.value.as_ref().map(f);
            let peer = |f: fn(&crate::stats::Estimate) -> f64| cell.peer.as_ref().map(|p| f(&p.1));
            let floor =
                |f: fn(&crate::stats::Estimate) -> f64| cell.floor.as_ref().map(|p| f(&p.1));
            let late = |f: fn(&crate::record::Latency) -> f64| cell.latency.as_ref().map(f);
            let unit = if case.unit == Unit::Seconds { "s" } else { "B" };
            let mut fields = vec![quoted(&case.suite), quoted(&case.name)];
            let point = case.point.as_ref();
            fields.push(quoted(point.map_or("", |p| &p.curve)));
            fields.push(quoted(point.map_or("", |p| &p.axis)));
            fields.push(number(point.map(|p| p.x)));
            fields.push(quoted(&cell.subject));
            fields.push(unit.into());
            fields.push(cell.value.map_or(0, |v| v.n).to_string());
            fields.extend([value(|v| v.median), value(|v| v.low), value(|v| v.high)].map(number));
            fields.extend([Some(cell.cpu), Some(cell.daemon)].map(number));
            fields.push(quoted(cell.peer.as_ref().map_or("", |p| &p.0)));
            fields.extend([peer(|v| v.median), peer(|v| v.low), peer(|v| v.high)].map(number));
            fields.push(number(cell.peer_cpu.map(|r| r.median)));
            fields.push(quoted(cell.floor.as_ref().map_or("", |p| &p.0)));
            fields.extend([floor(|v| v.median), floor(|v| v.low), floor(|v| v.high)].map(number));
            fields.extend(
                [
                    late(|l| l.p50),
                    late(|l| l.p90),
                    late(|l| l.p99),
                    late(|l| l.p999),
                    late(|l| l.max),
                ]
                .map(number),
            );
            fields.extend(
                [cell.throughput, Some(cell.rss), Some(cell.fds), Some(cell.written)].map(number),
            );
            fields.push(cell.marked.to_string());
            fields.push(quoted(cell.error.as_ref().map_or("", |e| &e.0)));
            out.push_str(&fields.join(","));
            out.push_str("\r\n");
        }
    }
    out
}

fn number(value: Option<f64>) -> String {
    value.filter(|v| !v.is_nan()).map_or(String::new(), |v| v.to_string())
}

fn quoted(field: &str) -> String {
    match field.contains([',', '"', '\n', '\r']) {
        true => format!("\"{}\"", field.replace('"', "\"\"")),
        false => field.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commas_and_quotes_are_kept() {
        assert_eq!(quoted("stat, \"warm\""), "\"stat, \"\"warm\"\"\"");
        assert_eq!(quoted("stat"), "stat");
    }
}
