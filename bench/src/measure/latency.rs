//! Latencies of single operations.

use std::io;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use crate::record::Latency;

/// The slowest operation that can be told from slower ones.
const LONGEST: u64 = 600_000_000_000;

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
}
