//! Plots as SVG, whose colours the page's style sheet gives.

use std::fmt::Write;

/// Width of every plot, in its own units.
pub(super) const WIDTH: f64 = 1040.0;

/// How a subject is drawn: the same everywhere on the page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Look {
    /// Number of the colour.
    pub(super) colour: usize,
    /// Hollow marks and dashed lines.
    pub(super) rootless: bool,
}

impl Look {
    /// Returns the class of its marks.
    pub(super) fn mark(self) -> String {
        format!("{}{}", if self.rootless { 'h' } else { 's' }, self.colour)
    }
}

/// A logarithmic axis from one pixel to another.
#[derive(Clone, Copy, Debug)]
pub(super) struct LogAxis {
    least: f64,
    most: f64,
    from: f64,
    to: f64,
}

impl LogAxis {
    /// Returns an axis that has all values, a little wider than they are.
    pub(super) fn around(values: impl Iterator<Item = f64> + Clone, from: f64, to: f64) -> LogAxis {
        let positive = values.filter(|v| v.is_finite() && *v > 0.0);
        let least = positive.clone().fold(f64::INFINITY, f64::min).min(1e12);
        let most = positive.fold(0.0, f64::max).max(least);
        LogAxis { least: least / 1.15, most: most * 1.15, from, to }
    }

    /// Returns where a value is.
    pub(super) fn at(&self, value: f64) -> f64 {
        let share = (value / self.least).ln() / (self.most / self.least).ln();
        self.from + share.clamp(0.0, 1.0) * (self.to - self.from)
    }

    /// Returns 1, 2, 5 of each decade, or fewer where that would be too many.
    pub(super) fn ticks(&self) -> Vec<f64> {
        let decades = (self.most / self.least).log10();
        let steps: &[f64] = match decades {
            d if d > 4.0 => &[1.0],
            d if d > 2.5 => &[1.0, 3.0],
            d if d > 0.7 => &[1.0, 2.0, 5.0],
            _ => &[1.0, 1.2, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0],
        };
        let first = self.least.log10().floor() as i32;
        let last = self.most.log10().ceil() as i32;
        let all = (first..=last).flat_map(|e| steps.iter().map(move |s| s * 10f64.powi(e)));
        all.filter(|t| (self.least..=self.most).contains(t)).collect()
    }
}

/// One lane of a dot plot.
#[derive(Clone, Debug)]
pub(super) struct Lane {
    /// Subject.
    pub(super) label: String,
    /// How it is drawn.
    pub(super) look: Look,
    /// Middle, lower and upper end; absent where there is only text.
    pub(super) value: Option<[f64; 3]>,
    /// What stands at the right.
    pub(super) text: String,
}

/// Lanes that belong together.
#[derive(Clone, Debug)]
pub(super) struct Group {
    /// What they are about.
    pub(super) title: String,
    /// One for each subject.
    pub(super) lanes: Vec<Lane>,
}

const LEFT: f64 = 205.0;
const RIGHT: f64 = 250.0;
const LANE: f64 = 16.0;
const TITLE: f64 = 26.0;

/// Draws values with their intervals on one logarithmic axis; `caption` says what the axis is.
pub(super) fn dots(groups: &[Group], caption: &str, tick: fn(f64) -> String, one: bool) -> String {
    let values = groups.iter().flat_map(|g| g.lanes.iter()).filter_map(|l| l.value);
    let medians = values.map(|v| v[0]).chain(one.then_some(1.0));
    let axis = LogAxis::around(medians, LEFT, WIDTH - RIGHT);
    let lanes: usize = groups.iter().map(|g| g.lanes.len()).sum();
    let bottom = 36.0 + groups.len() as f64 * TITLE + lanes as f64 * LANE;
    let mut out = open(bottom + 40.0, caption);
    for t in axis.ticks() {
        let x = axis.at(t);
        line(&mut out, "grid", [x, 30.0, x, bottom]);
        text(&mut out, "soft", "middle", x, 22.0, &tick(t));
        text(&mut out, "soft", "middle", x, bottom + 16.0, &tick(t));
    }
    if one {
        line(&mut out, "one", [axis.at(1.0), 30.0, axis.at(1.0), bottom]);
    }
    let mut y = 36.0;
    for group in groups {
        text(&mut out, "case", "start", 0.0, y + 15.0, &group.title);
        y += TITLE;
        for lane in &group.lanes {
            draw_lane(&mut out, lane, &axis, y);
            y += LANE;
        }
    }
    let middle = (LEFT + WIDTH - RIGHT) / 2.0;
    text(&mut out, "soft", "middle", middle, bottom + 34.0, caption);
    out.push_str("</svg>\n");
    out
}

