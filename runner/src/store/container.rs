//! The state directory of one container: made before the container, removed after it.

use std::ffi::OsStr;
use std::fs;
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::fcntl::Flock;

use crate::error::{Context, Result};
use crate::spec::Identity;
use crate::store::remove::remove_tree;

/// File that lists what must go with the container though it is elsewhere: a letter, a path, a NUL.
const ELSEWHERE: &str = "elsewhere";

/// Directories of a container: where the merged root and the figures are attached, and what is
/// thrown away.
const DIRECTORIES: [&str; 3] = ["root", "shim", "scratch"];

/// What is elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Elsewhere {
    /// A cgroup.
    Cgroup,
    /// A directory with content.
    Directory,
}

impl Elsewhere {
    fn letter(self) -> u8 {
        match self {
            Elsewhere::Cgroup => b'c',
            Elsewhere::Directory => b'd',
        }
    }
}

/// A container's state directory, with the lock that says that its runner lives.
#[derive(Debug)]
pub(crate) struct Container {
    dir: PathBuf,
    /// Held until the runner ends, however it ends.
    _lock: Flock<fs::File>,
}

impl Container {
    pub(super) fn new(dir: PathBuf, lock: Flock<fs::File>) -> Container {
        Container { dir, _lock: lock }
    }

    /// Makes the directories that every container has.
    pub(crate) fn make_dirs(&self) -> Result<()> {
        for name in DIRECTORIES {
            let path = self.dir.join(name);
            fs::create_dir(&path).step_at("create directory", path)?;
        }
        Ok(())
    }

    /// Notes something that must go with the container, so that a later start finds it if this
    /// runner is killed.
    pub(crate) fn note(&self, what: Elsewhere, path: &Path) -> Result<()> {
        let file = self.dir.join(ELSEWHERE);
        let mut line = vec![what.letter()];
        line.extend_from_slice(path.as_os_str().as_bytes());
        line.push(0);
        let out = fs::File::options().create(true).append(true).open(&file);
        out.and_then(|mut f| f.write_all(&line)).step_at("write", file)
    }

    /// Removes all that was noted, and the directory.
    ///
    /// # Preconditions
    /// The container's processes have ended.
    pub(crate) fn clear(self, identity: &Identity) -> Result<()> {
        self.empty(identity)?;
        // Without its lock the directory would look like a leftover, to be removed by another start.
        let store = self.dir.ancestors().nth(2).unwrap_or(Path::new("/"));
        let _guard = super::lock_all(store)?;
        remove_tree(&self.dir, identity)
    }

    /// As [`Container::clear`], for whoever holds the lock of the whole store.
    pub(super) fn clear_locked(self, identity: &Identity) -> Result<()> {
        self.empty(identity)?;
        remove_tree(&self.dir, identity)
    }

    /// Removes all but the directory and its lock, the list of what is elsewhere last.
    fn empty(&self, identity: &Identity) -> Result<()> {
        let noted = fs::read(self.dir.join(ELSEWHERE)).unwrap_or_default();
        for line in noted.split(|&b| b == 0) {
            let Some((kind, path)) = line.split_first() else { continue };
            let path = Path::new(OsStr::from_bytes(path));
            match kind {
                b'c' => remove_cgroup(path).step_at("remove cgroup", path)?,
                _ => remove_tree(path, identity)?,
            }
        }
        for name in DIRECTORIES {
            remove_tree(&self.dir.join(name), identity)?;
        }
        Ok(())
    }
}

/// Removes a cgroup in which nobody lives; one that is gone is fine.
fn remove_cgroup(path: &Path) -> io::Result<()> {
    match fs::remove_dir(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        r => r,
    }
}
