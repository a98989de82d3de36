//! Where containers keep what they need while they live, and how leftovers of killed ones go.

mod container;
mod entry;
mod record;
mod remove;
mod time;
mod volume;

use std::fs;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};
use nix::unistd::{Uid, geteuid};

use crate::error::{Context, Error, Result, best_effort};
use crate::spec::Identity;

pub(crate) use container::{Container, Elsewhere};
pub(crate) use entry::{Entry, Status, all, find, short};
pub(crate) use record::{
    Durable, ImageRef, Keep, ProcessId, Record, State, now, read_json, write_json,
};
pub(crate) use remove::remove_tree;
pub(crate) use time::{rfc3339, span};
pub(crate) use volume::{ManagedVolume, Volumes};

/// The state directory of one user.
#[derive(Clone, Debug)]
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

    /// Returns the directory of a container of this id, whether or not there is one.
    pub(crate) fn container_dir(&self, id: &str) -> PathBuf {
        self.dir.join("containers").join(id)
    }

    /// Returns where a name leads to its container.
    pub(crate) fn name_link(&self, name: &str) -> PathBuf {
        self.dir.join("names").join(name)
    }

    /// Makes the directory of a new container, after clearing what killed runners left behind. It is
    /// known to others as soon as [`Container::record`] has written it down.
    ///
    /// # Errors
    /// The name is in use; the state directory can't be made or isn't the user's.
    pub(crate) fn create(&self, record: &Record) -> Result<Container> {
        for dir in [self.dir.clone(), self.dir.join("containers"), self.dir.join("names")] {
            private_dir(&dir)?;
        }
        // Between the making of a directory and its lock nobody may take it for a leftover.
        let _guard = lock_all(&self.dir)?;
        self.sweep(&record.identity);
        self.take_name(&record.name, &record.id)?;
        let dir = self.container_dir(&record.id);
        fs::DirBuilder::new().mode(0o700).create(&dir).step_at("create directory", &dir)?;
        let held = lock(&dir.join("lock"), FlockArg::LockExclusiveNonblock)?
            .ok_or_else(|| Error::new("lock", "somebody else has it").at(&dir))?;
        let container = Container::new(dir, held);
        match container.record(record) {
            Ok(()) => Ok(container),
            Err(e) => {
                best_effort("clear the container", container.clear_locked(&record.identity));
                Err(e)
            }
        }
    }

    /// Makes a name lead to a container.
    ///
    /// # Preconditions
    /// The store is locked.
    fn take_name(&self, name: &str, id: &str) -> Result<()> {
        let link = self.name_link(name);
        if let Ok(other) = fs::read_link(&link) {
            let other = other.to_string_lossy();
            if self.container_dir(&other).exists() {
                let what = format!("{name} is the name of container {}", entry::short(&other));
                return Err(Error::new("--name", what)
                    .hint(format!("choose another name, or remove it by `runner rm {name}`")));
            }
            // Its container has gone without taking the name along.
            fs::remove_file(&link).step_at("remove", &link)?;
        }
        std::os::unix::fs::symlink(id, &link).step_at("create link", &link)
    }

    /// Gives back names whose container has gone.
    fn release_names(&self) -> Result<()> {
        let names = self.dir.join("names");
        for link in fs::read_dir(&names).into_iter().flatten().flatten() {
            let gone = fs::read_link(link.path())
                .is_ok_and(|id| !self.container_dir(&id.to_string_lossy()).exists());
            if gone {
                fs::remove_file(link.path()).step_at("remove", link.path())?;
            }
        }
        Ok(())
    }

    /// Clears what killed runners left: containers that were to go with them, and what only a running
    /// one needs of those that stay.
    ///
    /// # Preconditions
    /// The store is locked.
    fn sweep(&self, identity: &Identity) {
        let Ok(entries) = fs::read_dir(self.dir.join("containers")) else { return };
        let mut removed = false;
        for entry in entries.flatten() {
            let dir = entry.path();
            if !Container::has_leftovers(&dir) {
                continue;
            }
            // A lock that can be taken is a runner that is gone: the kernel let go of it.
            match lock(&dir.join("lock"), FlockArg::LockExclusiveNonblock) {
                Ok(Some(held)) => {
                    removed |= Container::is_thrown(&dir);
                    let stale = Container::new(dir, held);
                    best_effort("clear a killed container", stale.sweep(identity));
                }
                Ok(None) => {}
                Err(e) if e.is(nix::errno::Errno::ENOENT) => {}
                Err(e) => best_effort::<(), _>("clear a killed container", Err(e.to_string())),
            }
        }
        if removed {
            best_effort("clear names", self.release_names());
        }
    }

    /// Clears what killed runners left, now.
    pub(crate) fn clear_leftovers(&self, identity: &Identity) -> Result<()> {
        if !self.dir.join("containers").exists() {
            return Ok(());
        }
        let _guard = lock_all(&self.dir)?;
        self.sweep(identity);
        self.release_names()
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
