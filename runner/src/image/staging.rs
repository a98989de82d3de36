//! Places for what is not complete yet. Each has a lock that its maker holds: one whose lock can be
//! taken belongs to nobody any more, however its maker ended.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};

use crate::error::{Context, Result, best_effort};

/// A directory that goes with the value.
#[derive(Debug)]
pub(crate) struct Staging {
    dir: PathBuf,
    lock: PathBuf,
    _held: Flock<fs::File>,
}

impl Staging {
    /// Makes a directory below `all`, after removing what crashes left there.
    pub(super) fn new(all: &Path) -> Result<Staging> {
        use std::sync::atomic::{AtomicU32, Ordering};
        static NEXT: AtomicU32 = AtomicU32::new(0);
        sweep(all);
        loop {
            let n = NEXT.fetch_add(1, Ordering::Relaxed);
            let name = format!("{}-{n}", std::process::id());
            let (dir, lock) = (all.join(&name), all.join(format!("{name}.lock")));
            let file = match fs::File::options().write(true).create_new(true).open(&lock) {
                // A leftover of a process with our number, which somebody is just sweeping.
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => continue,
                r => r.step_at("create", &lock)?,
            };
            let held = Flock::lock(file, FlockArg::LockExclusiveNonblock);
            let Ok(held) = held else { continue };
            // A sweeper may have removed the file between its making and its lock.
            if !lock.exists() {
                continue;
            }
            fs::create_dir(&dir).step_at("create directory", &dir)?;
            return Ok(Staging { dir, lock, _held: held });
        }
    }

    /// Returns the directory.
    pub(crate) fn path(&self) -> &Path {
        &self.dir
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        best_effort("remove what was not completed", remove(&self.dir, &self.lock));
    }
}

fn remove(dir: &Path, lock: &Path) -> io::Result<()> {
    for done in [fs::remove_dir_all(dir), fs::remove_file(lock)] {
        match done {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
    }
    Ok(())
}

/// Removes what makers that are gone left.
pub(super) fn sweep(all: &Path) {
    for entry in fs::read_dir(all).into_iter().flatten().flatten() {
        let lock = entry.path();
        if lock.extension().is_none_or(|e| e != "lock") {
            continue;
        }
        let Ok(file) = fs::File::options().read(true).write(true).open(&lock) else { continue };
        // Where it can't be had, its maker lives.
        if let Ok(held) = Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            let swept = remove(&lock.with_extension(""), &lock);
            best_effort("remove what a killed command left", swept);
            drop(held);
        }
    }
}
