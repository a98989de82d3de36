//! One page with plots and tables, which needs nothing else.

use super::analysis::{Analysis, Case, Cell};
use super::ecdf::{self, Spread};
use super::svg::{self, Curve, Group, Lane, Look, escaped, ratio_tick};
use super::text::{amount, digits, floor, parts, times, verdict};
use crate::record::{Costs, Unit};

const STYLE: &str = include_str!("style.css");

/// Colours that the style sheet has.
const COLOURS: usize = 8;

/// Returns the page.
pub(super) fn render(analysis: &Analysis) -> String {
    let mut out = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>bench</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n"
    );
    head(&mut out, analysis);
    for suite in analysis.suites() {
        let cases: Vec<_> = analysis.cases.iter().filter(|c| c.suite == suite).collect();
        let about = crate::suite::SUITES.iter().find(|(n, _)| *n == suite).map_or("", |(_, a)| a);
        out.push_str(&format!(
            "<h2 id=\"{0}\">{0}</h2>\n<p class=\"soft\">{1}.</p>\n",
            escaped(suite),
            escaped(about)
        ));
        plots(&mut out, analysis, &cases);
        spreads(&mut out, analysis, &cases);
        table(&mut out, &cases);
    }
    costs(&mut out, analysis);
    out.push_str("</body>\n</html>\n");
    out
}

fn head(out: &mut String, analysis: &Analysis) {
    let environment = &analysis.environment;
    let fact = |name: &str| {
        let found = environment.facts.iter().find(|(n, _)| n == name);
        found.map_or(String::new(), |(_, v)| escaped(v))
    };
    out.push_str(&format!(
        "<h1>bench</h1>\n<p class=\"soft\">{}, Linux {}, {}, layers on {}</p>\n<p><code>{}</code></p>\n",
        fact("date"),
        fact("kernel"),
        fact("processors"),
        fact("layers on"),
        escaped(&environment.command.join(" "))
    ));
    let (turns, marked) = analysis.turns;
    out.push_str(&format!(
        "<p>{} of {} rounds, size {}. Every value is a median over rounds with its 95 % interval (bootstrap, never narrower than the sign test’s). Ratios are taken within rounds; “no difference” means that the interval holds 1. The noise guard marked {marked} of {turns} turns; marked rounds are left out where six others remain. Rootless subjects (@user, hollow marks) are compared with rootless overlay.</p>\n<nav>",
        analysis.rounds, environment.rounds, escaped(&environment.scale)
    ));
    for suite in analysis.suites() {
        out.push_str(&format!("<a href=\"#{0}\">{0}</a>", escaped(suite)));
    }
    if !analysis.costs.is_empty() {
        out.push_str("<a href=\"#messages\">messages and system calls</a>");
    }
    out.push_str("</nav>\n<h3>Subjects</h3>\n<div class=\"wide\"><table><tr><th>subject</th><th>version</th><th>how</th></tr>\n");
    for s in &analysis.subjects {
        row(out, "", &[&s.name, &s.version, &s.how]);
    }
    for absent in &analysis.absent {
        out.push_str(&format!(
            "<tr><td>{}</td><td class=\"bad\" colspan=\"2\">not measured: {}</td></tr>\n",
            escaped(&absent.name),
            escaped(&absent.why)
        ));
    }
    out.push_str("</table></div>\n");
    for note in &analysis.notes {
        out.push_str(&format!("<p>Note: {}.</p>\n", escaped(note)));
    }
    out.push_str("<details><summary>The machine</summary><table>\n");
    for (name, value) in &environment.facts {
        row(out, "", &[name, value]);
    }
    out.push_str("</table></details>\n");
}

fn row(out: &mut String, class: &str, cells: &[&str]) {
    let cells: String = cells.iter().map(|c| format!("<td>{}</td>", escaped(c))).collect();
    out.push_str(&format!("<tr class=\"{class}\">{cells}</tr>\n"));
}

/// Returns how a subject is drawn: rootless ones have the colour of the same subject as root.
fn look(analysis: &Analysis, name: &str) -> Look {
    let base = name.trim_end_matches("@user");
    let mut bases: Vec<&str> = Vec::new();
    for subject in &analysis.subjects {
        let base = subject.name.trim_end_matches("@user");
        if !bases.contains(&base) {
            bases.push(base);
        }
    }
    let at = bases.iter().position(|b| *b == base).unwrap_or(0);
    Look { colour: at % COLOURS, rootless: name != base }
}

