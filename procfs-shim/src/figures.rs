//! The figures of one container for a program that has it at hand: no mount, no daemon.

use std::path::Path;

use crate::error::ReadError;
use crate::files::sysinfo::{self, SysInfo};
use crate::host::Host;
use crate::host::process::{Pid, StartTime};
use crate::view::load::PERIOD;
use crate::view::{Rules, Views};

/// The figures of the container whose first process is known, by the rules that its files are made by.
#[derive(Debug)]
pub struct Figures(Views, Pid);

impl Figures {
    /// How often [`Figures::sample`] is to be called.
    pub const PERIOD: std::time::Duration = PERIOD;

    /// Opens the container's cgroups, as /proc/PID/cgroup has them; those that it shares with the
    /// caller are not its own. Files are held open, so that nothing mounted later is read.
    ///
    /// # Errors
    /// `ESRCH`, `ENOENT`: there is no such process, or it didn't start at `start`; a cgroup can't be
    /// opened.
    pub fn of_init(pid: Pid, start: Option<StartTime>, rules: Rules) -> Result<Figures, ReadError> {
        let host = Host::open(Path::new("/"))?;
        let tree = crate::mounted_hierarchies()?;
        Ok(Figures(Views::of_one(host, tree, rules, pid, start, None)?, pid))
    }

    /// Returns what sysinfo(2) would answer inside.
    ///
    /// # Errors
    /// `ENODEV`, `ESRCH`: the container is gone. Else as meminfo, uptime and loadavg.
    pub fn sysinfo(&self) -> Result<SysInfo, ReadError> {
        sysinfo::sysinfo(&self.0.of(self.1)?)
    }

    /// Returns the numbers of the processors that sched_getaffinity(2) would name, ascending, at least
    /// one: those that cpuinfo shows.
    ///
    /// # Errors
    /// As cpuinfo.
    pub fn affinity(&self) -> Result<Vec<u32>, ReadError> {
        let cpus = sysinfo::affinity(&self.0.of(self.1)?)?;
        Ok(cpus.iter().map(|cpu| cpu.0).collect())
    }

    /// Takes a sample for the load averages.
    pub fn sample(&self) {
        self.0.sample();
    }
}
