//! The noise guard: marks turns during which the machine had something else to do.

use std::time::{Duration, Instant};

/// An idle loop that takes longer than this, by the fastest one, tells of a busy machine.
const SLOW: f64 = 1.25;
/// Share of time that the hypervisor may take.
const STEAL: f64 = 0.02;
/// How long one loop takes on a machine that has nothing else to do.
const LOOP: Duration = Duration::from_millis(2);

/// Watches over turns.
#[derive(Debug)]
pub(crate) struct NoiseGuard {
    spins: u64,
    fastest: Duration,
    before: Sample,
}

/// What was seen at one moment.
#[derive(Clone, Copy, Debug, Default)]
struct Sample {
    idle: Duration,
    steal: u64,
    total: u64,
}

/// What the guard thinks of a turn.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Verdict {
    /// Time of the slower idle loop, by the fastest that was ever seen.
    pub(crate) idle: f64,
    /// Share of time that the hypervisor took.
    pub(crate) steal: f64,
    /// Whether it is too much.
    pub(crate) noisy: bool,
}

impl NoiseGuard {
    /// Finds out how fast the idle loop can be.
    pub(crate) fn new() -> NoiseGuard {
        let start = Instant::now();
        spin(1_000_000);
        let each = start.elapsed().as_nanos().max(1) / 1_000_000;
        let spins = (LOOP.as_nanos() / each.max(1)) as u64;
        let fastest = (0..20).map(|_| timed(spins)).min().unwrap_or(LOOP);
        NoiseGuard { spins, fastest, before: Sample::default() }
    }

    /// Looks before a turn.
    pub(crate) fn before(&mut self) {
        self.before = self.sample();
    }

    /// Looks after it.
    pub(crate) fn after(&mut self) -> Verdict {
        let after = self.sample();
        let slower = after.idle.max(self.before.idle);
        let idle = slower.as_secs_f64() / self.fastest.as_secs_f64();
        let total = after.total.saturating_sub(self.before.total).max(1);
        let steal = after.steal.saturating_sub(self.before.steal) as f64 / total as f64;
        Verdict { idle, steal, noisy: idle > SLOW || steal > STEAL }
    }

    fn sample(&mut self) -> Sample {
        // The faster of two: one alone may have met a timer's tick.
        let idle = timed(self.spins).min(timed(self.spins));
        self.fastest = self.fastest.min(idle);
        let (steal, total) = times();
        Sample { idle, steal, total }
    }
}

fn timed(spins: u64) -> Duration {
    let start = Instant::now();
    spin(spins);
    start.elapsed()
}

/// Does nothing that memory or the kernel could slow down.
fn spin(times: u64) {
    let mut x = 1u64;
    for _ in 0..times {
        x = std::hint::black_box(x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1));
    }
}

/// Returns stolen and all ticks of /proc/stat (proc_stat(5)).
fn times() -> (u64, u64) {
    let text = std::fs::read_to_string("/proc/stat").unwrap_or_default();
    let line = text.lines().next().unwrap_or_default();
    let ticks: Vec<u64> = line.split_whitespace().filter_map(|n| n.parse().ok()).collect();
    (ticks.get(7).copied().unwrap_or(0), ticks.iter().take(8).sum())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_loop_marks_the_turn() {
        let mut guard = NoiseGuard::new();
        guard.before();
        guard.before.idle = guard.fastest * 2;
        let verdict = guard.after();
        assert!(verdict.noisy && verdict.idle > 1.9, "{verdict:?}");
    }
}
