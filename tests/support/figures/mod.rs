//! What tools show in a container under load, and what is right: the cgroup's own counters, read
//! before and after the tool, say in which bounds the figure has to be.
//!
//! [`rows`] lists loads and figures, [`server`] starts what shows them, [`measure`] looks at each
//! figure through each server, and [`page`] writes down what came of it.

pub mod measure;
mod memory;
mod others;
pub mod page;
mod processors;
pub mod rows;
pub mod server;

use std::collections::BTreeMap;
use std::time::Duration;

use crate::cgroups::{Cgroups, DeviceUse, Limits};
use crate::container::Clock;

/// The state of a container, and of the clock, at a moment between two system calls.
#[derive(Clone, Debug)]
pub struct Look {
    /// Seconds of the machine's clock since it was started, suspended or not.
    pub at: f64,
    /// Bytes of memory in use.
    pub used: u64,
    /// Bytes of swap in use.
    pub swapped: u64,
    /// Bytes by use, by v2's names.
    pub stat: BTreeMap<String, u64>,
    /// Processor time used, in seconds.
    pub busy: f64,
    /// Use of the device of the disk.
    pub disk: DeviceUse,
    /// Threads.
    pub threads: u64,
}

impl Look {
    /// Takes one.
    pub fn take(groups: &Cgroups, device: Option<&str>) -> Look {
        Look {
            at: now(),
            used: groups.memory_used(),
            swapped: groups.swap_used(),
            stat: groups.memory_stat(),
            busy: groups.cpu_time().as_secs_f64(),
            disk: device.map(|d| groups.device_use(d)).unwrap_or_default(),
            threads: groups.threads(),
        }
    }

    /// Returns a figure of `memory.stat` in bytes; 0 where this kernel doesn't count it.
    pub fn stat(&self, name: &str) -> f64 {
        self.stat.get(name).copied().unwrap_or(0) as f64
    }
}

/// Returns the seconds since the machine was started.
pub fn now() -> f64 {
    let time = nix::time::clock_gettime(nix::time::ClockId::CLOCK_BOOTTIME).expect("the clock");
    Duration::from(time).as_secs_f64()
}

/// What is known of the moments around a measurement.
#[derive(Clone, Debug)]
pub struct Around {
    /// Before.
    pub first: Look,
    /// After.
    pub last: Look,
    /// When the container's init started, in seconds of [`now`].
    pub born: f64,
    /// When the load was begun, in the same seconds.
    pub loaded: f64,
    /// When tools began to look, in the same seconds.
    pub ready: f64,
    /// What limits the container.
    pub limits: Limits,
    /// Processors of the machine.
    pub processors: usize,
    /// Bytes of memory of the machine.
    pub memory: u64,
    /// Bytes of swap of the machine.
    pub swap: u64,
}

impl Around {
    /// The bounds of a figure that is made of a [`Look`].
    pub fn span(&self, of: impl Fn(&Look) -> f64) -> Expected {
        let (a, b) = (of(&self.first), of(&self.last));
        Expected::Between(a.min(b), a.max(b))
    }

    /// The same, of a figure of `memory.stat` in KiB.
    pub fn kib(&self, name: &str) -> Expected {
        self.span(|look| look.stat(name) / 1024.0)
    }

    /// Bytes of memory that the container may use.
    pub fn limit(&self) -> f64 {
        self.limits.memory.map_or(self.memory, |limit| limit.min(self.memory)) as f64
    }

    /// Processors' worth of time that the container may use.
    pub fn capacity(&self) -> f64 {
        let allowed = self.limits.cpus.as_ref().map_or(self.processors, |_| 1) as f64;
        self.limits.quota.map_or(allowed, |quota| (quota as f64 / 100_000.0).min(allowed))
    }

    /// The part of that time which was used between the two looks, in percent.
    pub fn busy(&self) -> f64 {
        let used = self.last.busy - self.first.busy;
        100.0 * used / (self.capacity() * self.seconds())
    }

    /// Seconds between the two looks.
    pub fn seconds(&self) -> f64 {
        self.last.at - self.first.at
    }
}

/// What a figure has to be.
#[derive(Clone, Debug, PartialEq)]
pub enum Expected {
    /// A number, give or take the row's slack.
    Between(f64, f64),
    /// Exactly these words.
    Words(String),
}

/// A figure as some tool shows it.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// The file that it is from.
    pub file: &'static str,
    /// Its name there.
    pub figure: &'static str,
    /// The program that shows it.
    pub tool: &'static str,
    /// What is run: the first word that it writes is the figure; `{disk}` is the disk's name.
    pub script: &'static str,
    /// What it has to be.
    pub expected: fn(&Around) -> Expected,
    /// By how much it may be off.
    pub slack: f64,
    /// In which unit.
    pub unit: &'static str,
    /// Why no file can make it right, if so: then the test says so on the day on which it is.
    pub limit: Option<&'static str>,
    /// Whether what isn't right is so each time, of ours or of a peer; else the page says what it was
    /// this time.
    pub steady: bool,
    /// Whether it takes seconds, so that all servers are looked through at once.
    pub slow: bool,
}

/// Figures of one kind of load.
pub struct Group {
    /// What is done, in words.
    pub load: &'static str,
    /// Limits.
    pub limits: Limits,
    /// Clock.
    pub clock: Clock,
    /// Scripts that the container runs; `{load}` is the program `load`, `{disk}` the path of a file
    /// or device to read and write, `{scratch}` an empty directory.
    pub scripts: Vec<&'static str>,
    /// Arguments for the program `load` as a process of the machine, outside of the container.
    pub outside: Option<&'static str>,
    /// What the machine must have.
    pub needs: Needs,
    /// Figures.
    pub rows: Vec<Row>,
}

/// What a load needs and not each machine has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Needs {
    /// Nothing.
    Nothing,
    /// A block device below the place for files.
    Disk,
    /// Swap.
    Swap,
    /// The counters of cgroup v2.
    V2,
    /// Two processors or more.
    Processors,
}

const ROW: Row = Row {
    file: "",
    figure: "",
    tool: "",
    script: "",
    expected: |_| Expected::Words(String::new()),
    slack: 0.0,
    unit: "",
    limit: None,
    steady: true,
    slow: false,
};

/// A load in a container with the machine's clock.
fn group(load: &'static str, limits: Limits, scripts: Vec<&'static str>, rows: Vec<Row>) -> Group {
    let (clock, outside, needs) = (Clock::Machine, None, Needs::Nothing);
    Group { load, limits, clock, scripts, outside, needs, rows }
}
