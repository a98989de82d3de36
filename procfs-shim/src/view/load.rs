//! Load averages: a sample every five seconds, at a cost that has a bound.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::container::{Container, Groups};
use crate::host::Moment;
use crate::host::process::{Pid, Processes};

/// Time between two samples, as the kernel has it.
pub const PERIOD: Duration = Duration::from_secs(5);

/// How many threads' states one sample of a container asks for at most; of more, it asks every
/// n-th, others each time, and scales.
const MOST_ASKED: usize = 512;

/// exp(-5 s / 1, 5, 15 min).
const DECAY: [f64; 3] = [0.920_044_414_629_323, 0.983_471_453_821_617, 0.994_459_848_004_897];

/// Load averages of a container and the counts of its last sample.
#[derive(Clone, Copy, Debug, Default)]
pub struct Load {
    averages: [f64; 3],
    counts: Counts,
    sampled: Option<Moment>,
    rounds: usize,
}

/// What of it outlives a worker.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct LoadNote {
    /// The averages.
    pub averages: [f64; 3],
    /// The greatest process number so far.
    pub processes: u64,
    /// When the last sample was taken, by the monotonic clock.
    pub sampled: u64,
}

/// The threads of a container at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Running or ready to run.
    pub running: u64,
    /// Waiting uninterruptibly.
    pub blocked: u64,
    /// All.
    pub threads: u64,
    /// The newest process's number in the container's own pid namespace.
    pub last_pid: u32,
    /// The greatest number given so far: as many processes were made at least.
    pub processes: u64,
}

/// What is shown of a container's load.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct LoadView {
    /// Averages over 1, 5 and 15 minutes.
    pub averages: [f64; 3],
    /// Counts.
    pub counts: Counts,
}

impl Load {
    /// Takes a sample.
    pub fn take(&mut self, counts: Counts, at: Moment) {
        // A sample stands for the time since the one before, be it more or less than a period.
        let periods = self.sampled.map_or(1.0, |before| {
            let passed = Duration::from_nanos(at.0.saturating_sub(before.0));
            passed.as_secs_f64() / PERIOD.as_secs_f64()
        });
        let active = (counts.running + counts.blocked) as f64;
        for (average, decay) in self.averages.iter_mut().zip(DECAY) {
            let kept = decay.powf(periods);
            *average = *average * kept + active * (1.0 - kept);
        }
        let processes = self.counts.processes.max(counts.processes);
        self.counts = Counts { processes, ..counts };
        self.sampled = Some(at);
        self.rounds = self.rounds.wrapping_add(1);
    }

    /// Returns what to show.
    pub fn view(&self) -> LoadView {
        LoadView { averages: self.averages, counts: self.counts }
    }

    /// Whether this process has taken a sample.
    pub fn is_sampled(&self) -> bool {
        self.rounds > 0
    }

    /// Returns what a successor should know; `None` before the first sample.
    pub fn note(&self) -> Option<LoadNote> {
        let sampled = self.sampled?.0;
        Some(LoadNote { averages: self.averages, processes: self.counts.processes, sampled })
    }

    /// Goes on from what a predecessor noted.
    pub fn resume(&mut self, note: &LoadNote) {
        self.averages = note.averages;
        self.counts.processes = note.processes;
        self.sampled = Some(Moment(note.sampled));
    }
}

/// Samples a container, asking for at most `most` threads' states.
pub fn sample(container: &Container, groups: &Groups, all: &Processes, most: usize) {
    let Some(threads) = threads(container, groups, all) else { return };
    let round = container.load().lock().rounds;
    let counts = count(&threads, all, most.clamp(1, MOST_ASKED), round);
    container.load().lock().take(counts, Moment::now());
}

/// Lists the threads of the container's own cgroup, else the processes of its pid namespace.
fn threads(container: &Container, groups: &Groups, all: &Processes) -> Option<Vec<Pid>> {
    if let Some(tasks) = &groups.tasks {
        return tasks.threads().ok();
    }
    let processes = all.in_namespace(container.namespace()?).ok()?;
    Some(processes.iter().flat_map(|p| p.threads()).collect())
}

fn count(threads: &[Pid], all: &Processes, most: usize, round: usize) -> Counts {
    let stride = threads.len().div_ceil(most).max(1);
    let asked = threads.iter().skip(round % stride).step_by(stride);
    let (mut running, mut blocked) = (0, 0);
    for pid in asked {
        match all.thread_state(*pid) {
            Some('R') => running += stride as u64,
            Some('D') => blocked += stride as u64,
            _ => {}
        }
    }
    let last_pid = last_pid(threads, all).unwrap_or(0);
    let threads = threads.len() as u64;
    Counts { running, blocked, threads, last_pid, processes: u64::from(last_pid) }
}

/// Returns the number of the newest thread, as its own namespace has it. The newest ones of a list are
/// often gone already: programs that began and ended meanwhile.
fn last_pid(threads: &[Pid], all: &Processes) -> Option<u32> {
    const MOST_GONE: usize = 64;
    let mut newest = threads.to_vec();
    newest.sort_unstable_by(|a, b| b.cmp(a));
    let number = |pid: &Pid| all.get(*pid).ok()?.status().ok()?.ns_pids.last().copied();
    newest.iter().take(MOST_GONE).find_map(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(running: u64) -> Counts {
        Counts { running, threads: running, last_pid: 7, processes: 7, ..Counts::default() }
    }

    fn after(periods: u64) -> Moment {
        Moment(1_000_000_000 + periods * PERIOD.as_nanos() as u64)
    }

    #[test]
    fn three_spinners_for_110_seconds() {
        let mut load = Load::default();
        for n in 0..22 {
            load.take(counts(3), after(n));
        }
        let [one, five, fifteen] = load.view().averages;
        let theory = |minutes: f64| 3.0 * (1.0 - (-110.0 / (60.0 * minutes)).exp());
        assert!((one - theory(1.0)).abs() < 0.001, "{one}");
        assert!((five - theory(5.0)).abs() < 0.001, "{five}");
        assert!((fifteen - theory(15.0)).abs() < 0.001, "{fifteen}");
    }

    #[test]
    fn a_sampler_that_came_late_loses_no_time() {
        let (mut late, mut regular) = (Load::default(), Load::default());
        regular.take(counts(2), after(0));
        late.take(counts(2), after(0));
        for n in 1..=12 {
            regular.take(counts(2), after(n));
        }
        late.take(counts(2), after(12));
        let [a, b] = [regular, late].map(|l| l.view().averages[0]);
        assert!((a - b).abs() < 1e-9, "{a} {b}");
    }

    #[test]
    fn the_count_of_processes_only_grows() {
        let mut load = Load::default();
        load.take(Counts { processes: 9, ..counts(1) }, after(0));
        load.take(Counts { processes: 5, ..counts(1) }, after(1));
        assert_eq!(load.view().counts.processes, 9);
    }

    #[test]
    fn a_successor_goes_on_where_the_predecessor_was() {
        let (mut whole, mut first) = (Load::default(), Load::default());
        for n in 0..5 {
            whole.take(counts(2), after(n));
            first.take(counts(2), after(n));
        }
        let mut second = Load::default();
        second.resume(&first.note().unwrap());
        assert!(!second.is_sampled());
        // Between the two, a sample was missed.
        for n in [5, 6] {
            whole.take(counts(2), after(n));
        }
        second.take(counts(2), after(6));
        let [a, b] = [whole, second].map(|l| l.view().averages[2]);
        assert!((a - b).abs() < 1e-9, "{a} {b}");
    }
}
