//! Lookup and forget.

use std::ffi::OsStr;

use sys::stat::Stat;

use super::Union;
use crate::error::Result;
use crate::inode::Ino;
use crate::resolve;

impl Union {
    /// Finds a name; `None` where there is none. What is found counts one more lookup.
    ///
    /// # Errors
    /// `ESTALE`, `ENAMETOOLONG`, and what the layers answer.
    pub fn lookup(&self, parent: Ino, name: &OsStr) -> Result<Option<Stat>> {
        let parent = self.core.inode(parent)?;
        let Some(found) = resolve::find(&self.core, &parent, name)? else { return Ok(None) };
        let (_, stat) = resolve::enter(&self.core, &parent, name, found);
        Ok(Some(self.owned(stat)))
    }

    /// Takes back lookups that the kernel has forgotten.
    pub fn forget(&self, ino: Ino, lookups: u64) {
        self.core.table.forget(ino, lookups);
    }
}
