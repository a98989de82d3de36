//! The report on the terminal, and how numbers are written everywhere.

use std::fmt::Write;

use super::analysis::{Analysis, Cell};
use crate::record::{Costs, Unit};
use crate::stats::Estimate;

/// Returns the short report.
pub(super) fn render(analysis: &Analysis) -> String {
    let mut out = String::new();
    for (name, value) in &analysis.environment.facts {
        line(&mut out, &format!("{name:<30} {value}"));
    }
    line(&mut out, "");
    for subject in &analysis.subjects {
        line(&mut out, &format!("{:<24}{} [{}]", subject.name, subject.version, subject.how));
    }
    for absent in &analysis.absent {
        line(&mut out, &format!("{:<24}not measured: {}", absent.name, absent.why));
    }
    for note in &analysis.notes {
        line(&mut out, &format!("note: {note}"));
    }
    for suite in analysis.suites() {
        line(
            &mut out,
            &format!(
                "\n{suite}: medians of {} rounds, size {}\n{:<40}{:>12}  {:<22}{:>12} {:<22}{:>9} {:>9}",
                analysis.rounds,
                analysis.environment.scale,
                "",
                "time",
                "[95 % interval]",
                "ratio",
                "to overlay or peer",
                "CPU",
                "its ratio"
            ),
        );
        for case in analysis.cases.iter().filter(|c| c.suite == suite) {
            line(&mut out, &case.name);
            for cell in &case.cells {
                line(&mut out, &cell_line(cell, case.unit));
            }
        }
    }
    if !analysis.costs.is_empty() {
        line(&mut out, "\nFUSE messages and system calls of the daemon, exact, for one operation");
        for costs in &analysis.costs {
            line(&mut out, &format!("{}{}", costs_line(costs), floor(analysis, costs)));
        }
    }
    time(&mut out, analysis);
    let (turns, marked) = analysis.turns;
    line(&mut out, &format!("\nnoise guard: {marked} of {turns} turns marked"));
    out
}

/// Says what a round's time was spent on, the longest block first.
fn time(out: &mut String, analysis: &Analysis) {
    let rounds = f64::from(analysis.rounds.max(1));
    let mut blocks: Vec<_> = analysis.spent.iter().collect();
    blocks.sort_by(|a, b| b.1.0.total_cmp(&a.1.0));
    if blocks.is_empty() {
        return;
    }
    let total: f64 = blocks.iter().map(|b| b.1.0).sum();
    line(
        out,
        &format!("\n{:<34}{:>8}  of it", "seconds of a round, by block", digits(total / rounds)),
    );
    for (block, (seconds, spent)) in blocks {
        let parts = spent.parts().map(|(name, s)| format!("{:>8} {name}", digits(s / rounds)));
        line(out, &format!("  {block:<32}{:>8}  {}", digits(seconds / rounds), parts.join(" ")));
    }
}

fn line(out: &mut String, text: &str) {
    out.push_str(text.trim_end());
    out.push('\n');
}

fn cell_line(cell: &Cell, unit: Unit) -> String {
    let mut out = format!("  {:<38}", cell.subject);
    if let Some((why, times)) = &cell.error {
        add(&mut out, format_args!("{times} × {why}"));
        return out;
    }
    if let Some(value) = &cell.value {
        let interval = format!("[{}, {}]", amount(value.low, unit), amount(value.high, unit));
        add(&mut out, format_args!("{:>12}  {interval:<22}", amount(value.median, unit)));
    }
    match &cell.peer {
        Some((_, ratio)) => {
            add(&mut out, format_args!("{:>12} {:<22}", times(ratio), verdict(ratio)))
        }
        None => add(&mut out, format_args!("{:>12} {:<22}", "", "")),
    }
    if unit == Unit::Seconds {
        let (cpu, ratio) = match cell.cpu > 0.0 {
            true => (amount(cell.cpu, unit), cell.peer_cpu.as_ref().map_or(String::new(), times)),
            false => Default::default(),
        };
        add(&mut out, format_args!("{cpu:>9} {ratio:>9}"));
    }
    if let Some(l) = &cell.latency {
        let at = [l.p50, l.p90, l.p99, l.p999].map(|v| amount(v, unit));
        add(&mut out, format_args!("  p50…p99.9 {}", at.join(" ")));
    }
    if let Some(remark) = &cell.remark {
        add(&mut out, format_args!("  ({remark})"));
    }
    out
}

