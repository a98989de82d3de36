//! Two runs side by side.

use super::analysis::{Analysis, Case, Cell};
use super::text::{amount, digits};
use crate::stats::Estimate;

/// How one case on one subject has changed.
#[derive(Clone, Debug)]
pub(crate) struct Change {
    /// Suite, case, subject.
    pub(crate) name: String,
    /// Before and after, as text.
    pub(crate) values: (String, String),
    /// How many times as long it takes, with the interval of that.
    pub(crate) ratio: Estimate,
}

impl Change {
    /// Whether it takes longer by more than `percent`, and surely so.
    pub(crate) fn slower(&self, percent: f64) -> bool {
        self.ratio.n >= 6 && self.ratio.low > 1.0 && self.ratio.median > 1.0 + percent / 100.0
    }

    /// Whether nothing can be said to have changed.
    pub(crate) fn same(&self) -> bool {
        self.ratio.n < 6 || self.ratio.holds(1.0)
    }
}

/// Returns the changes of all cases and subjects that both runs have. Where both were measured
/// against the same peer, it is the change of the ratio to it, which machines and days change less.
pub(crate) fn changes(a: &Analysis, b: &Analysis) -> Vec<Change> {
    let mut all = Vec::new();
    for case in &b.cases {
        for cell in &case.cells {
            let Some(before) = a.cell(&case.suite, &case.name, &cell.subject) else { continue };
            all.extend(change(case, before, cell));
        }
    }
    all
}

fn change(case: &Case, before: &Cell, after: &Cell) -> Option<Change> {
    let name = format!("{}/{} [{}]", case.suite, case.name, after.subject);
    let (ratio, values) = match (&before.peer, &after.peer) {
        (Some((p, old)), Some((q, new))) if p == q => {
            let text = |r: &Estimate| format!("{} × {p}", digits(r.median));
            (divide(new, old), (text(old), text(new)))
        }
        _ => {
            let (old, new) = (before.value.as_ref()?, after.value.as_ref()?);
            let text = |r: &Estimate| amount(r.median, case.unit);
            (divide(new, old), (text(old), text(new)))
        }
    };
    Some(Change { name, values, ratio })
}

/// Divides two estimates. Their errors are independent, so those of the logarithms add up as squares.
fn divide(new: &Estimate, old: &Estimate) -> Estimate {
    let median = new.median / old.median;
    let part = |a: f64, b: f64| (a / b).ln().abs();
    let down = part(new.median, new.low).hypot(part(old.high, old.median));
    let up = part(new.high, new.median).hypot(part(old.median, old.low));
    Estimate { median, low: median * (-down).exp(), high: median * up.exp(), n: new.n.min(old.n) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn estimate(median: f64, spread: f64) -> Estimate {
        Estimate { median, low: median / spread, high: median * spread, n: 10 }
    }

    fn of(ratio: Estimate) -> Change {
        Change { name: String::new(), values: (String::new(), String::new()), ratio }
    }

    #[test]
    fn errors_of_both_runs_count() {
        let change = of(divide(&estimate(2.0, 1.1), &estimate(1.0, 1.1)));
        assert!((change.ratio.median - 2.0).abs() < 1e-9);
        // Two errors of 10 % are one of 14 %.
        assert!((change.ratio.low - 2.0 / 1.1443).abs() < 0.01, "{change:?}");
        assert!(change.slower(50.0) && !change.slower(150.0) && !change.same());
        let change = of(divide(&estimate(1.05, 1.1), &estimate(1.0, 1.1)));
        assert!(change.same() && !change.slower(1.0));
    }
}
