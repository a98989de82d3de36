//! JSON in the form of hyperfine's `--export-json`, for the tools that read that.

use serde_json::{Value, json};

use super::analysis::{Analysis, Cell};
use crate::record::Unit;

/// Returns the document; times are seconds for one operation.
pub(super) fn render(analysis: &Analysis) -> String {
    let timed = analysis.cases.iter().filter(|c| c.unit == Unit::Seconds);
    let results = timed.flat_map(|case| {
        let cells = case.cells.iter().filter(|cell| !cell.values.is_empty());
        cells.map(|cell| result(&format!("{}/{}", case.suite, case.name), cell))
    });
    format!("{:#}\n", json!({ "results": results.collect::<Vec<_>>() }))
}

fn result(case: &str, cell: &Cell) -> Value {
    let n = cell.values.len() as f64;
    let mean = cell.values.iter().sum::<f64>() / n;
    let squares = cell.values.iter().map(|v| (v - mean).powi(2)).sum::<f64>();
    let deviation = if n > 1.0 { Some((squares / (n - 1.0)).sqrt()) } else { None };
    let least = cell.values.iter().copied().fold(f64::INFINITY, f64::min);
    let most = cell.values.iter().copied().fold(0.0, f64::max);
    json!({
        "command": format!("{case} [{}]", cell.subject),
        "mean": mean,
        "stddev": deviation,
        "median": cell.value.map(|v| v.median),
        // Of the caller and the daemon; user and system time aren't told apart.
        "user": cell.cpu,
        "system": 0.0,
        "min": least,
        "max": most,
        "times": cell.values,
        "exit_codes": vec![0; cell.values.len()],
        "parameters": { "case": case, "subject": cell.subject },
    })
}
