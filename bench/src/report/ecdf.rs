//! Distributions of the times of single operations.

use std::collections::BTreeMap;

use super::svg::{LogAxis, Look, WIDTH, add, line, open, text};
use crate::measure::latency::STEPS;

/// How the times of one subject are spread.
#[derive(Clone, Debug)]
pub(super) struct Spread {
    /// Subject.
    pub(super) label: String,
    /// How it is drawn.
    pub(super) look: Look,
    /// How many operations took about 2^(n/8) ns, by n.
    pub(super) steps: BTreeMap<u16, u64>,
}

impl Spread {
    fn count(&self) -> u64 {
        self.steps.values().sum()
    }

    /// Returns times in seconds, each with the share of operations that took at most as long.
    fn shares(&self) -> Vec<(f64, f64)> {
        let total = self.count().max(1) as f64;
        let mut below = 0;
        let mut all = Vec::new();
        for (step, count) in &self.steps {
            below += count;
            all.push((seconds(*step), below as f64 / total));
        }
        all
    }

    /// Returns the time that this share of operations doesn't exceed.
    fn at(&self, share: f64) -> f64 {
        let shares = self.shares();
        let found = shares.iter().find(|(_, s)| *s >= share).or(shares.last());
        found.map_or(0.0, |(time, _)| *time)
    }
}

fn seconds(step: u16) -> f64 {
    (f64::from(step) / STEPS).exp2() * 1e-9
}

/// Shares that are drawn and named.
const NAMED: [(f64, &str); 6] = [
    (0.0, "0"),
    (0.5, "50 %"),
    (0.9, "90 %"),
    (0.99, "99 %"),
    (0.999, "99.9 %"),
    (0.9999, "99.99 %"),
];

const LEFT: f64 = 80.0;
const RIGHT: f64 = 340.0;
const TOP: f64 = 30.0;
const LANE: f64 = 17.0;

/// Draws the share of operations that took at most as long against the time, which is on a logarithmic
/// axis; the axis of shares goes by nines. At the right stand the subjects, the fastest first.
pub(super) fn plot(mut all: Vec<Spread>, tick: fn(f64) -> String) -> String {
    all.sort_by(|a, b| a.at(0.5).total_cmp(&b.at(0.5)));
    let height = (TOP + all.len() as f64 * LANE + 90.0).max(300.0);
    let bottom = height - 56.0;
    let times = || all.iter().flat_map(|s| s.steps.keys().map(|step| seconds(*step)));
    let x = LogAxis::around(times(), LEFT, WIDTH - RIGHT);
    let most = all.iter().map(Spread::count).max().unwrap_or(1).max(10);
    let highest = (most as f64).log10();
    // One of all operations is the highest share that can be told from all.
    let y = |share: f64| {
        let nines = -(1.0 - share).max(1.0 / (10.0 * most as f64)).log10();
        bottom - (nines / highest).min(1.0) * (bottom - TOP)
    };
    let mut out = open(height, "share of operations against their time");
    let mut last = f64::NEG_INFINITY;
    for value in x.ticks() {
        line(&mut out, "grid", [x.at(value), TOP, x.at(value), bottom]);
        if x.at(value) - last > 52.0 {
            last = x.at(value);
            text(&mut out, "soft", "middle", last, bottom + 18.0, &tick(value));
        }
    }
    for (share, name) in NAMED.iter().filter(|(share, _)| 1.0 - share >= 1.0 / most as f64) {
        line(&mut out, "grid", [LEFT, y(*share), WIDTH - RIGHT, y(*share)]);
        text(&mut out, "soft", "end", LEFT - 8.0, y(*share) + 4.0, name);
    }
    text(&mut out, "soft", "start", 0.0, 16.0, "share of operations (axis by nines)");
    let middle = (LEFT + WIDTH - RIGHT) / 2.0;
    text(&mut out, "soft", "middle", middle, bottom + 38.0, "took at most so long (log axis)");
    for spread in &all {
        draw(&mut out, spread, &x, y);
    }
    legend(&mut out, &all, tick);
    out.push_str("</svg>\n");
    out
}

fn draw(out: &mut String, spread: &Spread, x: &LogAxis, y: impl Fn(f64) -> f64) {
    let mut path = String::new();
    let mut before = y(0.0);
    for (time, share) in spread.shares() {
        let (at, to) = (x.at(time), y(share));
        path.push_str(&format!("{at:.1},{before:.1} {at:.1},{to:.1} "));
        before = to;
    }
    let dashed = if spread.look.rootless { " rootless" } else { "" };
    add(
        out,
        format_args!(
            "<polyline class=\"s{} curve{dashed}\" style=\"fill:none\" points=\"{}\"/>",
            spread.look.colour,
            path.trim_end()
        ),
    );
}

fn legend(out: &mut String, all: &[Spread], tick: fn(f64) -> String) {
    let (edge, columns) = (WIDTH - RIGHT + 20.0, [230.0, 310.0]);
    for (at, name) in columns.iter().zip(["p50", "p99"]) {
        text(out, "soft", "end", edge + at, 16.0, name);
    }
    for (n, spread) in all.iter().enumerate() {
        let at = TOP + 8.0 + n as f64 * LANE;
        let mark = spread.look.mark();
        add(
            out,
            format_args!(
                "<circle class=\"{mark}\" cx=\"{:.1}\" cy=\"{:.1}\" r=\"4\"/>",
                edge,
                at - 4.0
            ),
        );
        text(out, "", "start", edge + 10.0, at, &spread.label);
        for (column, share) in columns.iter().zip([0.5, 0.99]) {
            text(out, "soft", "end", edge + column, at, &tick(spread.at(share)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_those_of_what_was_recorded() {
        let steps = BTreeMap::from([(80, 900), (88, 99), (160, 1)]);
        let look = Look { colour: 0, rootless: false };
        let spread = Spread { label: "a<b".into(), look, steps };
        assert_eq!(spread.shares()[1], (2048e-9, 0.999));
        assert_eq!([0.5, 0.99, 1.0].map(|s| spread.at(s)), [1024e-9, 2048e-9, 1048576e-9]);
        let plot = plot(vec![spread], |s| format!("{:.0} ns", s * 1e9));
        assert!(plot.contains("99.9 %") && plot.contains("a&lt;b") && plot.contains("2048 ns"));
        assert!(!plot.contains("99.99 %") && !plot.contains("NaN"), "{plot}");
    }
}