fn draw_lane(out: &mut String, lane: &Lane, axis: &LogAxis, y: f64) {
    let middle = y + LANE / 2.0;
    text(out, "", "end", LEFT - 12.0, middle + 4.0, &lane.label);
    if let Some([median, low, high]) = lane.value {
        let mark = lane.look.mark();
        let class = format!("whisker s{}", lane.look.colour);
        line(out, &class, [axis.at(low), middle, axis.at(high), middle]);
        add(
            out,
            format_args!(
                "<circle class=\"{mark}\" cx=\"{:.1}\" cy=\"{middle:.1}\" r=\"4\"><title>{}: {}</title></circle>",
                axis.at(median),
                escaped(&lane.label),
                escaped(&lane.text)
            ),
        );
    }
    text(out, "soft", "start", WIDTH - RIGHT + 12.0, middle + 4.0, &lane.text);
}

/// One line of a plot of curves.
#[derive(Clone, Debug)]
pub(super) struct Curve {
    /// Subject.
    pub(super) label: String,
    /// How it is drawn.
    pub(super) look: Look,
    /// x, y, and the interval of y.
    pub(super) points: Vec<(f64, [f64; 3])>,
}

/// Draws curves on two logarithmic axes.
pub(super) fn curves(
    all: &[Curve],
    (x_caption, x_tick): (&str, fn(f64) -> String),
    (y_caption, y_tick): (&str, fn(f64) -> String),
) -> String {
    let (height, left, right) = (400.0, 80.0, 210.0);
    let points = || all.iter().flat_map(|c| c.points.iter());
    let x = LogAxis::around(points().map(|p| p.0), left, WIDTH - right);
    let y = LogAxis::around(points().map(|p| p.1[0]), height - 56.0, 30.0);
    let mut out = open(height, &format!("{y_caption} against {x_caption}"));
    let mut xs: Vec<f64> = points().map(|p| p.0).collect();
    xs.sort_by(f64::total_cmp);
    xs.dedup();
    let mut last = f64::NEG_INFINITY;
    for value in xs {
        line(&mut out, "grid", [x.at(value), 30.0, x.at(value), height - 56.0]);
        if x.at(value) - last > 48.0 {
            last = x.at(value);
            text(&mut out, "soft", "middle", last, height - 38.0, &x_tick(value));
        }
    }
    for value in y.ticks() {
        line(&mut out, "grid", [left, y.at(value), WIDTH - right, y.at(value)]);
        text(&mut out, "soft", "end", left - 8.0, y.at(value) + 4.0, &y_tick(value));
    }
    text(&mut out, "soft", "start", 0.0, 16.0, y_caption);
    text(&mut out, "soft", "middle", (left + WIDTH - right) / 2.0, height - 14.0, x_caption);
    for (n, curve) in all.iter().enumerate() {
        // Beside each other, so that no mark hides another.
        let aside = (n as f64 - (all.len() as f64 - 1.0) / 2.0) * 2.2;
        draw_curve(&mut out, curve, aside, &x, &y);
    }
    labels(&mut out, all, &y, WIDTH - right);
    out.push_str("</svg>\n");
    out
}

fn draw_curve(out: &mut String, curve: &Curve, aside: f64, x: &LogAxis, y: &LogAxis) {
    let path: Vec<_> = curve
        .points
        .iter()
        .map(|(at, [median, ..])| format!("{:.1},{:.1}", x.at(*at) + aside, y.at(*median)))
        .collect();
    let dashed = if curve.look.rootless { " rootless" } else { "" };
    // The class of the colour fills; the style keeps lines empty.
    add(
        out,
        format_args!(
            "<polyline class=\"s{} curve{dashed}\" style=\"fill:none\" points=\"{}\"/>",
            curve.look.colour,
            path.join(" ")
        ),
    );
    for (at, [median, low, high]) in &curve.points {
        let class = format!("whisker s{}", curve.look.colour);
        let at = x.at(*at) + aside;
        line(out, &class, [at, y.at(*low), at, y.at(*high)]);
        add(
            out,
            format_args!(
                "<circle class=\"{}\" cx=\"{:.1}\" cy=\"{:.1}\" r=\"3.5\"><title>{}</title></circle>",
                curve.look.mark(),
                at,
                y.at(*median),
                escaped(&curve.label)
            ),
        );
    }
}

