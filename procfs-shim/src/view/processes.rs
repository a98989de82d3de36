//! Sums over the processes of a pid namespace: the use of a container that has no cgroup of its own.

use std::time::{Duration, Instant};

use crate::cgroup::memory::MemoryLevel;
use crate::cgroup::{CpuTimes, MemoryStat};
use crate::error::ReadError;
use crate::host::USER_HZ;
use crate::host::process::{NamespaceId, Processes};

/// How long a sum is good: it costs some microseconds a process of the machine.
const GOOD_FOR: Duration = Duration::from_millis(500);

/// Nanoseconds a tick.
const NS_A_TICK: u64 = 1_000_000_000 / USER_HZ;

/// What the processes of a namespace use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProcessSum {
    /// Anonymous memory of all in bytes: pages that are shared since a fork count several times.
    pub anon: u64,
    /// Mapped file pages of the process that has the most: mostly shared among all.
    pub file: u64,
    /// Shared memory of the process that has the most.
    pub shmem: u64,
    /// Processor time, with that of children that were waited for.
    pub times: CpuTimes,
}

/// The last sum.
#[derive(Debug, Default)]
pub struct Summed {
    last: Option<(Instant, ProcessSum)>,
}

impl Summed {
    /// Returns the sum, a new one if the last is too old.
    ///
    /// # Errors
    /// /proc can't be read.
    pub fn of(&mut self, ns: NamespaceId, all: &Processes) -> Result<ProcessSum, ReadError> {
        if let Some((at, sum)) = self.last
            && at.elapsed() < GOOD_FOR
        {
            return Ok(sum);
        }
        let sum = sum(ns, all)?;
        self.last = Some((Instant::now(), sum));
        Ok(sum)
    }
}

/// Adds up. A process that ends meanwhile is left out; its time is its parent's as soon as that has
/// waited for it.
fn sum(namespace: NamespaceId, all: &Processes) -> Result<ProcessSum, ReadError> {
    let mut sum = ProcessSum::default();
    for process in all.in_namespace(namespace)? {
        let (Ok(stat), Ok(status)) = (process.stat(), process.status()) else { continue };
        sum.anon = sum.anon.saturating_add(status.rss_anon);
        sum.file = sum.file.max(status.rss_file);
        sum.shmem = sum.shmem.max(status.rss_shmem);
        sum.times.user = sum.times.user.saturating_add(stat.user.saturating_mul(NS_A_TICK));
        sum.times.system = sum.times.system.saturating_add(stat.system.saturating_mul(NS_A_TICK));
    }
    Ok(sum)
}

impl ProcessSum {
    /// The sum in the form of a cgroup's own figures.
    pub fn level(&self) -> MemoryLevel {
        let stat = MemoryStat {
            anon: self.anon,
            active_anon: self.anon.saturating_add(self.shmem),
            file: self.file.saturating_add(self.shmem),
            file_mapped: self.file,
            active_file: self.file,
            shmem: self.shmem,
            ..MemoryStat::default()
        };
        let usage = stat.anon.saturating_add(stat.file);
        MemoryLevel { usage, stat, ..MemoryLevel::default() }
    }
}
