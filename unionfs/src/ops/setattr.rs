//! Changes of attributes: mode, owner, size, times; and what clears suid and sgid.

use std::sync::Arc;

use sys::Errno;
use sys::name::SetTime;
use sys::stat::Stat;

use super::{Caller, Union};
use crate::copyup::{Need, ensure_upper};
use crate::error::Result;
use crate::inode::{Ino, Inode};
use crate::layer::Spot;
use crate::layer::idmap::UnionId;

/// What to change; `None` and [`SetTime::Omit`] leave a thing as it is.
#[derive(Clone, Copy, Debug)]
pub struct Change {
    /// Permission bits.
    pub mode: Option<u32>,
    /// Owner.
    pub uid: Option<UnionId>,
    /// Group.
    pub gid: Option<UnionId>,
    /// Size in bytes.
    pub size: Option<u64>,
    /// The size is set through an open file: by ftruncate(2).
    pub by_handle: bool,
    /// Set-user-id and set-group-id must go (`FATTR_KILL_SUIDGID`).
    pub kill_privileges: bool,
    /// Access time.
    pub atime: SetTime,
    /// Modification time.
    pub mtime: SetTime,
}

impl Change {
    fn is_empty(&self) -> bool {
        self.mode.is_none()
            && self.uid.is_none()
            && self.gid.is_none()
            && self.size.is_none()
            && (self.atime, self.mtime) == (SetTime::Omit, SetTime::Omit)
    }
}

impl Union {
    /// Changes attributes and returns the new ones.
    pub fn setattr(&self, caller: Caller, ino: Ino, change: &Change) -> Result<Stat> {
        let inode = self.core.inode(ino)?;
        if change.is_empty() {
            return self.without_change(caller, &inode);
        }
        let need = match change.size {
            Some(0) => Need::Truncated,
            Some(_) => Need::Data,
            None => Need::Metadata,
        };
        ensure_upper(&self.core, &inode, need)?;
        let upper = self.core.stack.upper()?;
        if let Some(size) = change.size {
            let fd = self.core.writer(&inode)?;
            // What happens to the times of a file that keeps its size is up to the upper's file
            // system. Size 0 may come from O_TRUNC, which FUSE doesn't tell apart and which sets them.
            if change.by_handle || size == 0 {
                sys::name::truncate(fd, size)?;
            } else {
                sys::name::truncate_by_path(fd, size)?;
            }
        }
        // Before the group changes, on which it depends.
        if change.kill_privileges {
            self.clear_suid_sgid(caller, &inode)?;
        }
        {
            let place = inode.place.read();
            let spot = self.core.upper_spot(&inode, &place)?;
            // Before the mode, which a caller may set in the same call: chown clears bits of it.
            if change.uid.is_some() || change.gid.is_some() {
                let disk = |map: &crate::layer::idmap::IdMap, id: Option<UnionId>| {
                    id.map(|id| map.on_disk(id).map(|d| d.0)).transpose()
                };
                let uid = disk(&self.core.options.uids, change.uid)?;
                let gid = disk(&self.core.options.gids, change.gid)?;
                upper.chown(&spot, uid, gid)?;
            }
            if let Some(mode) = change.mode {
                set_mode(upper, &inode, &spot, mode)?;
            }
            if (change.atime, change.mtime) != (SetTime::Omit, SetTime::Omit) {
                upper.utimens(&spot, change.atime, change.mtime)?;
            }
        }
        if let Some(dir) = &inode.dir {
            *dir.meta.lock() = None;
        }
        self.core.stat(&inode).map(|s| self.owned(s))
    }

    /// Answers a change of nothing, which the kernel sends in two cases, and which clears suid and sgid in
    /// both: somebody is about to write to the file; or chown(2) was called with neither owner nor group,
    /// which is for the owner only (`__remove_privs` of fs/inode.c, `chown_common` of fs/open.c,
    /// `notify_change` of fs/attr.c).
    fn without_change(&self, caller: Caller, inode: &Arc<Inode>) -> Result<Stat> {
        let stat = self.core.stat(inode).map(|s| self.owned(s))?;
        let has_bits = stat.mode & (libc::S_ISUID | libc::S_ISGID) != 0;
        if !has_bits || matches!(inode.kind(), libc::S_IFDIR | libc::S_IFLNK) {
            return Ok(stat);
        }
        if !caller.may_change(UnionId(stat.uid)) {
            if lost_bits(caller, &stat) != 0 && caller.is_changing_owner() {
                return Err(Errno::EPERM);
            }
            // Nor can it be a writer, if nobody but the owner is.
            if stat.mode & 0o022 == 0 {
                return Ok(stat);
            }
        }
        ensure_upper(&self.core, inode, Need::Metadata)?;
        self.clear_suid_sgid(caller, inode)?;
        self.core.stat(inode).map(|s| self.owned(s))
    }

    /// Clears suid and sgid as after a change of the content by somebody without the right to keep them
    /// (`setattr_should_drop_suidgid` of fs/attr.c).
    pub(super) fn clear_suid_sgid(&self, caller: Caller, inode: &Arc<Inode>) -> Result<()> {
        let place = inode.place.read();
        let spot = self.core.upper_spot(inode, &place)?;
        let upper = self.core.stack.upper()?;
        let stat = upper.stat(&spot)?;
        let lost = lost_bits(caller, &self.owned(stat));
        if lost != 0 {
            upper.chmod(&spot, stat.mode & !lost & 0o7777)?;
        }
        Ok(())
    }

    /// The same after a change of which the kernel doesn't say whether the caller may keep them.
    pub(super) fn may_clear_suid_sgid(&self, caller: Caller, inode: &Arc<Inode>) -> Result<()> {
        let has_bits = self.core.stat(inode)?.mode & (libc::S_ISUID | libc::S_ISGID) != 0;
        if has_bits && !caller.may_keep_set_ids() {
            self.clear_suid_sgid(caller, inode)?;
        }
        Ok(())
    }
}

/// Returns which bits of a mode go: suid, and sgid where the group may execute or the caller has no
/// right to keep it.
fn lost_bits(caller: Caller, stat: &Stat) -> u32 {
    let mut lost = stat.mode & libc::S_ISUID;
    if stat.mode & libc::S_ISGID != 0
        && (stat.mode & libc::S_IXGRP != 0 || !caller.may_keep_setgid(UnionId(stat.gid), true))
    {
        lost |= libc::S_ISGID;
    }
    lost
}

fn set_mode(upper: &crate::layer::UpperLayer, inode: &Inode, spot: &Spot, mode: u32) -> Result<()> {
    if inode.kind() == libc::S_IFLNK {
        return Err(Errno::EOPNOTSUPP);
    }
    upper.chmod(spot, mode & 0o7777)
}
