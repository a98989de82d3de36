//! Pauses all processes of a container, and lets them go on.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

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
    while !has_come(&freezer, frozen) {
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

fn has_come(freezer: &Freezer, frozen: bool) -> bool {
    match freezer {
        Freezer::V2(dir) => {
            let wanted = if frozen { "frozen 1" } else { "frozen 0" };
            read(dir, "cgroup.events").lines().any(|l| l == wanted)
        }
        Freezer::V1(dir) => {
            read(dir, "freezer.state").trim() == if frozen { "FROZEN" } else { "THAWED" }
        }
    }
}

fn read(dir: &Path, file: &str) -> String {
    fs::read_to_string(dir.join(file)).unwrap_or_default()
}