/// Writes the names of curves at their ends, apart from each other.
fn labels(out: &mut String, all: &[Curve], y: &LogAxis, edge: f64) {
    let mut ends: Vec<_> =
        all.iter().filter_map(|c| c.points.last().map(|p| (y.at(p.1[0]), c))).collect();
    ends.sort_by(|a, b| a.0.total_cmp(&b.0));
    let step = 15.0;
    let mut places: Vec<f64> = ends.iter().map(|e| e.0).collect();
    for i in 1..places.len() {
        places[i] = places[i].max(places[i - 1] + step);
    }
    // What was pushed out at the bottom goes up again.
    let floor = y.from.max(y.to) + 8.0;
    let mut limit = floor;
    for place in places.iter_mut().rev() {
        *place = place.min(limit);
        limit = *place - step;
    }
    for ((end, curve), place) in ends.iter().zip(&places) {
        add(
            out,
            format_args!(
                "<path class=\"leader\" d=\"M{:.1} {end:.1}L{:.1} {place:.1}\"/><circle class=\"{}\" cx=\"{:.1}\" cy=\"{place:.1}\" r=\"4\"/>",
                edge,
                edge + 16.0,
                curve.look.mark(),
                edge + 22.0
            ),
        );
        text(out, "", "start", edge + 32.0, place + 4.0, &curve.label);
    }
}

/// Begins a plot.
pub(super) fn open(height: f64, title: &str) -> String {
    format!(
        "<svg viewBox=\"0 0 {WIDTH} {height:.0}\" role=\"img\" aria-label=\"{}\">",
        escaped(title)
    )
}

/// Draws a line from one point to another.
pub(super) fn line(out: &mut String, class: &str, [x1, y1, x2, y2]: [f64; 4]) {
    add(
        out,
        format_args!(
            "<line class=\"{class}\" x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\"/>"
        ),
    );
}

/// Writes text.
pub(super) fn text(out: &mut String, class: &str, anchor: &str, x: f64, y: f64, what: &str) {
    add(
        out,
        format_args!(
            "<text class=\"{class}\" text-anchor=\"{anchor}\" x=\"{x:.1}\" y=\"{y:.1}\">{}</text>",
            escaped(what)
        ),
    );
}

/// Adds anything.
pub(super) fn add(out: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing to a string can't fail.
    out.write_fmt(text).unwrap_or_default();
}

/// Returns text as HTML and SVG want it.
pub(super) fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// Returns a ratio for a tick.
pub(super) fn ratio_tick(value: f64) -> String {
    // Ticks have one or two digits that aren't 0.
    format!("{} ×", (value * 1e6).round() / 1e6)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_axis_has_equal_steps_for_equal_ratios() {
        let axis = LogAxis { least: 1.0, most: 100.0, from: 0.0, to: 200.0 };
        assert_eq!([1.0, 10.0, 100.0].map(|v| axis.at(v).round()), [0.0, 100.0, 200.0]);
        assert_eq!(axis.ticks(), [1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0]);
        assert_eq!([0.5, 1.0, 20.0].map(ratio_tick), ["0.5 ×", "1 ×", "20 ×"]);
    }

    #[test]
    fn names_cannot_break_the_page() {
        let lane = Lane {
            label: "<script>".into(),
            look: Look { colour: 0, rootless: false },
            value: Some([1.0, 0.9, 1.1]),
            text: "\"&\"".into(),
        };
        let plot =
            dots(&[Group { title: "a<b".into(), lanes: vec![lane] }], "ratio", ratio_tick, true);
        assert!(!plot.contains("<script>") && plot.contains("&lt;script&gt;"), "{plot}");
        assert!(plot.contains("a&lt;b") && plot.contains("&quot;&amp;&quot;"), "{plot}");
    }
}
