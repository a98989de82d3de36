//! What is kept of a container between commands: `ROOT/ID/state.json`, and the socket at which it waits.

use std::fs;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg, OFlag};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::cgroup::freezer;
use crate::error::{Context, Error, Result};
use crate::spec::{Cgroup, Hook};
use crate::store::{Durable, ProcessId, in_user_namespace, read_json, write_json};

/// Name of the pipe that whoever builds a container keeps open.
const HELD: &str = "building";

/// What is written of a container.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Record {
    /// Its id.
    pub(super) id: String,
    /// What hooks and callers are told: version, id, bundle, annotations.
    pub(super) told: Map<String, Value>,
    /// The bundle.
    pub(super) bundle: PathBuf,
    /// Its root directory.
    pub(super) rootfs: PathBuf,
    /// When it was created, in nanoseconds since 1970.
    pub(super) created: u64,
    /// Who created it.
    pub(super) owner: u32,
    /// Its first process, as soon as there is one.
    pub(super) first: Option<ProcessId>,
    /// Whether it was built to the end.
    pub(super) is_built: bool,
    /// Its cgroups.
    pub(super) cgroups: Vec<Cgroup>,
    /// Cgroups above them that were made by us.
    pub(super) above: Vec<PathBuf>,
    /// Whether it has a pid namespace of its own, with which all its processes end.
    pub(super) has_pids: bool,
    /// Hooks for after its start.
    pub(super) poststart: Vec<Hook>,
    /// Hooks for after its end.
    pub(super) poststop: Vec<Hook>,
    /// Its configuration, for further programs.
    pub(super) config: Value,
}

/// Where in its life a container is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Status {
    /// It is being built.
    Creating,
    /// Its program waits.
    Created,
    /// Its program runs.
    Running,
    /// Its processes are stopped for a while.
    Paused,
    /// Its program has ended.
    Stopped,
}

impl Status {
    /// Returns the word of the specification.
    pub(super) fn word(self) -> &'static str {
        match self {
            Status::Creating => "creating",
            Status::Created => "created",
            Status::Running => "running",
            Status::Paused => "paused",
            Status::Stopped => "stopped",
        }
    }
}

/// A container's directory, which nobody else changes meanwhile.
pub(super) struct Locked {
    dir: PathBuf,
    _lock: Flock<fs::File>,
}

/// Returns where the state is kept.
pub(super) fn default_root() -> PathBuf {
    let own = std::env::var_os("XDG_RUNTIME_DIR").filter(|d| !d.is_empty());
    match own {
        Some(dir) if !nix::unistd::geteuid().is_root() || in_user_namespace() => {
            Path::new(&dir).join(super::NAME)
        }
        _ => Path::new("/run").join(super::NAME),
    }
}

fn check(id: &str) -> Result<()> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "_+-.".contains(c);
    match !id.is_empty() && id != "." && id != ".." && id.len() <= 1024 && id.chars().all(is_plain)
    {
        true => Ok(()),
        false => {
            Err(Error::new("container id", format!("`{id}` has other signs than a-zA-Z0-9_+-.")))
        }
    }
}

fn lock(dir: &Path) -> Result<Flock<fs::File>> {
    let file = fs::File::open(dir).step_at("open", dir)?;
    Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, e)| Error::new("lock", e).at(dir))
}

impl Locked {
    /// Makes the directory of a new container.
    ///
    /// # Errors
    /// There is one of that id.
    pub(super) fn create(root: &Path, id: &str) -> Result<Locked> {
        check(id)?;
        let mut builder = fs::DirBuilder::new();
        builder.mode(0o711).recursive(true).create(root).step_at("create directory", root)?;
        let dir = root.join(id);
        fs::DirBuilder::new().mode(0o711).create(&dir).map_err(|e| match e.kind() {
            std::io::ErrorKind::AlreadyExists => {
                Error::new(format!("container {id}"), "there is one of that id already")
                    .hint("choose another, or delete it first")
            }
            _ => Error::new("create directory", e).at(&dir),
        })?;
        Ok(Locked { _lock: lock(&dir)?, dir })
    }

    /// Finds a container.
    ///
    /// # Errors
    /// There is none of that id.
    pub(super) fn find(root: &Path, id: &str) -> Result<(Locked, Record)> {
        check(id)?;
        let dir = root.join(id);
        let absent = || Error::new(format!("container {id}"), "it does not exist").at(&dir);
        if !dir.is_dir() {
            return Err(absent());
        }
        let lock = lock(&dir)?;
        let record = read_json(&dir.join("state.json"))?;
        // Removed while we waited for the lock, or never written.
        let record = record.ok_or_else(absent)?;
        Ok((Locked { dir, _lock: lock }, record))
    }

    /// Finds the directory of a container of which nothing may be written yet; `None`: there is none.
    pub(super) fn unread(root: &Path, id: &str) -> Result<Option<Locked>> {
        check(id)?;
        let dir = root.join(id);
        if !dir.is_dir() {
            return Ok(None);
        }
        let lock = lock(&dir)?;
        // Another may have removed it while we waited for the lock.
        Ok(dir.is_dir().then_some(Locked { dir, _lock: lock }))
    }

