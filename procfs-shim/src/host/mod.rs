//! The machine's own files and the facts of its processes. Reads and parses; decides nothing.

pub mod cpulist;
pub mod held;
pub mod parse;
pub mod process;
pub mod sysfs;
pub mod trace;
mod uncovered;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};
use parking_lot::Mutex;

use crate::error::ReadError;
use cpulist::CpuList;
use held::HeldFile;
use parse::HostMeminfo;
use uncovered::Directories;

/// Ticks a second in /proc (`USER_HZ`): 100 on each architecture that Linux has a libc for.
pub const USER_HZ: u64 = 100;

/// How long a reading is good for whoever asks next, in nanoseconds: half a tick of /proc.
const GOOD_FOR: u64 = 5_000_000;

/// How long the machine's boot time is good: only setting the clock changes it.
const BTIME_GOOD_FOR: u64 = 1_000_000_000;

/// How long its /proc/cpuinfo is good: what changes in it is the clock of each processor, and to make
/// its text costs the kernel more than all else that is read here.
const CPUINFO_GOOD_FOR: u64 = 100_000_000;

/// Nanoseconds of the monotonic clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(pub u64);

impl Moment {
    /// This one.
    pub fn now() -> Moment {
        // The call has no failure for a clock that each kernel has.
        let now = clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(Duration::ZERO, Duration::from);
        Moment(u64::try_from(now.as_nanos()).unwrap_or(u64::MAX))
    }

    /// Whether what was read at `before` is good yet.
    pub fn is_soon_after(self, before: Moment) -> bool {
        self.is_within(GOOD_FOR, before)
    }

    /// Returns the time since an earlier one.
    pub fn since(self, before: Moment) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(before.0))
    }

    fn is_within(self, nanoseconds: u64, before: Moment) -> bool {
        self.0.saturating_sub(before.0) < nanoseconds
    }
}

/// Something that is read anew only when it is too old.
#[derive(Debug, Default)]
struct Kept<T>(Mutex<Option<(Moment, T)>>);

impl<T: Clone> Kept<T> {
    fn get(
        &self,
        good_for: u64,
        read: impl FnOnce() -> Result<T, ReadError>,
    ) -> Result<T, ReadError> {
        let mut kept = self.0.lock();
        let now = Moment::now();
        if let Some((at, value)) = &*kept
            && now.is_within(good_for, *at)
        {
            return Ok(value.clone());
        }
        let value = read()?;
        *kept = Some((now, value.clone()));
        Ok(value)
    }
}

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
    /// /proc/slabinfo
    Slabinfo,
}

impl HostFile {
    /// Each file, in the order of the enum.
    pub const ALL: [HostFile; 17] = [
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
        HostFile::Slabinfo,
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
            HostFile::Slabinfo => "proc/slabinfo",
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
    meminfo: Kept<Arc<HostMeminfo>>,
    cpuinfo: Kept<Arc<str>>,
    online: Kept<Arc<CpuList>>,
    btime: Kept<u64>,
}

impl Host {
    /// Opens the machine's files below `root` (`/`, or a recorded tree).
    ///
    /// # Errors
    /// There is no `proc`. A single file that is missing is told by who asks for it.
    pub fn open(root: &Path) -> Result<Host, ReadError> {
        Ok(Host::within(root, Directories::open(root)?))
    }

    /// Opens this machine's files where those of the mount whose identity is `mount` may be bound over
    /// them.
    ///
    /// # Errors
    /// `EPERM`, `EINVAL`: they are, and there is no privilege to look below.
    pub fn below(mount: u64) -> Result<Host, ReadError> {
        Ok(Host::within(Path::new("/"), Directories::below(mount)?))
    }

    fn within(root: &Path, dirs: Directories) -> Host {
        let (proc, sys_path) = (root.join("proc").into(), root.join("sys").into());
        let held = |f: HostFile| match f.path().split_once('/') {
            Some(("proc", name)) => HeldFile::open_at(&dirs.proc, &proc, name),
            Some(("sys", name)) => {
                let sys = dirs.sys.as_ref().map_err(Clone::clone)?;
                HeldFile::open_at(sys, &sys_path, name)
            }
            _ => Err(ReadError::Io(root.join(f.path()), nix::errno::Errno::ENOENT)),
        };
        let cpus = dirs.sys.as_ref().map_err(Clone::clone);
        Host {
            root: root.to_path_buf(),
            files: HostFile::ALL.into_iter().map(held).collect(),
            cpus: cpus.and_then(|sys| sysfs::CpuDirectory::open(sys, root)).map(Arc::new),
            processes: process::Processes::new(dirs.proc, &root.join("proc")),
            meminfo: Kept::default(),
            cpuinfo: Kept::default(),
            online: Kept::default(),
            btime: Kept::default(),
        }
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
            | HostFile::Vmstat
            | HostFile::Slabinfo => held.records(),
            _ => held.text(),
        }
    }

    /// Returns /proc/meminfo, at most a few milliseconds old: to make its text costs the kernel as
    /// much as all of a container's own files.
    ///
    /// # Errors
    /// It can't be read, or has another form.
    pub fn meminfo(&self) -> Result<Arc<HostMeminfo>, ReadError> {
        self.meminfo.get(GOOD_FOR, || {
            let text = self.text(HostFile::Meminfo)?;
            parse::meminfo(&text).map(Arc::new).map_err(ReadError::of("/proc/meminfo"))
        })
    }

    /// Returns /proc/cpuinfo, at most a tenth of a second old.
    ///
    /// # Errors
    /// It can't be read.
    pub fn cpuinfo(&self) -> Result<Arc<str>, ReadError> {
        self.cpuinfo.get(CPUINFO_GOOD_FOR, || self.text(HostFile::Cpuinfo).map(Arc::from))
    }

    /// Returns the processors that are on, as they were at most a few milliseconds ago.
    ///
    /// # Errors
    /// The list can't be read, or has another form.
    pub fn online(&self) -> Result<Arc<CpuList>, ReadError> {
        self.online.get(GOOD_FOR, || {
            let text = self.text(HostFile::CpuOnline)?;
            CpuList::parse(&text).map(Arc::new).map_err(ReadError::of(HostFile::CpuOnline.path()))
        })
    }

    /// Returns when the machine was booted, in seconds since the epoch; at most a second old.
    ///
    /// # Errors
    /// /proc/stat can't be read, or has no such line.
    pub fn btime(&self) -> Result<u64, ReadError> {
        self.btime.get(BTIME_GOOD_FOR, || {
            let text = self.text(HostFile::Stat)?;
            parse::btime(&text).map_err(ReadError::of("/proc/stat"))
        })
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