fn add(out: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing to a string can't fail.
    out.write_fmt(text).unwrap_or_default();
}

/// Returns the counts of one case in one line.
pub(super) fn costs_line(costs: &Costs) -> String {
    let each = |n: u64| n as f64 / costs.ops.max(1) as f64;
    let total = |counts: &std::collections::BTreeMap<String, u64>| each(counts.values().sum());
    let messages = match costs.messages_by.starts_with("not") {
        true => "?".to_owned(),
        false => format!("{:.2}", total(&costs.messages)),
    };
    format!(
        "{:<32}{:<20}{:>8} messages{:>8.2} calls  {}",
        costs.case,
        costs.subject,
        messages,
        total(&costs.syscalls),
        if costs.messages_by.starts_with("not") {
            costs.messages_by.clone()
        } else {
            parts(&costs.messages, costs.ops)
        }
    )
}

/// Says where the messages alone take longer than the peer's whole work: no daemon can beat that.
pub(super) fn floor(analysis: &Analysis, costs: &Costs) -> String {
    match analysis.floor(costs) {
        Some((floor, true)) => {
            let floor = amount(floor, Unit::Seconds);
            format!("; can't beat its peer: the messages alone take {floor}")
        }
        _ => String::new(),
    }
}

/// Returns the counts by name for one operation, the largest first; what happened once isn't told.
pub(super) fn parts(counts: &std::collections::BTreeMap<String, u64>, ops: u64) -> String {
    let each = |n: u64| n as f64 / ops.max(1) as f64;
    let mut all: Vec<_> = counts.iter().filter(|(_, n)| each(**n) >= 0.005).collect();
    all.sort_by_key(|(name, n)| (std::cmp::Reverse(**n), (*name).clone()));
    let parts: Vec<_> = all.iter().map(|(name, n)| format!("{:.2} {name}", each(**n))).collect();
    parts.join(", ")
}

/// Returns a value with three digits and a unit that suits it; a dash for what isn't known.
pub(super) fn amount(value: f64, unit: Unit) -> String {
    if value.is_nan() {
        return "–".to_owned();
    }
    let (units, step): (&[&str], f64) = match unit {
        Unit::Seconds => (&["ns", "µs", "ms", "s"], 1000.0),
        Unit::Bytes => (&["B", "KiB", "MiB", "GiB"], 1024.0),
    };
    let mut value = if unit == Unit::Seconds { value * 1e9 } else { value };
    let mut at = 0;
    while value >= step * 0.9995 && at + 1 < units.len() {
        value /= step;
        at += 1;
    }
    format!("{} {}", digits(value), units[at])
}

/// Returns a number with three digits.
pub(super) fn digits(value: f64) -> String {
    match value.abs() {
        v if v >= 99.95 => format!("{value:.0}"),
        v if v >= 9.995 => format!("{value:.1}"),
        v if v >= 0.0995 || v == 0.0 => format!("{value:.2}"),
        v if v >= 0.00995 => format!("{value:.3}"),
        _ => format!("{value:.4}"),
    }
}

/// Returns a ratio.
pub(super) fn times(ratio: &Estimate) -> String {
    format!("{} ×", digits(ratio.median))
}

/// Says what a ratio means, and how sure that is.
pub(super) fn verdict(ratio: &Estimate) -> String {
    let interval = format!("[{}, {}]", digits(ratio.low), digits(ratio.high));
    match ratio.n {
        0..6 => format!("{interval} too few rounds"),
        _ if ratio.holds(1.0) => format!("{interval} no difference"),
        _ => interval,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_have_three_digits() {
        let seconds =
            [(1.5e-7, "150 ns"), (2.345e-6, "2.35 µs"), (0.0999949, "100 ms"), (61.0, "61.0 s")];
        for (value, text) in seconds {
            assert_eq!(amount(value, Unit::Seconds), text);
        }
        assert_eq!(amount(200.0, Unit::Bytes), "200 B");
        assert_eq!(amount(3.0 * 1048576.0, Unit::Bytes), "3.00 MiB");
    }

    #[test]
    fn an_interval_that_holds_one_is_no_difference() {
        let of = |low, high, n| verdict(&Estimate { median: 1.0, low, high, n });
        assert_eq!(of(0.9, 1.1, 10), "[0.90, 1.10] no difference");
        assert_eq!(of(1.05, 1.1, 10), "[1.05, 1.10]");
        assert_eq!(of(0.9, 1.1, 5), "[0.90, 1.10] too few rounds");
    }
}