    /// Returns the directory.
    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Writes the record.
    pub(super) fn write(&self, record: &Record) -> Result<()> {
        write_json(&self.dir.join("state.json"), record, Durable::No)
    }

    /// Makes the socket at which the container waits.
    pub(super) fn listen(&self) -> Result<UnixListener> {
        UnixListener::bind(self.socket()?).step("create the socket to start at")
    }

    /// Returns what the processes keep open that build the container: `wait_for_builders` waits for them.
    pub(super) fn hold(&self) -> Result<OwnedFd> {
        let path = self.dir.join(HELD);
        let held = mkfifo(&path, Mode::S_IRUSR | Mode::S_IWUSR)
            .map_err(std::io::Error::from)
            // For reading, too: else it could not be opened before somebody reads.
            .and_then(|()| fs::File::options().read(true).write(true).open(&path));
        held.map(OwnedFd::from).step_at("create", &path)
    }

    /// Waits until none of the processes is left that build the container, of which the record of a
    /// `create` that was killed may not tell. They end by themselves then; the kernel closes their files
    /// when they have come so far that they do nothing more.
    ///
    /// # Errors
    /// One is left after so many milliseconds.
    pub(super) fn wait_for_builders(&self, patience: u16) -> Result<()> {
        let path = self.dir.join(HELD);
        let flags = OFlag::O_NONBLOCK.bits();
        let mut pipe = match fs::File::options().read(true).custom_flags(flags).open(&path) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            r => r.step_at("open", &path)?,
        };
        // Nobody has ever written to it: it ends where nobody can, as fifo(7) says.
        match pipe.read(&mut [0]) {
            Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => {}
            r => return r.step_at("read", &path).map(drop),
        }
        let mut fds = [PollFd::new(pipe.as_fd(), PollFlags::POLLIN)];
        match poll(&mut fds, PollTimeout::from(patience)).step("wait for the container")? {
            0 => Err(Error::new("wait for the container", "a process that builds it did not end")
                .at(&path)
                .hint("whoever has this file open (see fuser(1)) keeps it: end it, and try again")),
            _ => Ok(()),
        }
    }

    /// Returns the path of the socket, short enough for one.
    pub(super) fn socket(&self) -> Result<PathBuf> {
        use std::os::fd::AsRawFd;
        let fd = self._lock.as_raw_fd();
        Ok(PathBuf::from(format!("/proc/self/fd/{fd}/start.sock")))
    }

    /// Notes that the program was begun.
    pub(super) fn begun(&self) -> Result<()> {
        let path = self.dir.join("start.sock");
        fs::remove_file(&path).step_at("remove", &path)
    }

    /// Returns where in its life the container is.
    pub(super) fn status(&self, record: &Record) -> Status {
        status(&self.dir, record)
    }

    /// Removes the directory with all that is in it.
    pub(super) fn remove(self) -> Result<()> {
        fs::remove_dir_all(&self.dir).step_at("remove", &self.dir)
    }
}

/// Returns where in its life a container is.
pub(super) fn status(dir: &Path, record: &Record) -> Status {
    let Some(first) = record.first else {
        // Whoever builds it holds the lock; without it nobody does any more.
        return Status::Stopped;
    };
    if !first.is_alive() {
        return Status::Stopped;
    }
    if !record.is_built {
        return Status::Creating;
    }
    if dir.join("start.sock").exists() {
        return Status::Created;
    }
    if freezer::is_paused(&record.cgroups) { Status::Paused } else { Status::Running }
}

/// Whether something is written of a container of this id.
///
/// # Errors
/// It can't be an id, and so must not become a path.
pub(super) fn is_known(root: &Path, id: &str) -> Result<bool> {
    check(id)?;
    let path = root.join(id).join("state.json");
    path.try_exists().step_at("look for", &path)
}

/// Reads a container without waiting for who changes it.
pub(super) fn peek(root: &Path, id: &str) -> Result<(Record, Status)> {
    check(id)?;
    let dir = root.join(id);
    let record: Option<Record> = read_json(&dir.join("state.json"))?;
    let absent = || Error::new(format!("container {id}"), "it does not exist").at(&dir);
    let record = record.ok_or_else(absent)?;
    let status = match (record.first, record.is_built) {
        (None, _) if is_locked(&dir) => Status::Creating,
        _ => status(&dir, &record),
    };
    Ok((record, status))
}

fn is_locked(dir: &Path) -> bool {
    fs::File::open(dir).is_ok_and(|file| {
        Flock::lock(file, FlockArg::LockSharedNonblock)
            .is_err_and(|(_, e)| e == nix::errno::Errno::EWOULDBLOCK)
    })
}

/// Opens the first process of a container, if it lives: from then on its number can't be another's.
pub(super) fn open_first(record: &Record) -> Option<OwnedFd> {
    let first = record.first?;
    let pidfd = sys::process::pidfd_open(first.pid).ok()?;
    first.is_alive().then_some(pidfd)
}
