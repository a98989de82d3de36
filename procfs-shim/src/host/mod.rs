//! The machine's own files and the facts of its processes. Reads and parses; decides nothing.

pub mod cpulist;
pub mod held;
pub mod parse;
pub mod process;
pub mod sysfs;
pub mod trace;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::time::{ClockId, clock_gettime};
use parking_lot::Mutex;

use crate::error::ReadError;
use cpulist::CpuList;
use held::HeldFile;
use parse::HostMeminfo;

/// Ticks a second in /proc (`USER_HZ`): 100 on each architecture that Linux has a libc for.
pub const USER_HZ: u64 = 100;

/// How long a reading of the machine's memory is good.
const GOOD_FOR: Duration = Duration::from_millis(5);

/// How long the machine's boot time is good.
const BTIME_GOOD_FOR: Duration = Duration::from_secs(1);

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
    /// /proc/partitions
    Partitions,
    /// /proc/vmstat
    Vmstat,
}

impl HostFile {
    /// Each file, in the order of the enum.
    pub const ALL: [HostFile; 16] = [
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
        HostFile::Partitions,
        HostFile::Vmstat,
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
            HostFile::Partitions => "proc/partitions",
            HostFile::Vmstat => "proc/vmstat",
        }
    }
}

/// The machine: its files held open, and its processes.
#[derive(Debug)]
pub struct Host {
    root: PathBuf,
    files: Vec<Result<HeldFile, ReadError>>,
    processes: process::Processes,
    cpus: Result<Arc<sysfs::CpuDirectory>, ReadError>,
    meminfo: Mutex<Option<(Instant, Arc<HostMeminfo>)>>,
    btime: Mutex<Option<(Instant, u64)>>,
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
            cpus: sysfs::CpuDirectory::open(root).map(Arc::new),
            meminfo: Mutex::default(),
            btime: Mutex::default(),
        })
    }

    /// Reads a file.
    ///
    /// # Errors
    /// It is missing or can't be read.
    pub fn text(&self, file: HostFile) -> Result<String, ReadError> {
        let held = self.held(file)?;
        match file {
            HostFile::Cpuinfo
            | HostFile::Swaps
            | HostFile::Diskstats
            | HostFile::Partitions
            | HostFile::Vmstat => held.records(),
            HostFile::Stat => held.long_text(),
            _ => held.text(),
        }
    }

    /// Returns /proc/meminfo, at most a few milliseconds old: to make its text costs the kernel as
    /// much as all of a container's own files.
    ///
    /// # Errors
    /// It can't be read, or has another form.
    pub fn meminfo(&self) -> Result<Arc<HostMeminfo>, ReadError> {
        let mut kept = self.meminfo.lock();
        if let Some((at, meminfo)) = &*kept
            && at.elapsed() < GOOD_FOR
        {
            return Ok(meminfo.clone());
        }
        let text = self.text(HostFile::Meminfo)?;
        let meminfo = parse::meminfo(&text).map_err(ReadError::of("/proc/meminfo"))?;
        let meminfo = Arc::new(meminfo);
        *kept = Some((Instant::now(), meminfo.clone()));
        Ok(meminfo)
    }

    /// Returns the processors that are on.
    ///
    /// # Errors
    /// The list can't be read, or has another form.
    pub fn online(&self) -> Result<CpuList, ReadError> {
        let text = self.text(HostFile::CpuOnline)?;
        CpuList::parse(&text).map_err(ReadError::of(HostFile::CpuOnline.path()))
    }

    /// Returns when the machine was booted, in seconds since the epoch; at most a second old, as only
    /// setting the clock changes it.
    ///
    /// # Errors
    /// /proc/stat can't be read, or has no such line.
    pub fn btime(&self) -> Result<u64, ReadError> {
        let mut kept = self.btime.lock();
        if let Some((at, btime)) = *kept
            && at.elapsed() < BTIME_GOOD_FOR
        {
            return Ok(btime);
        }
        let text = self.text(HostFile::Stat)?;
        let btime = parse::btime(&text).map_err(ReadError::of("/proc/stat"))?;
        *kept = Some((Instant::now(), btime));
        Ok(btime)
    }

    /// The processes.
    pub fn processes(&self) -> &process::Processes {
        &self.processes
    }

    /// The machine's /sys/devices/system/cpu.
    ///
    /// # Errors
    /// There is none.
    pub fn cpu_directory(&self) -> Result<Arc<sysfs::CpuDirectory>, ReadError> {
        self.cpus.clone()
    }

    /// Whether the machine has a file.
    pub fn has(&self, file: HostFile) -> bool {
        self.held(file).is_ok()
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
