//! Markdown, for issues and READMEs.

use super::analysis::{Analysis, Case, Cell};
use super::text::{amount, digits, floor, parts, verdict};
use crate::record::{Costs, Unit};

/// Returns the whole report.
pub(super) fn render(analysis: &Analysis) -> String {
    let mut out = String::from("# bench\n\n");
    out.push_str(&format!("`{}`\n\n| | |\n|---|---|\n", analysis.environment.command.join(" ")));
    for (name, value) in &analysis.environment.facts {
        out.push_str(&format!("| {} | {} |\n", cell_text(name), cell_text(value)));
    }
    let (turns, marked) = analysis.turns;
    out.push_str(&format!(
        "| rounds | {} of {}, size {}, seed {} |\n| noise guard | {marked} of {turns} turns marked |\n",
        analysis.rounds,
        analysis.environment.rounds,
        analysis.environment.scale,
        analysis.environment.seed
    ));
    out.push_str("\n## Subjects\n\n| subject | version | how |\n|---|---|---|\n");
    for s in &analysis.subjects {
        let row = [&s.name, &s.version, &s.how].map(|t| cell_text(t)).join(" | ");
        out.push_str(&format!("| {row} |\n"));
    }
    for absent in &analysis.absent {
        let (name, why) = (cell_text(&absent.name), cell_text(&absent.why));
        out.push_str(&format!("| {name} | not measured | {why} |\n"));
    }
    for note in &analysis.notes {
        out.push_str(&format!("\nNote: {note}.\n"));
    }
    for suite in analysis.suites() {
        out.push_str(&format!("\n## {suite}\n\n"));
        out.push_str("| case | subject | median [95 %] | to peer [95 %] | to floor | CPU | CPU to peer | p50 / p99 / p99.9 |\n|---|---|---|---|---|---|---|---|\n");
        for case in analysis.cases.iter().filter(|c| c.suite == suite) {
            for cell in &case.cells {
                out.push_str(&row(case, cell));
            }
        }
    }
    if !analysis.costs.is_empty() {
        out.push_str("\n## Messages and system calls for one operation, exact\n\n| case | subject | messages | | system calls | |\n|---|---|---|---|---|---|\n");
        for costs in &analysis.costs {
            out.push_str(&counts(costs, &floor(analysis, costs)));
        }
        let first = &analysis.costs[0];
        out.push_str(&format!(
            "\nMessages: {}. System calls: {}.\n",
            first.messages_by, first.syscalls_by
        ));
    }
    out
}

fn row(case: &Case, cell: &Cell) -> String {
    let name = cell_text(&case.name);
    let Some(value) = &cell.value else {
        let why = cell.error.as_ref().map_or("no value", |e| &e.0);
        return format!("| {name} | {} | {} | | | | | |\n", cell.subject, cell_text(why));
    };
    let unit = case.unit;
    let interval = format!(
        "{} [{}, {}]",
        amount(value.median, unit),
        amount(value.low, unit),
        amount(value.high, unit)
    );
    let peer = cell
        .peer
        .as_ref()
        .map_or(String::new(), |(_, ratio)| format!("{} {}", digits(ratio.median), verdict(ratio)));
    let floor = cell.floor.as_ref().map_or(String::new(), |(_, r)| digits(r.median));
    let has_cpu = unit == Unit::Seconds && cell.cpu > 0.0;
    let cpu = if has_cpu { amount(cell.cpu, unit) } else { String::new() };
    let cpu_ratio = cell.peer_cpu.as_ref().map_or(String::new(), |r| digits(r.median));
    let late = cell
        .latency
        .as_ref()
        .map_or(String::new(), |l| [l.p50, l.p99, l.p999].map(|v| amount(v, unit)).join(" / "));
    let failed = match (&cell.error, &cell.remark) {
        (Some((why, times)), _) => format!(" ({times} rounds failed: {})", cell_text(why)),
        (None, Some(remark)) => format!(" ({})", cell_text(remark)),
        (None, None) => String::new(),
    };
    format!(
        "| {name} | {} | {interval}{failed} | {peer} | {floor} | {cpu} | {cpu_ratio} | {late} |\n",
        cell.subject
    )
}

fn counts(costs: &Costs, floor: &str) -> String {
    let each = |n: u64| n as f64 / costs.ops.max(1) as f64;
    let messages = each(costs.messages.values().sum());
    let syscalls = each(costs.syscalls.values().sum());
    format!(
        "| {} | {} | {messages:.2} | {}{floor} | {syscalls:.2} | {} |\n",
        cell_text(&costs.case),
        costs.subject,
        parts(&costs.messages, costs.ops),
        parts(&costs.syscalls, costs.ops)
    )
}

fn cell_text(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ")
}
