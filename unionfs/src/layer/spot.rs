//! Where an object is: an entry of an open directory, or a descriptor for what has no name.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use super::Owners;
use sys::openat::{Confine, open_confined, reopen};
use sys::stat::Stat;
use sys::{Result, xattr};

/// The address of an object in a layer, good for system calls. Symlinks are never followed.
#[derive(Clone, Debug)]
pub enum Spot {
    /// The entry of a directory.
    At(Arc<OwnedFd>, OsString),
    /// The object behind a descriptor, which may be `O_PATH`.
    Fd(Arc<OwnedFd>),
}

impl Spot {
    /// Returns directory and name for the `*at` calls; the name is empty for a descriptor.
    pub(crate) fn parts(&self) -> (&OwnedFd, &OsStr) {
        match self {
            Spot::At(dir, name) => (dir, name),
            Spot::Fd(fd) => (fd, OsStr::new("")),
        }
    }

    /// Returns what is known of the object.
    pub fn stat(&self) -> Result<Stat> {
        match self {
            Spot::At(dir, name) => sys::stat::stat_at_unsynced(dir, name),
            Spot::Fd(fd) => sys::stat::stat_fd(fd),
        }
    }

    /// Returns what a layer says of the object, with the owners and the mode on disk.
    pub fn stat_in(&self, owners: Owners<'_>) -> Result<Stat> {
        let mut stat = self.stat()?;
        owners.apply(self.xattrs(), &mut stat)?;
        Ok(stat)
    }

    /// Returns the object as the attribute calls want it.
    pub fn xattrs(&self) -> xattr::Target<'_> {
        match self {
            Spot::At(dir, name) => xattr::Target::At(dir.as_fd(), name),
            Spot::Fd(fd) => xattr::Target::Fd(fd.as_fd()),
        }
    }

    /// Returns the content of a symlink.
    pub fn readlink(&self) -> Result<OsString> {
        let (dir, name) = self.parts();
        sys::name::readlink(dir, name)
    }

    /// Opens the object; no mount is crossed.
    pub fn open(&self, flags: i32) -> Result<OwnedFd> {
        match self {
            Spot::At(dir, name) => {
                open_confined(dir, name, flags | libc::O_NOFOLLOW, 0, Confine::BeneathNoSymlinks)
            }
            Spot::Fd(fd) => reopen(fd, flags),
        }
    }
}
