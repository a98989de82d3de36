//! Attributes for reading, symlinks and file system statistics.

use std::ffi::OsString;

use sys::Errno;
use sys::stat::{Stat, StatFs};

use super::Union;
use crate::error::Result;
use crate::inode::Ino;

impl Union {
    /// Returns the attributes of an object.
    pub fn getattr(&self, ino: Ino) -> Result<Stat> {
        let inode = self.core.inode(ino)?;
        self.core.stat(&inode).map(|s| self.owned(s))
    }

    /// Returns the content of a symlink.
    pub fn readlink(&self, ino: Ino) -> Result<OsString> {
        let inode = self.core.inode(ino)?;
        let place = inode.place.read();
        self.core.spot(&inode, &place)?.readlink()
    }

    /// Returns the statistics of the file system that new data go to: the upper's, or the topmost
    /// lower's.
    pub fn statfs(&self) -> Result<StatFs> {
        let stack = &self.core.stack;
        let root = match stack.upper_opt() {
            Some(upper) => upper.root(),
            None => stack.lowers().first().ok_or(Errno::EIO)?.root(),
        };
        let mut stat = sys::stat::statfs_fd(root)?;
        stat.namelen = stat.namelen.min(255);
        Ok(stat)
    }
}