fn plots(out: &mut String, analysis: &Analysis, cases: &[&Case]) {
    let (points, single): (Vec<&Case>, Vec<&Case>) =
        cases.iter().copied().partition(|c| c.point.is_some());
    let has_peer = |c: &Case| c.cells.iter().any(|cell| cell.peer.is_some());
    let (compared, alone): (Vec<&Case>, Vec<&Case>) = single.into_iter().partition(|c| has_peer(c));
    for (unit, than) in [
        (Unit::Seconds, "times as long as PEER (log axis; left of the dashed line is faster)"),
        (Unit::Bytes, "times as much as PEER (log axis; left of the dashed line is less)"),
    ] {
        let of_unit: Vec<&Case> = compared.iter().filter(|c| c.unit == unit).copied().collect();
        let groups: Vec<_> = of_unit.iter().map(|c| ratio_group(analysis, c)).collect();
        if !groups.is_empty() {
            let caption = than.replace("PEER", &peers(&of_unit));
            out.push_str(&svg::dots(&groups, &caption, ratio_tick, true));
        }
    }
    for (unit, caption) in [
        (Unit::Seconds, "time of one operation (log axis; left is faster)"),
        (Unit::Bytes, "bytes (log axis; left is less)"),
    ] {
        let of_unit = alone.iter().filter(|c| c.unit == unit);
        let groups: Vec<_> = of_unit.map(|c| value_group(analysis, c)).collect();
        if !groups.is_empty() {
            let tick = if unit == Unit::Seconds { seconds } else { bytes };
            out.push_str(&svg::dots(&groups, caption, tick, false));
        }
    }
    let mut names: Vec<&str> = Vec::new();
    for point in points.iter().filter_map(|c| c.point.as_ref()) {
        if !names.contains(&point.curve.as_str()) {
            names.push(&point.curve);
        }
    }
    for name in names {
        curve(out, analysis, &points, name);
    }
}

