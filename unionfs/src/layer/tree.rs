//! Removal of whole trees below a directory descriptor, without ever following a symlink.

use std::ffi::{OsStr, OsString};
use std::os::fd::AsFd;

use sys::openat::{Confine, open_confined};
use sys::{Errno, Result, getdents, name};

/// Removes the entry `name` of `dir` with everything below it. What is gone already is fine.
///
/// # Errors
/// The first error; the rest of the tree is left then.
pub fn remove_tree(dir: impl AsFd, entry: &OsStr) -> Result<()> {
    match name::unlink(&dir, entry) {
        Err(Errno::EISDIR | Errno::EPERM) => {}
        Err(Errno::ENOENT) => return Ok(()),
        r => return r,
    }
    empty_dir(&dir, entry)?;
    name::rmdir(dir, entry)
}

/// Removes everything in the directory `name` of `dir`.
///
/// # Errors
/// As [`remove_tree`].
pub fn empty_dir(dir: impl AsFd, entry: &OsStr) -> Result<()> {
    let flags = libc::O_RDONLY | libc::O_DIRECTORY | libc::O_NOFOLLOW;
    let fd = match open_confined(&dir, entry, flags, 0, Confine::BeneathNoSymlinks) {
        // The kernel's own work directory has mode 000, which stops an unprivileged owner.
        Err(Errno::EACCES) => {
            name::chmod_at(&dir, entry, 0o700)?;
            open_confined(&dir, entry, flags, 0, Confine::BeneathNoSymlinks)?
        }
        r => r?,
    };
    let mut names: Vec<OsString> = Vec::new();
    getdents::for_each(&fd, |e| {
        names.push(e.name.to_os_string());
        Ok(())
    })?;
    names.iter().try_for_each(|n| remove_tree(&fd, n))
}
