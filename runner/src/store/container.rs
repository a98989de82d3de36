//! The state directory of one container: made before the container, removed after it.

use std::ffi::OsStr;
use std::fs;
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::Flock;

use crate::error::{Context, Result};
use crate::spec::Identity;
use crate::store::record::{Durable, Keep, Record, State, read_json, write_json};
use crate::store::remove::remove_tree;

/// File that lists what must go with the container though it is elsewhere: a letter, a path, a NUL.
const ELSEWHERE: &str = "elsewhere";

/// Directories of a run: where the merged root is attached, and what is thrown away.
const DIRECTORIES: [&str; 2] = ["root", "scratch"];
/// File that says that the container goes with its program.
const THROWN: &str = "thrown";
/// Socket of a running container's streams.
const SOCKET: &str = "attach";

/// How often it is tried to remove a cgroup whose processes are ending.
const RELEASE_TRIES: u32 = 200;

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

    /// Notes what must go with the container, so that a later start finds it if this runner is killed.
    pub(crate) fn note<'a>(
        &self,
        what: Elsewhere,
        paths: impl IntoIterator<Item = &'a Path>,
    ) -> Result<()> {
        let file = self.dir.join(ELSEWHERE);
        let mut lines = Vec::new();
        for path in paths {
            lines.push(what.letter());
            lines.extend_from_slice(path.as_os_str().as_bytes());
            lines.push(0);
        }
        let out = fs::File::options().create(true).append(true).open(&file);
        out.and_then(|mut f| f.write_all(&lines)).step_at("write", file)
    }

    /// Writes down how the container was asked for.
    pub(super) fn record(&self, record: &Record) -> Result<()> {
        let durable = match record.keep {
            Keep::Kept => Durable::Yes,
            Keep::Thrown => {
                let mark = self.dir.join(THROWN);
                fs::write(&mark, b"").step_at("write", mark)?;
                Durable::No
            }
        };
        write_json(&self.dir.join("record.json"), record, durable)
    }

    /// Replaces how the container was asked for.
    pub(crate) fn replace_record(dir: &Path, record: &Record) -> Result<()> {
        write_json(&dir.join("record.json"), record, Durable::Yes)
    }

    /// Writes down what became of the container.
    pub(crate) fn write_state(&self, state: &State) -> Result<()> {
        write_json(&self.dir.join("state.json"), state, Durable::No)
    }

    /// Returns its directory.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Removes what the run that has ended needed.
    ///
    /// # Preconditions
    /// The container's processes have ended.
    pub(crate) fn end_run(&self, identity: &Identity) -> Result<()> {
        self.empty(identity)
    }

    /// Removes all that was noted, and the directory with its name.
    ///
    /// # Preconditions
    /// The container's processes have ended.
    pub(crate) fn clear(self, identity: &Identity) -> Result<()> {
        self.empty(identity)?;
        // Without its lock the directory would look like a leftover, to be removed by another start.
        let store = self.dir.ancestors().nth(2).unwrap_or(Path::new("/"));
        let _guard = super::lock_all(store)?;
        self.remove(identity)
    }

    /// As [`Container::clear`], for whoever holds the lock of the whole store.
    pub(super) fn clear_locked(self, identity: &Identity) -> Result<()> {
        self.empty(identity)?;
        self.remove(identity)
    }

    /// Removes the name, and then the directory: a crash in between leaves a container that is found
    /// by its id.
    fn remove(&self, identity: &Identity) -> Result<()> {
        let store = self.dir.ancestors().nth(2).unwrap_or(Path::new("/"));
        if let Ok(Some(Record { name, id, .. })) = read_json(&self.dir.join("record.json")) {
            let link = store.join("names").join(name);
            // Another container may have the name by now.
            if fs::read_link(&link).is_ok_and(|target| target == Path::new(&id)) {
                fs::remove_file(&link).step_at("remove", &link)?;
            }
        }
        remove_tree(&self.dir, identity)
    }

    /// Whether something of a run that may have ended is there, or the container was to go.
    pub(super) fn has_leftovers(dir: &Path) -> bool {
        dir.join("scratch").exists()
            || dir.join(ELSEWHERE).exists()
            || Container::is_thrown(dir)
            || !dir.join("record.json").exists()
    }

    /// Whether the container goes with its program.
    pub(super) fn is_thrown(dir: &Path) -> bool {
        dir.join(THROWN).exists() || !dir.join("record.json").exists()
    }

    /// Clears what a killed runner left, for whoever holds the lock of the whole store.
    pub(super) fn sweep(self, identity: &Identity) -> Result<()> {
        match Container::is_thrown(&self.dir) {
            true => self.clear_locked(identity),
            false => self.empty(identity),
        }
    }

    /// Returns the path of the socket of the container's streams.
    pub(crate) fn socket(dir: &Path) -> PathBuf {
        dir.join(SOCKET)
    }

    /// Removes what one run needed, the list of what is elsewhere last.
    fn empty(&self, identity: &Identity) -> Result<()> {
        let list = self.dir.join(ELSEWHERE);
        let noted = fs::read(&list).unwrap_or_default();
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
        for file in [Container::socket(&self.dir), list] {
            match fs::remove_file(&file) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => {
                    return Err(e).step_at("remove", file);
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// Removes a cgroup in which nobody lives; one that is gone is fine. Processes that were killed a moment
/// ago may be there still.
fn remove_cgroup(path: &Path) -> io::Result<()> {
    for _ in 0..RELEASE_TRIES {
        match fs::remove_dir(path) {
            Err(e) if e.raw_os_error() == Some(Errno::EBUSY as i32) => {
                std::thread::sleep(Duration::from_millis(5));
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
            r => return r,
        }
    }
    fs::remove_dir(path)
}
