//! Names and what hangs on them: `renameat2`, `linkat`, `mknodat`, modes, owners and times.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::ffi::OsStringExt;

use crate::stat::Time;
use crate::{Errno, Result, cstr};

/// `fchmodat2(2)` (Linux 6.6), which libc doesn't name for every target.
const SYS_FCHMODAT2: libc::c_long = 452;

/// Renames with the flags of `renameat2(2)`: `RENAME_NOREPLACE`, `RENAME_EXCHANGE`,
/// `RENAME_WHITEOUT`.
///
/// # Errors
/// `EINVAL`: the file system doesn't know a flag (or a directory would move below itself).
pub fn rename(
    from_dir: impl AsFd,
    from: &OsStr,
    to_dir: impl AsFd,
    to: &OsStr,
    flags: u32,
) -> Result<()> {
    let (from, to) = (cstr(from)?, cstr(to)?);
    // SAFETY: both names are NUL-terminated and outlive the call.
    let r = unsafe {
        libc::syscall(
            libc::SYS_renameat2,
            from_dir.as_fd().as_raw_fd(),
            from.as_ptr(),
            to_dir.as_fd().as_raw_fd(),
            to.as_ptr(),
            flags,
        )
    };
    Errno::result(r).map(drop)
}

/// Makes a hard link; a symlink is linked itself, not what it points at.
pub fn link(from_dir: impl AsFd, from: &OsStr, to_dir: impl AsFd, to: &OsStr) -> Result<()> {
    let (from, to) = (cstr(from)?, cstr(to)?);
    // SAFETY: both names are NUL-terminated and outlive the call.
    let r = unsafe {
        libc::linkat(
            from_dir.as_fd().as_raw_fd(),
            from.as_ptr(),
            to_dir.as_fd().as_raw_fd(),
            to.as_ptr(),
            0,
        )
    };
    Errno::result(r).map(drop)
}

/// Gives a name to the object behind a descriptor (also of `O_TMPFILE`), through `/proc/self/fd`,
/// which needs no capability.
pub fn link_fd(fd: impl AsFd, to_dir: impl AsFd, to: &OsStr) -> Result<()> {
    let (from, to) = (cstr(OsStr::new(&crate::openat::proc_path(&fd)))?, cstr(to)?);
    // SAFETY: both names are NUL-terminated and outlive the call.
    let r = unsafe {
        libc::linkat(
            libc::AT_FDCWD,
            from.as_ptr(),
            to_dir.as_fd().as_raw_fd(),
            to.as_ptr(),
            libc::AT_SYMLINK_FOLLOW,
        )
    };
    Errno::result(r).map(drop)
}

/// Makes a node of any type but a directory or symlink; `mode` holds the type bits.
pub fn mknod(dir: impl AsFd, name: &OsStr, mode: u32, rdev: u64) -> Result<()> {
    let name = cstr(name)?;
    // SAFETY: the name is NUL-terminated and outlives the call.
    let r = unsafe { libc::mknodat(dir.as_fd().as_raw_fd(), name.as_ptr(), mode, rdev) };
    Errno::result(r).map(drop)
}

/// Makes a directory.
pub fn mkdir(dir: impl AsFd, name: &OsStr, mode: u32) -> Result<()> {
    let name = cstr(name)?;
    // SAFETY: the name is NUL-terminated and outlives the call.
    let r = unsafe { libc::mkdirat(dir.as_fd().as_raw_fd(), name.as_ptr(), mode) };
    Errno::result(r).map(drop)
}

/// Makes a symbolic link with the given content.
pub fn symlink(target: &OsStr, dir: impl AsFd, name: &OsStr) -> Result<()> {
    let (target, name) = (cstr(target)?, cstr(name)?);
    // SAFETY: both strings are NUL-terminated and outlive the call.
    let r = unsafe { libc::symlinkat(target.as_ptr(), dir.as_fd().as_raw_fd(), name.as_ptr()) };
    Errno::result(r).map(drop)
}

/// Removes the entry of anything but a directory.
pub fn unlink(dir: impl AsFd, name: &OsStr) -> Result<()> {
    let name = cstr(name)?;
    // SAFETY: the name is NUL-terminated and outlives the call.
    Errno::result(unsafe { libc::unlinkat(dir.as_fd().as_raw_fd(), name.as_ptr(), 0) }).map(drop)
}

/// Removes an empty directory.
pub fn rmdir(dir: impl AsFd, name: &OsStr) -> Result<()> {
    let name = cstr(name)?;
    // SAFETY: the name is NUL-terminated and outlives the call.
    let r = unsafe { libc::unlinkat(dir.as_fd().as_raw_fd(), name.as_ptr(), libc::AT_REMOVEDIR) };
    Errno::result(r).map(drop)
}