/// Names what the ratios of these cases are to; what is rootless has the same, rootless.
fn peers(cases: &[&Case]) -> String {
    let mut names: Vec<&str> = Vec::new();
    for (name, _) in cases.iter().flat_map(|c| c.cells.iter().filter_map(|c| c.peer.as_ref())) {
        let name = name.trim_end_matches("@user");
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names.join(" or ")
}

/// Draws how the times of single operations are spread.
fn spreads(out: &mut String, analysis: &Analysis, cases: &[&Case]) {
    let plots: Vec<_> = cases
        .iter()
        .filter_map(|case| {
            let of = |cell: &Cell| Spread {
                label: cell.subject.clone(),
                look: look(analysis, &cell.subject),
                steps: cell.spread.clone(),
            };
            let all: Vec<_> = case.cells.iter().filter(|c| !c.spread.is_empty()).map(of).collect();
            (!all.is_empty()).then(|| (case.name.as_str(), ecdf::plot(all, seconds)))
        })
        .collect();
    if plots.is_empty() {
        return;
    }
    out.push_str("<details><summary>How the times of single operations are spread</summary>\n<p class=\"soft\">The share of operations, of all rounds together, that took at most as long. The share’s axis goes by nines, so that the slowest tenth, hundredth and thousandth have as much room as the rest.</p>\n");
    for (name, plot) in plots {
        out.push_str(&format!("<h3>{}</h3>\n{plot}", escaped(name)));
    }
    out.push_str("</details>\n");
}

fn seconds(value: f64) -> String {
    short(&amount(value, Unit::Seconds))
}

fn bytes(value: f64) -> String {
    short(&amount(value, Unit::Bytes))
}

/// Returns an amount without digits that say nothing: of a tick.
fn short(amount: &str) -> String {
    match amount.split_once(' ') {
        Some((number, unit)) if number.contains('.') => {
            format!("{} {unit}", number.trim_end_matches('0').trim_end_matches('.'))
        }
        _ => amount.to_owned(),
    }
}

fn count(value: f64) -> String {
    format!("{value:.0}")
}

fn ratio_group(analysis: &Analysis, case: &Case) -> Group {
    let lanes = case.cells.iter().map(|cell| Lane {
        label: cell.subject.clone(),
        look: look(analysis, &cell.subject),
        value: cell.peer.as_ref().map(|(_, r)| [r.median, r.low, r.high]),
        text: match (&cell.peer, &cell.value) {
            (Some((_, ratio)), _) => {
                let same = match ratio.n {
                    0..6 => ", too few rounds",
                    _ if ratio.holds(1.0) => ", no difference",
                    _ => "",
                };
                format!("{} [{}, {}]{same}", times(ratio), digits(ratio.low), digits(ratio.high))
            }
            (None, Some(value)) => amount(value.median, case.unit),
            (None, None) => failure(cell),
        },
    });
    Group { title: case.name.clone(), lanes: lanes.collect() }
}

fn value_group(analysis: &Analysis, case: &Case) -> Group {
    let lanes = case.cells.iter().map(|cell| Lane {
        label: cell.subject.clone(),
        look: look(analysis, &cell.subject),
        value: cell.value.as_ref().filter(|v| v.median > 0.0).map(|v| [v.median, v.low, v.high]),
        text: cell.value.as_ref().map_or_else(|| failure(cell), |v| amount(v.median, case.unit)),
    });
    Group { title: case.name.clone(), lanes: lanes.collect() }
}

/// Returns why there is no value, as short as a plot has room for.
fn failure(cell: &Cell) -> String {
    let why = cell.error.as_ref().map_or("no value", |e| e.0.as_str());
    let why = if why.starts_with("void") { "void: another result" } else { why };
    let short: String = why.chars().take(34).collect();
    if short.len() < why.len() { format!("{short}…") } else { short }
}

fn curve(out: &mut String, analysis: &Analysis, cases: &[&Case], name: &str) {
    let points = cases.iter().filter_map(|c| c.point.as_ref().map(|p| (p, *c)));
    let of_curve: Vec<_> = points.filter(|(p, _)| p.curve == name).collect();
    let Some((first, case)) = of_curve.first() else { return };
    let of_subject = |subject: &str| {
        let mut all: Vec<_> = of_curve
            .iter()
            .filter_map(|(p, c)| {
                let cell = c.cells.iter().find(|cell| cell.subject == subject)?;
                cell.value.map(|v| (p.x, [v.median, v.low, v.high]))
            })
            .collect();
        all.sort_by(|a, b| a.0.total_cmp(&b.0));
        all
    };
    let all: Vec<_> = analysis
        .subjects
        .iter()
        .map(|s| Curve {
            label: s.name.clone(),
            look: look(analysis, &s.name),
            points: of_subject(&s.name),
        })
        .filter(|c| !c.points.is_empty())
        .collect();
    if all.is_empty() {
        return;
    }
    let x_tick = if first.axis.starts_with("bytes") { bytes } else { count };
    let (unit, y_tick): (_, fn(f64) -> String) = match case.unit {
        Unit::Seconds => ("time of one operation", seconds),
        Unit::Bytes => ("bytes", bytes),
    };
    out.push_str(&format!("<h3>{}</h3>\n", escaped(name)));
    out.push_str(&svg::curves(
        &all,
        (&format!("{} (log axis)", first.axis), x_tick),
        (&format!("{unit} (log axis)"), y_tick),
    ));
}

fn table(out: &mut String, cases: &[&Case]) {
    out.push_str("<details><summary>All values</summary><div class=\"wide\"><table>\n<tr><th>case</th><th>subject</th><th class=\"n\">median</th><th class=\"n\">95 % interval</th><th class=\"n\">to peer</th><th></th><th class=\"n\">to floor</th><th class=\"n\">CPU</th><th class=\"n\">of it daemon</th><th class=\"n\">CPU to peer</th><th class=\"n\">p50</th><th class=\"n\">p99</th><th class=\"n\">p99.9</th><th class=\"n\">per second</th><th class=\"n\">RSS</th><th class=\"n\">fds</th><th class=\"n\">written</th></tr>\n");
    for case in cases {
        for (n, cell) in case.cells.iter().enumerate() {
            let name = if n == 0 { case.name.as_str() } else { "" };
            let class = if n == 0 { "first" } else { "" };
            out.push_str(&format!("<tr class=\"{class}\"><td>{}</td>", escaped(name)));
            values(out, case, cell);
            out.push_str("</tr>\n");
        }
    }
    out.push_str("</table></div></details>\n");
}

fn values(out: &mut String, case: &Case, cell: &Cell) {
    let mut text = |class: &str, text: &str| {
        out.push_str(&format!("<td class=\"{class}\">{}</td>", escaped(text)));
    };
    text("", &cell.subject);
    let Some(value) = &cell.value else {
        let why = cell.error.as_ref().map_or("no value", |e| &e.0);
        out.push_str(&format!("<td class=\"bad\" colspan=\"15\">{}</td>", escaped(why)));
        return;
    };
    let unit = case.unit;
    let time = |v: f64| if unit == Unit::Seconds { amount(v, unit) } else { String::new() };
    let memory = |v: f64| if v > 0.0 { amount(v, Unit::Bytes) } else { String::new() };
    text("n", &amount(value.median, unit));
    text("n", &format!("{} … {}", amount(value.low, unit), amount(value.high, unit)));
    text("n", &cell.peer.as_ref().map_or(String::new(), |(_, r)| times(r)));
    text("v", &cell.peer.as_ref().map_or(String::new(), |(_, r)| verdict(r)));
    text("n", &cell.floor.as_ref().map_or(String::new(), |(_, r)| times(r)));
    text("n", &if cell.cpu > 0.0 { time(cell.cpu) } else { String::new() });
    text("n", &if cell.daemon > 0.0 { time(cell.daemon) } else { String::new() });
    text("n", &cell.peer_cpu.as_ref().map_or(String::new(), times));
    let late = cell.latency.map(|l| [l.p50, l.p99, l.p999].map(|v| amount(v, Unit::Seconds)));
    for value in late.unwrap_or_default() {
        text("n", &value);
    }
    text("n", &cell.throughput.map_or(String::new(), |v| amount(v, Unit::Bytes)));
    text("n", &memory(cell.rss));
    text("n", &if cell.fds > 0.0 { digits(cell.fds) } else { String::new() });
    text("n", &memory(cell.written));
    if let Some(remark) = &cell.remark {
        text("", remark);
    }
}

fn costs(out: &mut String, analysis: &Analysis) {
    let all: &[Costs] = &analysis.costs;
    let Some(first) = all.first() else { return };
    out.push_str(&format!(
        "<h2 id=\"messages\">messages and system calls</h2>\n<p class=\"soft\">Exact, of one operation, counted in a pass of its own. Messages: {}. System calls: {}. {}</p>\n<div class=\"wide\"><table>\n<tr><th>case</th><th>subject</th><th class=\"n\">messages</th><th></th><th class=\"n\">system calls</th><th></th></tr>\n",
        escaped(&first.messages_by),
        escaped(&first.syscalls_by),
        round_trip(analysis)
    ));
    let mut last = String::new();
    for costs in all {
        let name = format!("{}/{}", costs.suite, costs.case);
        let (class, shown) = if name == last { ("", "") } else { ("first", name.as_str()) };
        let each = |n: u64| digits(n as f64 / costs.ops.max(1) as f64);
        out.push_str(&format!(
            "<tr class=\"{class}\"><td>{}</td><td>{}</td><td class=\"n\">{}</td><td>{}</td><td class=\"n\">{}</td><td>{}</td></tr>\n",
            escaped(shown),
            escaped(&costs.subject),
            each(costs.messages.values().sum()),
            escaped(&format!("{}{}", parts(&costs.messages, costs.ops), floor(analysis, costs))),
            each(costs.syscalls.values().sum()),
            escaped(&parts(&costs.syscalls, costs.ops))
        ));
        last = name;
    }
    out.push_str("</table></div>\n");
}

fn round_trip(analysis: &Analysis) -> String {
    analysis.round_trip.map_or(String::new(), |time| {
        format!(
            "One message and its answer take {} here, by the fastest case that is one message: where all messages of an operation together take longer than the peer’s whole work, no daemon can beat it, and the row says so.",
            amount(time, Unit::Seconds)
        )
    })
}
