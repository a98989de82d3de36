//! Where containers keep what they need while they live, and how leftovers of killed ones go.

mod container;
mod remove;

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};
use nix::unistd::{Uid, geteuid};

use crate::error::{Context, Error, Result, best_effort};
use crate::spec::Identity;

pub(crate) use container::{Container, Elsewhere};

/// The state directory of one user.
#[derive(Debug)]
pub(crate) struct Store {
    dir: PathBuf,
}

impl Store {
    /// Chooses the state directory: the one asked for, else the user's; makes nothing.
    pub(crate) fn choose(asked: Option<&Path>) -> Result<Store> {
        let dir = match asked {
            Some(dir) => std::path::absolute(dir).step_at("state directory", dir)?,
            None => default_dir(),
        };
        Ok(Store { dir })
    }

    /// Returns the state directory.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Returns the directory of a container of this name, whether or not there is one.
    pub(crate) fn container_dir(&self, id: &str) -> PathBuf {
        self.dir.join("containers").join(id)
    }

    /// Makes the directory of a new container, after clearing what killed runners left behind.
    ///
    /// # Errors
    /// The name is in use; the state directory can't be made or isn't the user's.
    pub(crate) fn create(&self, id: &str, identity: &Identity) -> Result<Container> {
        let all = self.dir.join("containers");
        private_dir(&self.dir)?;
        private_dir(&all)?;
        // Between the making of a directory and its lock nobody may take it for a leftover.
        let _guard = lock_all(&self.dir)?;
        self.sweep(identity);
        let dir = self.container_dir(id);
        match fs::DirBuilder::new().mode(0o700).create(&dir) {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
                return Err(Error::new("--name", format!("a container {id} is running"))
                    .hint("choose another name"));
            }
            r => r.step_at("create directory", &dir)?,
        }
        let lock = lock(&dir.join("lock"), FlockArg::LockExclusiveNonblock)?
            .ok_or_else(|| Error::new("lock", "somebody else has it").at(&dir))?;
        Ok(Container::new(dir, lock))
    }

    /// Removes the directories and cgroups of containers whose runner is gone.
    fn sweep(&self, identity: &Identity) {
        let Ok(entries) = fs::read_dir(self.dir.join("containers")) else { return };
        for entry in entries.flatten() {
            // A lock that can be taken is a runner that is gone: the kernel let go of it.
            match lock(&entry.path().join("lock"), FlockArg::LockExclusiveNonblock) {
                Ok(Some(held)) => {
                    let stale = Container::new(entry.path(), held);
                    best_effort("clear a killed container", stale.clear_locked(identity));
                }
                Ok(None) => {}
                Err(e) if e.is(nix::errno::Errno::ENOENT) => {}
                Err(e) => best_effort::<(), _>("clear a killed container", Err(e.to_string())),
            }
        }
    }
}

/// Waits until nobody else makes or removes containers.
fn lock_all(store: &Path) -> Result<Flock<fs::File>> {
    lock(&store.join("lock"), FlockArg::LockExclusive)?
        .ok_or_else(|| Error::new("lock state directory", "it is locked").at(store))
}

/// Returns the state directory of this user.
fn default_dir() -> PathBuf {
    let uid = geteuid();
    if uid.is_root() && !in_user_namespace() {
        return PathBuf::from("/var/lib/palimpsest");
    }
    let home = || {
        let user = nix::unistd::User::from_uid(uid).ok().flatten()?;
        let dir = match std::env::var_os("HOME") {
            Some(home) if !home.is_empty() => PathBuf::from(home),
            _ => user.dir,
        };
        mine(&dir, uid).then(|| dir.join(".local/share/palimpsest"))
    };
    match std::env::var_os("XDG_DATA_HOME").map(PathBuf::from) {
        Some(dir) if dir.is_absolute() && mine(&dir, uid) => dir.join("palimpsest"),
        _ => home().unwrap_or_else(|| PathBuf::from(format!("/var/tmp/palimpsest-{uid}"))),
    }
}

/// Whether the ids of this process are those of a user namespace.
pub(crate) fn in_user_namespace() -> bool {
    let map = fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    map.split_whitespace().collect::<Vec<_>>() != ["0", "0", "4294967295"]
}

/// Whether a directory exists and belongs to the user.
fn mine(dir: &Path, uid: Uid) -> bool {
    fs::metadata(dir).is_ok_and(|m| m.is_dir() && m.uid() == uid.as_raw())
}

/// Makes a directory that is the user's alone, or checks that it is.
fn private_dir(dir: &Path) -> Result<()> {
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(dir);
    made.map_err(|e| {
        Error::new("create state directory", e)
            .at(dir)
            .hint("give a directory that you may write to by --state")
    })?;
    let meta = fs::symlink_metadata(dir).step_at("state directory", dir)?;
    if !meta.is_dir() || meta.uid() != geteuid().as_raw() {
        return Err(Error::new("state directory", "it belongs to somebody else")
            .at(dir)
            .hint("give another one by --state"));
    }
    Ok(())
}

/// Locks a file, which is made if needed; `None`: somebody has it.
fn lock(path: &Path, how: FlockArg) -> Result<Option<Flock<fs::File>>> {
    let make = how == FlockArg::LockExclusive || !path.exists();
    let parent_exists = path.parent().is_some_and(Path::exists);
    let file = fs::File::options()
        .read(true)
        .write(true)
        .create(make && parent_exists)
        .truncate(false)
        .open(path)
        .step_at("open lock", path)?;
    match Flock::lock(file, how) {
        Ok(held) => Ok(Some(held)),
        Err((_, nix::errno::Errno::EWOULDBLOCK)) => Ok(None),
        Err((_, e)) => Err(Error::new("lock", e).at(path)),
    }
}
