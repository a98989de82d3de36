//! Processes of the machine as /proc shows them.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{OFlag, openat, readlinkat};
use nix::sys::stat::Mode;

use super::held::{self, HeldFile};
use super::parse::{self, PidStat, PidStatus};
use crate::error::ReadError;

/// Number of a process or thread in the daemon's own pid namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pid(pub u32);

/// Ticks after boot at which a process started: with the number, the identity of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StartTime(pub u64);

/// Inode number of a namespace: its identity while it lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct NamespaceId(pub u64);

/// The directory of all processes.
#[derive(Debug)]
pub struct Processes {
    dir: OwnedFd,
    path: Arc<Path>,
}

/// A process: its directory in /proc, which stays this process's even when the number is used again.
#[derive(Debug)]
pub struct Process {
    pid: Pid,
    dir: OwnedFd,
    path: Arc<Path>,
}

impl Processes {
    /// Opens the `proc` directory at `path`.
    ///
    /// # Errors
    /// It can't be opened.
    pub fn open(path: &Path) -> Result<Processes, ReadError> {
        Ok(Processes::new(held::directory(path)?, path))
    }

    /// The processes of a `proc` directory that is open already, whose path is `path`.
    pub(super) fn new(dir: OwnedFd, path: &Path) -> Processes {
        Processes { dir, path: path.into() }
    }

    /// Opens a process or thread.
    ///
    /// # Errors
    /// `ENOENT`: there is none of this number.
    pub fn get(&self, pid: Pid) -> Result<Process, ReadError> {
        let path = self.path.join(pid.0.to_string());
        self.open_entry(pid, pid.0.to_string(), path)
    }

    /// Opens the daemon's own process.
    ///
    /// # Errors
    /// /proc belongs to another pid namespace.
    pub fn own(&self) -> Result<Process, ReadError> {
        self.open_entry(Pid(std::process::id()), "self".into(), self.path.join("self"))
    }

    fn open_entry(&self, pid: Pid, name: String, path: PathBuf) -> Result<Process, ReadError> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        match openat(&self.dir, name.as_str(), flags, Mode::empty()) {
            Ok(dir) => Ok(Process { pid, dir, path: path.into() }),
            Err(e) => Err(ReadError::Io(path, e)),
        }
    }

    /// Returns the number of each process.
    ///
    /// # Errors
    /// The directory can't be read.
    pub fn list(&self) -> Result<Vec<Pid>, ReadError> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let fail = |e| ReadError::Io(self.path.to_path_buf(), e);
        let mut dir = Dir::openat(&self.dir, ".", flags, Mode::empty()).map_err(fail)?;
        let names = dir.iter().filter_map(Result::ok);
        Ok(names.filter_map(|e| e.file_name().to_str().ok()?.parse().ok().map(Pid)).collect())
    }

    /// Returns the pid namespace of a process, if we may look at it.
    pub fn pid_namespace(&self, pid: Pid) -> Option<NamespaceId> {
        namespace_of(&self.dir, &format!("{}/ns/pid", pid.0)).ok()
    }

    /// Returns the processes of a pid namespace that we may look at.
    ///
    /// # Errors
    /// The directory can't be read.
    pub fn in_namespace(&self, namespace: NamespaceId) -> Result<Vec<Process>, ReadError> {
        let all = self.list()?.into_iter();
        let theirs = all.filter(|&pid| self.pid_namespace(pid) == Some(namespace));
        Ok(theirs.filter_map(|pid| self.get(pid).ok()).collect())
    }

    /// Returns the state letter of a thread, or `None` if it is gone.
    pub fn thread_state(&self, pid: Pid) -> Option<char> {
        // The file of the thread alone: that of its process adds up all threads' times.
        let name = format!("{0}/task/{0}/stat", pid.0);
        let text = HeldFile::open_at(&self.dir, &self.path, &name).and_then(|f| f.text()).ok()?;
        parse::pid_stat(&text).ok().map(|s| s.state)
    }
}

impl Process {
    /// Its number.
    pub fn pid(&self) -> Pid {
        self.pid
    }

    /// Holds one of its files open.
    ///
    /// # Errors
    /// `ESRCH`, `ENOENT`: the process is gone.
    pub fn hold(&self, name: &str) -> Result<HeldFile, ReadError> {
        HeldFile::open_at(&self.dir, &self.path, name)
    }

    /// Reads /proc/PID/stat.
    ///
    /// # Errors
    /// The process is gone.
    pub fn stat(&self) -> Result<PidStat, ReadError> {
        let file = self.hold("stat")?;
        parse::pid_stat(&file.text()?).map_err(ReadError::of(&file))
    }

    /// Reads /proc/PID/status.
    ///
    /// # Errors
    /// The process is gone.
    pub fn status(&self) -> Result<PidStatus, ReadError> {
        Ok(parse::pid_status(&self.hold("status")?.text()?))
    }

    /// Lists its threads; none if it is gone.
    pub fn threads(&self) -> Vec<Pid> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let Ok(mut dir) = Dir::openat(&self.dir, "task", flags, Mode::empty()) else {
            return Vec::new();
        };
        let names = dir.iter().filter_map(Result::ok);
        names.filter_map(|e| e.file_name().to_str().ok()?.parse().ok().map(Pid)).collect()
    }

    /// Returns the identity of one of its namespaces (`pid`, `mnt`, …).
    ///
    /// # Errors
    /// `EACCES`: we may not look at this process (ptrace(2)).
    pub fn namespace(&self, kind: &str) -> Result<NamespaceId, ReadError> {
        let name = format!("ns/{kind}");
        namespace_of(&self.dir, &name).map_err(|e| ReadError::Io(self.path.join(name), e))
    }

    /// Returns the first process of this one's pid namespace, by the kernel's own translation
    /// (Linux 6.12).
    ///
    /// # Errors
    /// `ENOTTY`: the kernel is older.
    pub fn init_by_kernel(&self) -> Result<Pid, ReadError> {
        let fail = |e| ReadError::Io(self.path.join("ns/pid"), e);
        let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC;
        let ns = openat(&self.dir, "ns/pid", flags, Mode::empty()).map_err(fail)?;
        let pid = sys::process::pid_from_namespace(&ns, 1).map_err(fail)?;
        u32::try_from(pid).map(Pid).map_err(|_| fail(Errno::ESRCH))
    }

    /// Returns the boot time offset of the time namespace it is in, in nanoseconds; 0 where the
    /// kernel has none.
    ///
    /// # Errors
    /// The process is gone.
    pub fn boottime_offset(&self) -> Result<i128, ReadError> {
        match self.hold("timens_offsets") {
            Ok(file) => parse::boottime_offset(&file.text()?).map_err(ReadError::of(&file)),
            Err(ReadError::Io(_, Errno::ENOENT | Errno::EACCES)) => Ok(0),
            Err(e) => Err(e),
        }
    }
}

/// Reads `pid:[4026531836]`.
fn namespace_of(dir: impl AsFd, name: &str) -> nix::Result<NamespaceId> {
    let link = readlinkat(dir, name)?;
    let text = link.to_str().ok_or(Errno::EINVAL)?;
    let number = text.split_once('[').and_then(|(_, n)| n.strip_suffix(']'));
    number.and_then(|n| n.parse().ok()).map(NamespaceId).ok_or(Errno::EINVAL)
}
