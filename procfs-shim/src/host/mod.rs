//! The machine's own files and the facts of its processes. Reads and parses; decides nothing.

pub mod cpulist;
pub mod held;
pub mod parse;
pub mod process;

use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

use crate::error::ReadError;
use cpulist::CpuList;
use held::HeldFile;
use parse::HostMeminfo;

/// Ticks a second in /proc (`USER_HZ`): 100 on each architecture that Linux has a libc for.
pub const USER_HZ: u64 = 100;

/// A file of the machine that is shown changed, or as it is to a reader outside any container.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum HostFile {
    /// /proc/meminfo
    Meminfo,
    /// /proc/cpuinfo
    Cpuinfo,
    /// /proc/stat
    Stat,
    /// /proc/uptime
    Uptime,
    /// /proc/loadavg
    Loadavg,
    /// /proc/swaps
    Swaps,
    /// /proc/diskstats
    Diskstats,
    /// /proc/pressure/cpu
    PressureCpu,
    /// /proc/pressure/memory
    PressureMemory,
    /// /proc/pressure/io
    PressureIo,
    /// /sys/devices/system/cpu/online
    CpuOnline,
    /// /sys/devices/system/cpu/present
    CpuPresent,
    /// /sys/devices/system/cpu/possible
    CpuPossible,
    /// /sys/devices/system/cpu/offline
    CpuOffline,
}

impl HostFile {
    /// Each file, in the order of the enum.
    pub const ALL: [HostFile; 14] = [
        HostFile::Meminfo,
        HostFile::Cpuinfo,
        HostFile::Stat,
        HostFile::Uptime,
        HostFile::Loadavg,
        HostFile::Swaps,
        HostFile::Diskstats,
        HostFile::PressureCpu,
        HostFile::PressureMemory,
        HostFile::PressureIo,
        HostFile::CpuOnline,
        HostFile::CpuPresent,
        HostFile::CpuPossible,
        HostFile::CpuOffline,
    ];

    /// Path below the root directory.
    pub fn path(self) -> &'static str {
        match self {
            HostFile::Meminfo => "proc/meminfo",
            HostFile::Cpuinfo => "proc/cpuinfo",
            HostFile::Stat => "proc/stat",
            HostFile::Uptime => "proc/uptime",
            HostFile::Loadavg => "proc/loadavg",
            HostFile::Swaps => "proc/swaps",
            HostFile::Diskstats => "proc/diskstats",
            HostFile::PressureCpu => "proc/pressure/cpu",
            HostFile::PressureMemory => "proc/pressure/memory",
            HostFile::PressureIo => "proc/pressure/io",
            HostFile::CpuOnline => "sys/devices/system/cpu/online",
            HostFile::CpuPresent => "sys/devices/system/cpu/present",
            HostFile::CpuPossible => "sys/devices/system/cpu/possible",
            HostFile::CpuOffline => "sys/devices/system/cpu/offline",
        }
    }
}

/// The machine: its files held open, and its processes.
#[derive(Debug)]
pub struct Host {
    root: PathBuf,
    files: Vec<Result<HeldFile, ReadError>>,
    processes: process::Processes,
}

impl Host {
    /// Opens the machine's files below `root` (`/`, or a recorded tree).
    ///
    /// # Errors
    /// There is no `proc`. A single file that is missing is told by who asks for it.
    pub fn open(root: &Path) -> Result<Host, ReadError> {
        let dir = held::directory(root)?;
        let held = |f: HostFile| HeldFile::open_at(&dir, root, f.path());
        Ok(Host {
            root: root.to_path_buf(),
            files: HostFile::ALL.into_iter().map(held).collect(),
            processes: process::Processes::open(&root.join("proc"))?,
        })
    }

    /// Reads a file as it is.
    ///
    /// # Errors
    /// It is missing or can't be read.
    pub fn bytes(&self, file: HostFile) -> Result<Vec<u8>, ReadError> {
        self.held(file)?.read()
    }

    /// Reads a file as text.
    ///
    /// # Errors
    /// It is missing or can't be read.
    pub fn text(&self, file: HostFile) -> Result<String, ReadError> {
        self.held(file)?.text()
    }

    /// Reads and parses /proc/meminfo.
    ///
    /// # Errors
    /// It can't be read, or has another form.
    pub fn meminfo(&self) -> Result<HostMeminfo, ReadError> {
        let text = self.text(HostFile::Meminfo)?;
        parse::meminfo(&text).map_err(ReadError::of("/proc/meminfo"))
    }

    /// Returns the processors that are on.
    ///
    /// # Errors
    /// The list can't be read, or has another form.
    pub fn online(&self) -> Result<CpuList, ReadError> {
        let text = self.text(HostFile::CpuOnline)?;
        CpuList::parse(&text).map_err(ReadError::of(HostFile::CpuOnline.path()))
    }

    /// Returns when the machine was booted, in seconds since the epoch.
    ///
    /// # Errors
    /// /proc/stat can't be read, or has no such line.
    pub fn btime(&self) -> Result<u64, ReadError> {
        parse::btime(&self.text(HostFile::Stat)?).map_err(ReadError::of("/proc/stat"))
    }

    /// The processes.
    pub fn processes(&self) -> &process::Processes {
        &self.processes
    }

    fn held(&self, file: HostFile) -> Result<&HeldFile, ReadError> {
        match self.files.get(file as usize) {
            Some(Ok(held)) => Ok(held),
            Some(Err(e)) => Err(e.clone()),
            None => Err(ReadError::Io(self.root.join(file.path()), nix::errno::Errno::ENOENT)),
        }
    }
}

/// Returns the time since boot as this process sees it: its own time namespace's offset is in it,
/// as it is in the start times that it reads.
pub fn since_boot() -> Duration {
    // The call has no failure for a clock that each kernel since 2.6.39 has.
    clock_gettime(ClockId::CLOCK_BOOTTIME).map_or(Duration::ZERO, Duration::from)
}
