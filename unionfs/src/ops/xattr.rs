//! Extended attributes: our own are hidden, and users' that look like them are escaped.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;

use sys::Errno;

use super::{Caller, Union};
use crate::copyup::{Need, ensure_upper};
use crate::error::Result;
use crate::inode::{Ino, Inode};
use crate::layer::acl;
use crate::layer::idmap::UnionId;
use crate::layer::permissions::is_recorded;

impl Union {
    /// Returns the value of an attribute.
    ///
    /// # Errors
    /// `ENODATA`: there is none. `EOPNOTSUPP`: the layer knows no such attributes.
    pub fn getxattr(&self, ino: Ino, name: &OsStr) -> Result<Vec<u8>> {
        let inode = self.core.inode(ino)?;
        self.allowed(name)?;
        let place = inode.place.read();
        if is_barrier(&place) {
            return Err(Errno::ENODATA);
        }
        let spot = self.core.spot(&inode, &place)?;
        match sys::xattr::value(spot.xattrs(), &self.core.escape.to_disk(name)) {
            Err(Errno::ENODATA) if self.core.escape.keeps(name) => {
                sys::xattr::value(spot.xattrs(), name)
            }
            // A layer without ACLs has none, which is no error: else nobody but root got access.
            Err(Errno::EOPNOTSUPP) if name.as_bytes().starts_with(b"system.posix_acl_") => {
                Err(Errno::ENODATA)
            }
            r => r,
        }
    }

    /// Returns the names of all attributes, each followed by a NUL.
    pub fn listxattr(&self, ino: Ino) -> Result<Vec<u8>> {
        self.has_xattrs()?;
        let inode = self.core.inode(ino)?;
        let place = inode.place.read();
        if is_barrier(&place) {
            return Ok(Vec::new());
        }
        let spot = self.core.spot(&inode, &place)?;
        let names = sys::xattr::list(spot.xattrs())?;
        let mut shown: Vec<OsString> =
            names.iter().filter_map(|n| self.core.escape.to_user(n)).collect();
        if self.core.escape.security {
            // What is kept under another name may be there under its own, too.
            shown.sort_unstable();
            shown.dedup();
        }
        Ok(sys::xattr::join_names(shown.iter().map(OsString::as_os_str)))
    }

    /// Sets an attribute; `flags` as setxattr(2).
    pub fn setxattr(
        &self,
        caller: Caller,
        ino: Ino,
        name: &OsStr,
        value: &[u8],
        flags: i32,
    ) -> Result<()> {
        let inode = self.core.inode(ino)?;
        self.allowed(name)?;
        let mut flags = flags;
        if flags & libc::XATTR_REPLACE != 0 {
            self.getxattr(ino, name)?;
            if self.core.escape.keeps(name) {
                flags &= !libc::XATTR_REPLACE;
            }
        }
        ensure_upper(&self.core, &inode, Need::Metadata)?;
        let upper = self.core.stack.upper()?;
        {
            let place = inode.place.read();
            let spot = self.core.upper_spot(&inode, &place)?;
            upper.set_xattr(&spot, &self.core.escape.to_disk(name), value, flags)?;
        }
        self.acl_changed(caller, &inode, name)
    }

    /// Removes an attribute.
    pub fn removexattr(&self, caller: Caller, ino: Ino, name: &OsStr) -> Result<()> {
        let inode = self.core.inode(ino)?;
        self.allowed(name)?;
        // What is not there needs no copy-up.
        if !inode.place.read().has_upper() {
            self.getxattr(ino, name)?;
        }
        ensure_upper(&self.core, &inode, Need::Metadata)?;
        let upper = self.core.stack.upper()?;
        {
            let place = inode.place.read();
            let spot = self.core.upper_spot(&inode, &place)?;
            let removed = upper.remove_xattr(&spot, &self.core.escape.to_disk(name));
            if self.core.escape.keeps(name) {
                match upper.remove_xattr(&spot, name) {
                    Err(Errno::ENODATA) => removed?,
                    r => r?,
                }
            } else {
                removed?;
            }
        }
        self.acl_changed(caller, &inode, name)
    }

    /// Fails where attributes are refused. The kernel makes `EOPNOTSUPP` of it, and asks no more: not for
    /// `security.capability` either, which it wants to know at the first write to each file.
    fn has_xattrs(&self) -> Result<()> {
        if self.core.options.no_xattrs { Err(Errno::ENOSYS) } else { Ok(()) }
    }

    fn allowed(&self, name: &OsStr) -> Result<()> {
        self.has_xattrs()?;
        let name = name.as_bytes();
        if name.starts_with(b"user.fuseoverlayfs.") || is_recorded(name) {
            return Err(Errno::EPERM);
        }
        Ok(())
    }

    /// After a change of an ACL: what directories hand on is read anew, and sgid goes if the caller
    /// is not in the group (posix_acl_update_mode() of fs/posix_acl.c).
    fn acl_changed(&self, caller: Caller, inode: &Arc<Inode>, name: &OsStr) -> Result<()> {
        if let Some(dir) = &inode.dir {
            *dir.meta.lock() = None;
        }
        if name != acl::ACCESS {
            return Ok(());
        }
        let place = inode.place.read();
        let spot = self.core.upper_spot(inode, &place)?;
        let stat = self.core.stack.upper()?.stat(&spot)?;
        let group = UnionId(self.owned(stat).gid);
        if stat.mode & libc::S_ISGID != 0 && !caller.may_keep_setgid(group, false) {
            self.core.stack.upper()?.chmod(&spot, stat.mode & 0o7777 & !libc::S_ISGID)?;
        }
        Ok(())
    }
}

fn is_barrier(place: &crate::inode::Place) -> bool {
    !place.has_upper() && place.refs().first().is_some_and(|l| l.barrier)
}
