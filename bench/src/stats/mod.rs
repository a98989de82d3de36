//! Medians, their intervals, and ratios taken within rounds.

use fastrand::Rng;

/// Resamples of the bootstrap.
const RESAMPLES: usize = 2_000;

/// A median with its 95 % interval.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Estimate {
    /// Middle of the values.
    pub(crate) median: f64,
    /// Lower end.
    pub(crate) low: f64,
    /// Upper end.
    pub(crate) high: f64,
    /// Values that it is made of.
    pub(crate) n: usize,
}

impl Estimate {
    /// Whether `value` is inside of the interval.
    pub(crate) fn holds(&self, value: f64) -> bool {
        self.low <= value && value <= self.high
    }
}

/// Returns the middle value; between two, their mean.
pub(crate) fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    middle(&sorted)
}

fn middle(sorted: &[f64]) -> Option<f64> {
    let half = sorted.len() / 2;
    match sorted.len() % 2 {
        _ if sorted.is_empty() => None,
        1 => Some(sorted[half]),
        _ => Some((sorted[half - 1] + sorted[half]) / 2.0),
    }
}

/// Estimates the median of what `values` are a sample of.
///
/// The interval is the percentile bootstrap's; where that is narrower than the interval between order
/// statistics that holds for every distribution (as it is for few values), it is the latter. With
/// fewer than six values no interval has 95 %: it is then from the smallest to the largest.
pub(crate) fn estimate(values: &[f64]) -> Option<Estimate> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let median = middle(&sorted)?;
    let n = sorted.len();
    let outermost = order(n);
    let (mut low, mut high) = (sorted[outermost], sorted[n - 1 - outermost]);
    if n >= 6 {
        let (l, h) = bootstrap(&sorted);
        (low, high) = (low.min(l), high.max(h));
    }
    Some(Estimate { median, low, high, n })
}

/// Returns how many values may be left out at each end so that what lies between holds the median
/// with 95 %: the sign test's.
fn order(n: usize) -> usize {
    // Chance that at most k of n values are below the median.
    let mut term = 0.5f64.powi(n as i32);
    let mut below = term;
    let mut k = 0;
    while below <= 0.025 && k + 1 < n / 2 {
        k += 1;
        term *= (n - k + 1) as f64 / k as f64;
        below += term;
    }
    // The first k for which the chance is too large may not be left out.
    if below <= 0.025 { k } else { k.saturating_sub(1) }
}

fn bootstrap(sorted: &[f64]) -> (f64, f64) {
    // The same values shall give the same interval, whoever computes it.
    let mut rng = Rng::with_seed(sorted.len() as u64);
    let mut sample = vec![0.0; sorted.len()];
    let mut medians = Vec::with_capacity(RESAMPLES);
    for _ in 0..RESAMPLES {
        sample.fill_with(|| sorted[rng.usize(..sorted.len())]);
        sample.sort_by(f64::total_cmp);
        medians.extend(middle(&sample));
    }
    medians.sort_by(f64::total_cmp);
    let at = |share: f64| medians[((RESAMPLES - 1) as f64 * share).round() as usize];
    (at(0.025), at(0.975))
}

/// Estimates how many times larger `ours` is than `theirs`, by pairs of the same round.
pub(crate) fn ratio(pairs: &[(f64, f64)]) -> Option<Estimate> {
    let ratios: Vec<_> =
        pairs.iter().filter(|(_, theirs)| *theirs > 0.0).map(|(a, b)| a / b).collect();
    estimate(&ratios)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), Some(2.5));
        assert_eq!(median(&[]), None);
    }

    #[test]
    fn order_statistics_are_those_of_the_tables() {
        // Conover, Practical Nonparametric Statistics, table A3: ranks from 1.
        let ranks = [(6, 1), (8, 1), (9, 2), (10, 2), (12, 3), (15, 4), (20, 6), (25, 8), (30, 10)];
        for (n, rank) in ranks {
            assert_eq!(order(n) + 1, rank, "of {n} values");
        }
        assert_eq!(order(3), 0);
    }

    /// A draw of a distribution whose median is 1.
    type Draw = fn(&mut Rng) -> f64;

    #[test]
    fn known_distributions_give_the_right_intervals() {
        let normal = |r: &mut Rng| {
            let (a, b) = (1.0 - r.f64(), r.f64());
            (-2.0 * a.ln()).sqrt() * (std::f64::consts::TAU * b).cos()
        };
        let draws: [(&str, Draw); 4] = [
            ("uniform", |r| r.f64() * 2.0),
            ("exponential", |r| -(1.0 - r.f64()).ln() / std::f64::consts::LN_2),
            ("two humps", |r| if r.bool() { 0.5 + r.f64() / 2.0 } else { 1.0 + 5.0 * r.f64() }),
            ("long tail", |r| (1.0 - r.f64()).powi(-2) / 4.0),
        ];
        let mut rng = Rng::with_seed(1);
        for n in [10, 20] {
            for (name, draw) in draws {
                let covered = (0..250).filter(|_| {
                    let values: Vec<_> = (0..n).map(|_| draw(&mut rng)).collect();
                    estimate(&values).expect("an estimate").holds(1.0)
                });
                let covered = covered.count();
                assert!((231..=250).contains(&covered), "{name}, {n} values: {covered} of 250");
            }
        }
        let values: Vec<_> = (0..100).map(|_| 5.0 + normal(&mut rng)).collect();
        let found = estimate(&values).expect("an estimate");
        // The standard error of a normal median is 1.2533/sqrt(n): the interval is about 0.49 wide.
        let width = found.high - found.low;
        assert!((0.25..0.8).contains(&width), "{found:?}");
    }

    #[test]
    fn ratios_are_taken_within_a_round() {
        let pairs: Vec<_> = (1..=10).map(|n| (2.0 * f64::from(n), f64::from(n))).collect();
        let found = ratio(&pairs).expect("a ratio");
        assert_eq!((found.median, found.low, found.high, found.n), (2.0, 2.0, 2.0, 10));
        assert_eq!(ratio(&[(1.0, 0.0)]), None);
    }

    #[test]
    fn few_values_span_all_of_them() {
        let found = estimate(&[3.0, 1.0, 2.0]).expect("an estimate");
        assert_eq!((found.low, found.median, found.high), (1.0, 2.0, 3.0));
    }
}
