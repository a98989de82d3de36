//! Pauses all processes of a container, and lets them go on.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::errno::Errno;

use crate::cgroup::write;
use crate::error::{Context, Error, Result};
use crate::spec::{Cgroup, Version};

/// How long processes may take to stop: one that writes to a slow disk stops when it is done.
const PATIENCE: Duration = Duration::from_secs(10);

/// A cgroup that can be frozen.
enum Freezer {
    V1(PathBuf),
    V2(PathBuf),
}

fn find(cgroups: &[Cgroup]) -> Option<Freezer> {
    let with = |version, file: &str| {
        let dirs = cgroups.iter().filter(|c| c.version == version).map(|c| PathBuf::from(&c.path));
        dirs.into_iter().find(|dir| dir.join(file).exists())
    };
    let v2 = with(Version::V2, "cgroup.freeze").map(Freezer::V2);
    v2.or_else(|| with(Version::V1, "freezer.state").map(Freezer::V1))
}

/// Stops all processes, and returns when they have stopped.
///
/// # Errors
/// The container has no cgroup that can.
pub(crate) fn pause(cgroups: &[Cgroup]) -> Result<()> {
    set(cgroups, true)
}

/// Lets all processes go on.
pub(crate) fn thaw(cgroups: &[Cgroup]) -> Result<()> {
    set(cgroups, false)
}

/// Whether the processes are stopped, or about to be.
pub(crate) fn is_paused(cgroups: &[Cgroup]) -> bool {
    match find(cgroups) {
        Some(Freezer::V2(dir)) => read(&dir, "cgroup.freeze").trim() == "1",
        Some(Freezer::V1(dir)) => read(&dir, "freezer.state").trim() != "THAWED",
        None => false,
    }
}

fn set(cgroups: &[Cgroup], frozen: bool) -> Result<()> {
    let step = if frozen { "pause" } else { "unpause" };
    let missing = || {
        Error::new(step, "the container has no cgroup that can be frozen")
            .hint("no cgroup is delegated to this user: start it as root, or by `systemd-run --user --scope -p Delegate=yes`")
    };
    let freezer = find(cgroups).ok_or_else(missing)?;
    let (dir, file, value) = match (&freezer, frozen) {
        (Freezer::V2(dir), true) => (dir, "cgroup.freeze", "1"),
        (Freezer::V2(dir), false) => (dir, "cgroup.freeze", "0"),
        (Freezer::V1(dir), true) => (dir, "freezer.state", "FROZEN"),
        (Freezer::V1(dir), false) => (dir, "freezer.state", "THAWED"),
    };
    write(dir, file, value).step_at(step, dir)?;
    let since = Instant::now();
    while is_frozen(&freezer)? != frozen {
        if frozen && !dir.exists() {
            return Err(Error::new(step, "the container has just ended"));
        }
        if since.elapsed() > PATIENCE {
            if frozen {
                thaw(cgroups)?;
            }
            return Err(Error::new(step, "the processes did not stop in time").at(dir));
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}

/// Whether all processes have stopped. None has in a cgroup that is gone, as it is when those that go on
/// end at once.
fn is_frozen(freezer: &Freezer) -> Result<bool> {
    let (dir, file) = match freezer {
        Freezer::V2(dir) => (dir, "cgroup.events"),
        Freezer::V1(dir) => (dir, "freezer.state"),
    };
    match fs::read_to_string(dir.join(file)) {
        Ok(text) => Ok(text.lines().any(|l| l == "frozen 1" || l == "FROZEN")),
        Err(e) if is_gone(&e) => Ok(false),
        Err(e) => Err(e).step_at("read", dir.join(file)),
    }
}

/// Whether a file can't be read as its cgroup was removed, before or after it was opened.
fn is_gone(e: &io::Error) -> bool {
    [Errno::ENOENT, Errno::ENODEV].iter().any(|gone| e.raw_os_error() == Some(*gone as i32))
}

fn read(dir: &Path, file: &str) -> String {
    fs::read_to_string(dir.join(file)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_frozen_in_a_cgroup_that_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let gone = dir.path().join("gone");
        assert!(!is_frozen(&Freezer::V2(gone.clone())).unwrap());
        assert!(!is_frozen(&Freezer::V1(gone)).unwrap());
        fs::write(dir.path().join("cgroup.events"), "populated 1\nfrozen 1\n").unwrap();
        fs::write(dir.path().join("freezer.state"), "FREEZING\n").unwrap();
        assert!(is_frozen(&Freezer::V2(dir.path().into())).unwrap());
        assert!(!is_frozen(&Freezer::V1(dir.path().into())).unwrap());
    }
}