/// Returns the content of a symlink; an empty `name` means the `O_PATH` descriptor itself.
pub fn readlink(dir: impl AsFd, name: &OsStr) -> Result<OsString> {
    let name = cstr(name)?;
    let mut buf = vec![0u8; libc::PATH_MAX as usize];
    // SAFETY: the name is NUL-terminated, the buffer is writable for the length passed.
    let n = unsafe {
        libc::readlinkat(dir.as_fd().as_raw_fd(), name.as_ptr(), buf.as_mut_ptr().cast(), buf.len())
    };
    buf.truncate(Errno::result(n)? as usize);
    Ok(OsString::from_vec(buf))
}

/// Sets the permission bits of an entry that is no symlink, without following one that took its
/// place.
///
/// `fchmodat2(2)` where the kernel has it (6.6), else through an `O_PATH` descriptor.
pub fn chmod_at(dir: impl AsFd, name: &OsStr, mode: u32) -> Result<()> {
    let c = cstr(name)?;
    // SAFETY: the name is NUL-terminated and outlives the call.
    let r = unsafe {
        libc::syscall(
            SYS_FCHMODAT2,
            dir.as_fd().as_raw_fd(),
            c.as_ptr(),
            mode,
            libc::AT_SYMLINK_NOFOLLOW,
        )
    };
    match Errno::result(r) {
        Err(Errno::ENOSYS) => {
            let fd = crate::openat::open_at(dir, name, libc::O_PATH | libc::O_NOFOLLOW, 0)?;
            chmod_fd(fd, mode)
        }
        r => r.map(drop),
    }
}

/// Sets the permission bits of the object behind a descriptor, which may be `O_PATH`.
pub fn chmod_fd(fd: impl AsFd, mode: u32) -> Result<()> {
    let path = cstr(OsStr::new(&crate::openat::proc_path(&fd)))?;
    // SAFETY: the path is NUL-terminated and outlives the call.
    Errno::result(unsafe { libc::chmod(path.as_ptr(), mode) }).map(drop)
}

/// Sets owner and group of an entry (`None` leaves one as it is); a symlink's own are set. An empty
/// `name` means the descriptor itself, which may be `O_PATH`.
pub fn chown_at(dir: impl AsFd, name: &OsStr, uid: Option<u32>, gid: Option<u32>) -> Result<()> {
    let name = cstr(name)?;
    // SAFETY: the name is NUL-terminated and outlives the call.
    let r = unsafe {
        libc::fchownat(
            dir.as_fd().as_raw_fd(),
            name.as_ptr(),
            uid.unwrap_or(u32::MAX),
            gid.unwrap_or(u32::MAX),
            libc::AT_SYMLINK_NOFOLLOW | libc::AT_EMPTY_PATH,
        )
    };
    Errno::result(r).map(drop)
}

/// A new value for a timestamp.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SetTime {
    /// Leave it.
    Omit,
    /// The time of the call.
    Now,
    /// This time.
    At(Time),
}

impl SetTime {
    fn timespec(self) -> libc::timespec {
        match self {
            SetTime::Omit => libc::timespec { tv_sec: 0, tv_nsec: libc::UTIME_OMIT },
            SetTime::Now => libc::timespec { tv_sec: 0, tv_nsec: libc::UTIME_NOW },
            SetTime::At(t) => libc::timespec { tv_sec: t.sec, tv_nsec: t.nsec.into() },
        }
    }
}

/// Sets access and modification time of an entry; a symlink's own are set. An empty `name` means
/// the descriptor itself, which may be `O_PATH`.
pub fn utimens_at(dir: impl AsFd, name: &OsStr, atime: SetTime, mtime: SetTime) -> Result<()> {
    let empty = name.is_empty();
    let name = cstr(name)?;
    let times = [atime.timespec(), mtime.timespec()];
    let flags = libc::AT_SYMLINK_NOFOLLOW | if empty { libc::AT_EMPTY_PATH } else { 0 };
    // SAFETY: the name is NUL-terminated, `times` holds two timespecs; both outlive the call.
    let r =
        unsafe { libc::utimensat(dir.as_fd().as_raw_fd(), name.as_ptr(), times.as_ptr(), flags) };
    Errno::result(r).map(drop)
}

/// Sets the size of the file behind a descriptor as truncate(2) does by a path, for which file
/// systems may leave the times of a file that keeps its size.
pub fn truncate_by_path(fd: impl AsFd, size: u64) -> Result<()> {
    let path = cstr(OsStr::new(&crate::openat::proc_path(&fd)))?;
    // SAFETY: the path is NUL-terminated and outlives the call.
    Errno::result(unsafe { libc::truncate64(path.as_ptr(), size as i64) }).map(drop)
}

/// Sets the size of the file behind a writable descriptor.
pub fn truncate(fd: impl AsFd, size: u64) -> Result<()> {
    // SAFETY: ftruncate takes no pointer.
    Errno::result(unsafe { libc::ftruncate64(fd.as_fd().as_raw_fd(), size as i64) }).map(drop)
}
