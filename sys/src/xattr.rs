//! Byte-named extended attributes (xattr(7)) on descriptors and on names, symlinks included.
//!
//! There is no `getxattrat(2)` before Linux 6.13, so an entry is addressed as
//! `/proc/self/fd/DIR/NAME` with the calls that don't follow a symlink.

use std::ffi::{CString, OsStr, OsString};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use crate::{Errno, Result, cstr};

/// Longest value that the kernel handles (`XATTR_SIZE_MAX`).
pub const SIZE_MAX: usize = 65536;

/// An object whose attributes are meant.
#[derive(Clone, Copy, Debug)]
pub enum Target<'a> {
    /// The object behind a descriptor, which may be `O_PATH`, also of a symlink.
    Fd(BorrowedFd<'a>),
    /// The entry of a directory; a symlink is not followed.
    At(BorrowedFd<'a>, &'a OsStr),
}

impl Target<'_> {
    /// Returns a path for the `l*xattr` calls and whether its last part must be followed: the
    /// magic link of a descriptor has to be, a name must not.
    fn path(&self) -> Result<(CString, bool)> {
        match self {
            Target::Fd(fd) => {
                Ok((cstr(OsStr::new(&format!("/proc/self/fd/{}", fd.as_raw_fd())))?, true))
            }
            Target::At(dir, name) => {
                let mut p = OsString::from(format!("/proc/self/fd/{}/", dir.as_raw_fd()));
                p.push(name);
                Ok((cstr(&p)?, false))
            }
        }
    }
}

/// Reads the value of `name` into `buf` and returns its length.
///
/// # Errors
/// `ENODATA`: no such attribute. `ERANGE`: longer than `buf`. `EOPNOTSUPP`: the file system has none.
pub fn get_into(at: Target<'_>, name: &OsStr, buf: &mut [u8]) -> Result<usize> {
    let (path, follow) = at.path()?;
    let name = cstr(name)?;
    let call = if follow { libc::getxattr } else { libc::lgetxattr };
    // SAFETY: both strings are NUL-terminated, the buffer is writable for the length passed.
    let n = unsafe { call(path.as_ptr(), name.as_ptr(), buf.as_mut_ptr().cast(), buf.len()) };
    Errno::result(n).map(|n| n as usize)
}

/// Returns the value of `name`.
///
/// # Errors
/// `ENODATA`: no such attribute. `EOPNOTSUPP`: the file system has no attributes of this kind.
pub fn value(at: Target<'_>, name: &OsStr) -> Result<Vec<u8>> {
    let mut short = [0u8; 256];
    match get_into(at, name, &mut short) {
        Ok(n) => Ok(short.get(..n).unwrap_or_default().to_vec()),
        Err(Errno::ERANGE) => {
            let mut long = vec![0u8; SIZE_MAX];
            let n = get_into(at, name, &mut long)?;
            long.truncate(n);
            Ok(long)
        }
        Err(e) => Err(e),
    }
}

/// Returns the value of `name`, or `None` where there is no such attribute or no support for any.
pub fn get(at: Target<'_>, name: &OsStr) -> Result<Option<Vec<u8>>> {
    match value(at, name) {
        Ok(value) => Ok(Some(value)),
        Err(Errno::ENODATA | Errno::EOPNOTSUPP) => Ok(None),
        Err(e) => Err(e),
    }
}

/// Sets `name` to `value`; `flags` are `XATTR_CREATE` and `XATTR_REPLACE`.
pub fn set(at: Target<'_>, name: &OsStr, value: &[u8], flags: i32) -> Result<()> {
    let (path, follow) = at.path()?;
    let name = cstr(name)?;
    let call = if follow { libc::setxattr } else { libc::lsetxattr };
    // SAFETY: both strings are NUL-terminated, the value is readable for the length passed.
    let r =
        unsafe { call(path.as_ptr(), name.as_ptr(), value.as_ptr().cast(), value.len(), flags) };
    Errno::result(r).map(drop)
}

/// Removes `name`.
pub fn remove(at: Target<'_>, name: &OsStr) -> Result<()> {
    let (path, follow) = at.path()?;
    let name = cstr(name)?;
    let call = if follow { libc::removexattr } else { libc::lremovexattr };
    // SAFETY: both strings are NUL-terminated and outlive the call.
    Errno::result(unsafe { call(path.as_ptr(), name.as_ptr()) }).map(drop)
}

/// Returns the names of all attributes; none where the file system doesn't support any.
pub fn list(at: Target<'_>) -> Result<Vec<OsString>> {
    let (path, follow) = at.path()?;
    let call = if follow { libc::listxattr } else { libc::llistxattr };
    let mut buf = vec![0u8; 1024];
    loop {
        // SAFETY: the path is NUL-terminated, the buffer is writable for the length passed.
        let n = unsafe { call(path.as_ptr(), buf.as_mut_ptr().cast(), buf.len()) };
        match Errno::result(n) {
            Ok(n) => {
                buf.truncate(n as usize);
                return Ok(split_names(&buf));
            }
            Err(Errno::EOPNOTSUPP) => return Ok(Vec::new()),
            Err(Errno::ERANGE) if buf.len() < SIZE_MAX => buf.resize(SIZE_MAX, 0),
            Err(e) => return Err(e),
        }
    }
}

fn split_names(list: &[u8]) -> Vec<OsString> {
    list.split(|&b| b == 0)
        .filter(|n| !n.is_empty())
        .map(|n| OsString::from_vec(n.to_vec()))
        .collect()
}

/// Calls `each` for the name of every attribute; for none where the file system has no attributes
/// or doesn't let us list them. Allocates nothing for short lists.
pub fn for_each_name(at: Target<'_>, mut each: impl FnMut(&OsStr)) -> Result<()> {
    let (path, follow) = at.path()?;
    let call = if follow { libc::listxattr } else { libc::llistxattr };
    let mut short = [0u8; 512];
    // SAFETY: the path is NUL-terminated, the buffer is writable for the length passed.
    let n = unsafe { call(path.as_ptr(), short.as_mut_ptr().cast(), short.len()) };
    match Errno::result(n) {
        Ok(n) => {
            let names = short.get(..n as usize).ok_or(Errno::EIO)?;
            for n in names.split(|&b| b == 0).filter(|n| !n.is_empty()) {
                each(OsStr::from_bytes(n));
            }
            Ok(())
        }
        Err(Errno::ERANGE) => {
            list(at)?.iter().for_each(|n| each(n));
            Ok(())
        }
        Err(Errno::EOPNOTSUPP | Errno::EACCES | Errno::EPERM) => Ok(()),
        Err(e) => Err(e),
    }
}

/// Returns the bytes of a name list as `listxattr(2)` lays it out: each name followed by a NUL.
pub fn join_names<'a>(names: impl IntoIterator<Item = &'a OsStr>) -> Vec<u8> {
    let mut out = Vec::new();
    for n in names {
        out.extend_from_slice(n.as_bytes());
        out.push(0);
    }
    out
}

/// The descriptor form of [`Target`] for anything that has a descriptor.
pub fn of(fd: &impl AsFd) -> Target<'_> {
    Target::Fd(fd.as_fd())
}
