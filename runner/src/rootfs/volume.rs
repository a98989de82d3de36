//! Volumes: directories and files of the host that are seen inside.

use std::ffi::OsStr;
use std::os::fd::OwnedFd;

use nix::libc;
use sys::mount::attr;
use sys::openat::open_at;

use crate::error::{Context, Result};
use crate::rootfs::copy_up::fill;
use crate::rootfs::path::{Kind, find_or_make};
use crate::spec::{Access, Volume};

/// Makes a mount of a volume's source that is attached nowhere yet, with what is mounted below it.
///
/// # Preconditions
/// The caller sees the host's files.
pub(crate) fn open(volume: &Volume) -> Result<OwnedFd> {
    let source = open_at(nix::fcntl::AT_FDCWD, &volume.source, libc::O_PATH, 0)
        .step_at("volume source", &volume.source)?;
    let mount = sys::mount::clone_mount_tree(&source).step_at("bind volume", &volume.source)?;
    // Without nodev a device node in a volume would be a way to the host's devices.
    let attributes = match (volume.access, &volume.name) {
        (Access::ReadOnly, None) => attr::NODEV | attr::RDONLY,
        // One that is managed may have to be filled first.
        (Access::ReadWrite, _) | (Access::ReadOnly, Some(_)) => attr::NODEV,
    };
    sys::mount::mount_setattr_tree(&mount, attributes).step_at("bind volume", &volume.source)?;
    Ok(mount)
}

/// Attaches a volume in the container, making its mount point if it is missing.
pub(crate) fn put(root: &OwnedFd, volume: &Volume, mount: &OwnedFd) -> Result<()> {
    let target: &OsStr = &volume.target;
    let is_dir = sys::stat::stat_fd(mount).step_at("stat", &volume.source)?.is_dir();
    let kind = if is_dir { Kind::Directory } else { Kind::File };
    let at = find_or_make(root, target, kind)?;
    if volume.name.is_some() && is_dir {
        // As with docker and podman, a new one begins with what the image has in its place.
        if sys::stat::stat_fd(&at).step_at("stat", target)?.is_dir() {
            fill(&at, mount, target)?;
        }
        if volume.access == Access::ReadOnly {
            sys::mount::mount_setattr_tree(mount, attr::RDONLY).step_at("bind volume", target)?;
        }
    }
    sys::mount::move_mount(mount, &at).map_err(|e| {
        crate::error::Error::new("attach volume", e).at(target).hint_if(
            nix::errno::Errno::ENOTDIR,
            "a directory can't cover a file, nor a file a directory",
        )
    })
}
