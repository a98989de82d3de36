//! Hard links.

use std::ffi::OsStr;

use sys::Errno;
use sys::stat::Stat;

use super::Union;
use crate::copyup::{Need, ensure_upper, make_impure};
use crate::error::Result;
use crate::inode::{Ino, Name, Seen};
use crate::layer::{Over, marks};
use crate::resolve;

impl Union {
    /// Gives an object one more name, which counts one lookup, and returns its attributes.
    ///
    /// # Errors
    /// `EEXIST`: the name is taken. `ENOENT`: the object has no name left to be linked by.
    pub fn link(&self, ino: Ino, parent: Ino, name: &OsStr) -> Result<Stat> {
        let (inode, parent) = (self.core.inode(ino)?, self.core.inode(parent)?);
        let upper = self.core.stack.upper()?;
        let standing = resolve::standing(&self.core, &parent, name)?;
        if standing.seen == Seen::Present {
            return Err(Errno::EEXIST);
        }
        ensure_upper(&self.core, &inode, Need::Metadata)?;
        self.redirect_metacopy(&inode)?;
        ensure_upper(&self.core, &parent, Need::Data)?;
        let dir = self.core.upper_dir(&parent)?;
        {
            let mut place = inode.place.write();
            let object = self.core.upper_spot(&inode, &place)?;
            if marks::dot_wh_hides(name).is_some() && inode.kind() == libc::S_IFREG {
                upper.set_mark(&object, "literal", b"y")?;
            }
            if standing.seen == Seen::Whiteout {
                upper.adopt_whiteout(&dir, name)?;
                let temp = upper.temp_name();
                upper.link(&object, upper.work(), &temp)?;
                upper.publish(&temp, &dir, name, false, Over::Whiteout)?;
            } else {
                upper.link(&object, &dir, name)?;
            }
            place.push_name(Name::new(&parent, name, true));
            place.unpin();
        }
        self.list_present(&parent, name, &inode, standing.below)?;
        if self.core.is_copy(&inode, &inode.place.read()) {
            make_impure(&self.core, &parent, &dir)?;
        }
        inode.count_lookup();
        self.core.stat(&inode).map(|s| self.owned(s))
    }
}
