//! `openat2(2)` confined below a directory descriptor, and reopening of `O_PATH` descriptors.

use std::ffi::OsStr;
use std::mem::size_of;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

use crate::{Errno, Result, cstr};

/// How far a path may lead: the `RESOLVE_*` bits of `openat2(2)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Confine {
    /// Stay below the directory, follow no symlink, cross no mount.
    BeneathNoSymlinks,
    /// As [`Confine::BeneathNoSymlinks`], but mounts may be crossed.
    BeneathCrossMounts,
    /// Treat the directory as `/`: symlinks are followed inside it, magic links are not.
    InRoot,
}

impl Confine {
    fn bits(self) -> u64 {
        match self {
            Confine::BeneathNoSymlinks => {
                libc::RESOLVE_BENEATH
                    | libc::RESOLVE_NO_SYMLINKS
                    | libc::RESOLVE_NO_MAGICLINKS
                    | libc::RESOLVE_NO_XDEV
            }
            Confine::BeneathCrossMounts => {
                libc::RESOLVE_BENEATH | libc::RESOLVE_NO_SYMLINKS | libc::RESOLVE_NO_MAGICLINKS
            }
            Confine::InRoot => libc::RESOLVE_IN_ROOT | libc::RESOLVE_NO_MAGICLINKS,
        }
    }
}

/// Opens `path` below `dir` with `openat2(2)` (Linux 5.6). `O_CLOEXEC` is always added.
///
/// # Errors
/// `EXDEV`: the path would leave the directory or cross a mount. `ELOOP`: a symlink where none may
/// be. `EAGAIN` (a rename raced with `..`) is tried again.
pub fn open_confined(
    dir: impl AsFd,
    path: &OsStr,
    flags: i32,
    mode: u32,
    confine: Confine,
) -> Result<OwnedFd> {
    let path = cstr(path)?;
    // SAFETY: `open_how` is a plain struct of integers, for which all zeroes is a valid value.
    let mut how: libc::open_how = unsafe { std::mem::zeroed() };
    how.flags = (flags | libc::O_CLOEXEC) as u64;
    // openat2 refuses a mode without O_CREAT or O_TMPFILE.
    how.mode = if flags & (libc::O_CREAT | libc::O_TMPFILE) != 0 { u64::from(mode) } else { 0 };
    how.resolve = confine.bits();
    loop {
        // SAFETY: the path is NUL-terminated and `how` has the size that is passed; both outlive
        // the call, which keeps neither.
        let fd = unsafe {
            libc::syscall(
                libc::SYS_openat2,
                dir.as_fd().as_raw_fd(),
                path.as_ptr(),
                &how,
                size_of::<libc::open_how>(),
            )
        };
        match Errno::result(fd) {
            // SAFETY: the call succeeded, so this is a new descriptor that nobody else owns.
            Ok(fd) => return Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) }),
            Err(Errno::EAGAIN | Errno::EINTR) => continue,
            Err(e) => return Err(e),
        }
    }
}

/// Opens the directory entry `name` of `dir` with plain `openat(2)`; `O_CLOEXEC` is always added.
///
/// # Preconditions
/// `name` is one path component, and the caller passes `O_NOFOLLOW` unless it wants a symlink
/// followed.
pub fn open_at(dir: impl AsFd, name: &OsStr, flags: i32, mode: u32) -> Result<OwnedFd> {
    let name = cstr(name)?;
    loop {
        // SAFETY: the name is NUL-terminated and outlives the call.
        let fd = unsafe {
            libc::openat(
                dir.as_fd().as_raw_fd(),
                name.as_ptr(),
                flags | libc::O_CLOEXEC,
                libc::c_uint::from(mode as u16),
            )
        };
        match Errno::result(fd) {
            // SAFETY: the call succeeded, so this is a new descriptor that nobody else owns.
            Ok(fd) => return Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
            Err(Errno::EINTR) => continue,
            Err(e) => return Err(e),
        }
    }
}

/// Opens again, with other flags, the object that `fd` refers to (which may be `O_PATH`).
///
/// Goes through `/proc/self/fd`, so procfs must be mounted. The object's permissions are checked.
pub fn reopen(fd: impl AsFd, flags: i32) -> Result<OwnedFd> {
    let path = proc_path(&fd);
    open_at(nix::fcntl::AT_FDCWD, OsStr::new(&path), flags & !libc::O_NOFOLLOW, 0)
}

/// Returns the `/proc/self/fd/N` path of a descriptor: a way to name an object that has no name.
pub fn proc_path(fd: impl AsFd) -> String {
    format!("/proc/self/fd/{}", fd.as_fd().as_raw_fd())
}
