//! Processor time of a container, kept so that no counter ever runs backwards.

use serde::{Deserialize, Serialize};

use crate::cgroup::{CpuTimes, NanoCpus};

/// Time of a container's processors in nanoseconds, since its start. Each figure only grows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CpuAccount {
    /// Time used.
    pub busy: CpuTimes,
    /// Time not used of what it might have used.
    pub idle: u64,
}

/// Adds up what a container might have used, and answers how much of it was idle.
///
/// What it might use is capacity × time, summed over the stretches in which the capacity was the
/// same. Idle is that less the time used. Within a period of its quota a container may use more
/// than its share for a moment and then waits: idle stands still meanwhile rather than step back.
/// Taking the greatest figure seen is the only thing remembered of a reading, so readers in any
/// number and order see the same sequence.
#[derive(Clone, Debug, Default)]
pub struct Meter {
    until: u64,
    capacity: Option<NanoCpus>,
    granted: u64,
    account: CpuAccount,
}

/// What of it outlives a worker: the time that was granted while the capacity was another one, in
/// nanoseconds and billionths of a processor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)] // As in `Meter`.
pub struct MeterNote {
    pub until: u64,
    pub capacity: Option<u64>,
    pub granted: u64,
    pub user: u64,
    pub nice: u64,
    pub system: u64,
    pub idle: u64,
}

impl Meter {
    /// Returns what a successor should know.
    pub fn note(&self) -> MeterNote {
        let CpuAccount { busy, idle } = self.account;
        MeterNote {
            until: self.until,
            capacity: self.capacity.map(|c| c.0),
            granted: self.granted,
            user: busy.user,
            nice: busy.nice,
            system: busy.system,
            idle,
        }
    }

    /// Goes on from what a predecessor noted.
    pub fn resume(note: &MeterNote) -> Meter {
        let busy = CpuTimes { user: note.user, nice: note.nice, system: note.system };
        Meter {
            until: note.until,
            capacity: note.capacity.map(NanoCpus),
            granted: note.granted,
            account: CpuAccount { busy, idle: note.idle },
        }
    }

    /// Takes a reading at `age` nanoseconds after the container's start.
    pub fn read(&mut self, age: u64, capacity: NanoCpus, used: CpuTimes) -> CpuAccount {
        // The stretch since the last reading had the capacity seen then; the first one, this.
        let stretch = age.saturating_sub(self.until);
        let share = self.capacity.unwrap_or(capacity);
        let granted = u128::from(stretch) * u128::from(share.0) / 1_000_000_000;
        self.granted = self.granted.saturating_add(u64::try_from(granted).unwrap_or(u64::MAX));
        if self.capacity.is_none() {
            // A cgroup that is older than its container has used more already than the container
            // ever had; without this, idle would stand still for as long as that took.
            self.granted = self.granted.max(used.total());
        }
        self.capacity = Some(capacity);
        self.until = self.until.max(age);
        let account = &mut self.account;
        account.busy.user = account.busy.user.max(used.user);
        account.busy.nice = account.busy.nice.max(used.nice);
        account.busy.system = account.busy.system.max(used.system);
        let idle = self.granted.saturating_sub(account.busy.total());
        account.idle = account.idle.max(idle);
        *account
    }
}

impl CpuTimes {
    /// All time used.
    pub fn total(&self) -> u64 {
        self.user.saturating_add(self.nice).saturating_add(self.system)
    }
}
