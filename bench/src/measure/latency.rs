//! Latencies of single operations.

use std::collections::BTreeMap;
use std::io;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use crate::record::Latency;

/// The slowest operation that can be told from slower ones.
const LONGEST: u64 = 600_000_000_000;

/// Steps of a spread for a doubling of the time: each is 9 %.
pub(crate) const STEPS: f64 = 8.0;
/// Of fewer operations a spread says little.
const MANY: u64 = 50;

/// Times single operations.
#[derive(Clone, Debug)]
pub(crate) struct Timer {
    histogram: Histogram<u64>,
    total: Duration,
}

impl Timer {
    /// Returns a timer that has seen nothing, with three significant digits.
    pub(crate) fn new() -> io::Result<Timer> {
        let histogram = Histogram::new_with_bounds(1, LONGEST, 3).map_err(io::Error::other)?;
        Ok(Timer { histogram, total: Duration::ZERO })
    }

    /// Times one operation.
    pub(crate) fn op<T>(&mut self, work: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        let start = Instant::now();
        let done = work()?;
        self.record(start.elapsed());
        Ok(done)
    }

    /// Records an operation that somebody else has timed.
    pub(crate) fn record(&mut self, took: Duration) {
        self.total += took;
        self.histogram.saturating_record(took.as_nanos().try_into().unwrap_or(LONGEST));
    }

    /// Adds what another timer saw, at the same time or another.
    pub(crate) fn add(&mut self, other: &Timer) -> io::Result<()> {
        self.total += other.total;
        self.histogram.add(&other.histogram).map_err(io::Error::other)
    }

    /// Returns how many operations were timed.
    pub(crate) fn count(&self) -> u64 {
        self.histogram.len()
    }

    /// Returns the time of all operations together.
    pub(crate) fn total(&self) -> Duration {
        self.total
    }

    /// Returns how many operations took about 2^(n/8) ns, with n; nothing where there were few.
    pub(crate) fn spread(&self) -> Vec<(u16, u64)> {
        if self.count() < MANY {
            return Vec::new();
        }
        let mut steps = BTreeMap::new();
        for value in self.histogram.iter_recorded() {
            let step = (value.value_iterated_to().max(1) as f64).log2() * STEPS;
            *steps.entry(step.round() as u16).or_default() += value.count_at_value();
        }
        steps.into_iter().collect()
    }

    /// Returns the percentiles, if anything was timed.
    pub(crate) fn latency(&self) -> Option<Latency> {
        if self.count() == 0 {
            return None;
        }
        let at = |share: f64| self.histogram.value_at_quantile(share) as f64 / 1e9;
        let max = self.histogram.max() as f64 / 1e9;
        Some(Latency { p50: at(0.5), p90: at(0.9), p99: at(0.99), p999: at(0.999), max })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_those_of_what_was_recorded() {
        let mut timer = Timer::new().expect("a timer");
        for n in 1..=1000u64 {
            timer.histogram.saturating_record(n * 1000);
        }
        let found = timer.latency().expect("percentiles");
        for (value, micros) in [(found.p50, 500.0), (found.p90, 900.0), (found.p999, 999.0)] {
            assert!((value * 1e6 - micros).abs() / micros < 0.002, "{found:?}");
        }
    }

    #[test]
    fn a_spread_has_every_operation_at_its_time() {
        let mut timer = Timer::new().expect("a timer");
        for nanos in [1024u64, 1024, 4096].repeat(20) {
            timer.record(Duration::from_nanos(nanos));
        }
        assert_eq!(timer.spread(), [(80, 40), (96, 20)]);
        let mut few = Timer::new().expect("a timer");
        few.record(Duration::from_nanos(1024));
        assert_eq!(few.spread(), []);
    }
}
