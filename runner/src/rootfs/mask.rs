//! Paths of /proc and /sys that the container may not read, or not write.

use std::ffi::OsStr;
use std::os::fd::OwnedFd;

use nix::errno::Errno;
use nix::libc;
use sys::mount::attr;
use sys::openat::{Confine, open_confined};

use crate::error::{Context, Error, Result};
use crate::rootfs::dev::host_node;
use crate::rootfs::path::attach;
use crate::rootfs::{Opt, new_mount};

/// Covers a file with the host's /dev/null, a directory with an empty one. What isn't there needs
/// no cover.
pub(crate) fn mask(root: &OwnedFd, path: &OsStr) -> Result<()> {
    let Some(at) = existing(root, path)? else { return Ok(()) };
    let mount = if sys::stat::stat_fd(&at).step_at("stat", path)?.is_dir() {
        let options = [Opt::Value(c"source", "masked"), Opt::Value(c"mode", "0555")];
        new_mount(c"tmpfs", &options, attr::RDONLY | attr::NOSUID | attr::NODEV | attr::NOEXEC)?
    } else {
        // The host's, never the container's, which the container could have replaced.
        let null = host_node("null", (1, 3))?;
        sys::mount::clone_mount(&null).step_at("bind", "/dev/null")?
    };
    attach(&mount, &at, path)
}

/// Makes a path unwritable. What isn't there can't be written.
pub(crate) fn read_only(root: &OwnedFd, path: &OsStr) -> Result<()> {
    let Some(at) = existing(root, path)? else { return Ok(()) };
    let mount = sys::mount::clone_mount_tree(&at).step_at("bind", path)?;
    sys::mount::mount_setattr_tree(&mount, attr::RDONLY).step_at("make read-only", path)?;
    attach(&mount, &at, path)
}

fn existing(root: &OwnedFd, path: &OsStr) -> Result<Option<OwnedFd>> {
    let below = path.to_string_lossy();
    let below = OsStr::new(below.trim_start_matches('/'));
    match open_confined(root, below, libc::O_PATH, 0, Confine::InRoot) {
        Ok(fd) => Ok(Some(fd)),
        Err(Errno::ENOENT | Errno::ENOTDIR) => Ok(None),
        Err(e) => Err(Error::new("open in the container", e).at(path)),
    }
}
