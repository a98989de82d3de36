//! The threads of a cgroup and its descendants, as many as one may afford to look at.

use std::path::{Path, PathBuf};

use super::{Level, Version};
use crate::error::ReadError;
use crate::host::process::Pid;

/// How many directories of a cgroup's subtree are looked at.
const MOST_DIRECTORIES: usize = 256;

/// A cgroup whose threads can be listed.
#[derive(Clone, Debug)]
pub struct TaskGroup {
    path: PathBuf,
    version: Version,
}

impl TaskGroup {
    /// The threads of `leaf` and below.
    pub fn new(leaf: &Level) -> TaskGroup {
        TaskGroup { path: leaf.path().to_path_buf(), version: leaf.version() }
    }

    /// Whether the cgroup is still there.
    pub fn exists(&self) -> bool {
        self.path.exists()
    }

    /// Lists the threads. Directories that vanish meanwhile had none any more.
    ///
    /// # Errors
    /// The cgroup itself can't be read.
    pub fn threads(&self) -> Result<Vec<Pid>, ReadError> {
        let mut threads = self.of(&self.path)?;
        let mut directories = vec![self.path.clone()];
        let mut next = 0;
        while let Some(dir) = directories.get(next).cloned() {
            next += 1;
            for below in subdirectories(&dir) {
                if directories.len() >= MOST_DIRECTORIES {
                    return Ok(threads);
                }
                threads.extend(self.of(&below).unwrap_or_default());
                directories.push(below);
            }
        }
        Ok(threads)
    }

    fn of(&self, dir: &Path) -> Result<Vec<Pid>, ReadError> {
        let name = match self.version {
            Version::V1 => "tasks",
            Version::V2 => "cgroup.threads",
        };
        let path = dir.join(name);
        let text = std::fs::read_to_string(&path)
            .map_err(|e| ReadError::Io(path, crate::host::held::errno(&e)))?;
        Ok(text.lines().filter_map(|l| l.parse().ok()).map(Pid).collect())
    }
}

fn subdirectories(dir: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(dir) else { return Vec::new() };
    let is_dir = |e: &std::fs::DirEntry| e.file_type().is_ok_and(|t| t.is_dir());
    entries.filter_map(Result::ok).filter(is_dir).map(|e| e.path()).collect()
}
