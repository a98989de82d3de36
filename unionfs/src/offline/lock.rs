//! Makes sure that nobody has a layer mounted while it is changed.

use std::os::fd::OwnedFd;
use std::path::Path;

use nix::fcntl::{Flock, FlockArg};

use super::error::{OfflineError, Result};

/// Keeps daemons away for as long as it lives.
#[derive(Debug)]
pub(super) struct Unmounted {
    _lock: Option<Flock<OwnedFd>>,
}

/// Checks that a layer is part of no mount, and keeps it so where there is a work directory.
///
/// A daemon of unionfs holds a lock of its work directory; the kernel's overlayfs names its layers in
/// /proc/self/mountinfo.
pub(super) fn ensure(layer: &Path, work: Option<&Path>) -> Result<Unmounted> {
    if let Some(at) = kernel_mount(layer) {
        let layer = layer.display();
        let what = format!("{layer}: overlayfs has it mounted at {at}: unmount that first");
        return Err(OfflineError::Words(what));
    }
    let Some(work) = work else { return Ok(Unmounted { _lock: None }) };
    let fail = |e| OfflineError::At("open work directory", work.into(), e);
    let flags = libc::O_RDONLY | libc::O_DIRECTORY;
    let dir =
        sys::openat::open_at(nix::fcntl::AT_FDCWD, work.as_os_str(), flags, 0).map_err(fail)?;
    match Flock::lock(dir, FlockArg::LockExclusiveNonblock) {
        Ok(lock) => Ok(Unmounted { _lock: Some(lock) }),
        Err(_) => {
            let what =
                format!("work directory {}: in use by a mount: unmount that first", work.display());
            Err(OfflineError::Words(what))
        }
    }
}

/// Returns where the kernel has a layer mounted.
fn kernel_mount(layer: &Path) -> Option<String> {
    let layer = layer.canonicalize().ok()?;
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    for line in mounts.lines() {
        let Some((left, right)) = line.split_once(" - overlay ") else { continue };
        let options = right.rsplit(' ').next().unwrap_or("").split(',');
        let paths = options.filter_map(|o| {
            let (key, value) = o.split_once('=')?;
            let is_layer = ["upperdir", "lowerdir", "lowerdir+", "datadir+"].contains(&key);
            is_layer.then_some(value)
        });
        let mut all = paths.flat_map(|p| p.split(':')).filter(|p| !p.is_empty());
        if all.any(|p| Path::new(p).canonicalize().is_ok_and(|p| p == layer)) {
            return left.split(' ').nth(4).map(str::to_owned);
        }
    }
    None
}
