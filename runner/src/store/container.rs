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

    /// Makes a directory in the state directory.
    pub(crate) fn make_dir(&self, name: &str) -> Result<()> {
        let path = self.dir.join(name);
        fs::create_dir(&path).step_at("create directory", path)
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
        let noted = fs::read(self.dir.join(ELSEWHERE)).unwrap_or_default();
        for line in noted.split(|&b| b == 0) {
            let Some((kind, path)) = line.split_first() else { continue };
            let path = Path::new(OsStr::from_bytes(path));
            match kind {
                b'c' => remove_cgroup(path).step_at("remove cgroup", path)?,
                _ => remove_tree(path, identity)?,
            }
        }
        remove_tree(&self.dir, identity)
    }
}

/// Removes a cgroup in which nobody lives; one that is gone is fine.
fn remove_cgroup(path: &Path) -> io::Result<()> {
    match fs::remove_dir(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        r => r,
    }
}
