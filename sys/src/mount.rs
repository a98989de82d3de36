//! Mounting: the classic call by descriptor-safe arguments, and the mount API of Linux 5.2.

use std::ffi::OsStr;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

use crate::{Errno, Result, cstr};

/// Makes a private copy of the mount at `dir` (`open_tree(2)` with `OPEN_TREE_CLONE`), without
/// what is mounted below it: a view that later mounts can't change.
///
/// # Errors
/// `EPERM`: no `CAP_SYS_ADMIN` in the mount namespace's owner. `EINVAL`: in a user namespace, a
/// submount is locked over the directory.
pub fn clone_mount(dir: impl AsFd) -> Result<OwnedFd> {
    let flags = libc::OPEN_TREE_CLONE
        | libc::OPEN_TREE_CLOEXEC
        | libc::AT_EMPTY_PATH as libc::c_uint;
    // SAFETY: the path is a NUL-terminated literal.
    let fd = unsafe {
        libc::syscall(libc::SYS_open_tree, dir.as_fd().as_raw_fd(), c"".as_ptr(), flags)
    };
    let fd = Errno::result(fd)?;
    // SAFETY: the call succeeded, so this is a new descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// `umount2(2)` with raw flags (`MNT_DETACH`, `UMOUNT_NOFOLLOW`, …).
pub fn umount(target: &OsStr, flags: i32) -> Result<()> {
    let target = cstr(target)?;
    // SAFETY: the path is NUL-terminated and outlives the call.
    Errno::result(unsafe { libc::umount2(target.as_ptr(), flags) }).map(drop)
}
