//! What a message doesn't say of its sender, for the few that depend on it: read from /proc, where the
//! sender's process is visible.

use super::{Caller, UNKNOWN};
use crate::layer::idmap::UnionId;

/// `CAP_FOWNER` and `CAP_FSETID` of capabilities(7).
const CAP_FOWNER: u32 = 3;
const CAP_FSETID: u32 = 4;

impl Caller {
    /// Whether the sender belongs to a group, by its supplementary groups as well; `None` where that
    /// can't be seen.
    fn is_in_group(&self, group: UnionId) -> Option<bool> {
        if self.gid == group {
            return Some(true);
        }
        let groups = self.status("Groups:")?;
        let is_own = self.gid == UNKNOWN && self.for_files("Gid:") == Some(group);
        Some(is_own || groups.split_whitespace().any(|g| g.parse() == Ok(group.0)))
    }

    /// Returns the user or group by which the sender accesses files: the last after the real, the
    /// effective and the saved one.
    fn for_files(&self, name: &str) -> Option<UnionId> {
        self.status(name)?.split_whitespace().last()?.parse().ok().map(UnionId)
    }

    /// Whether the sender may keep the set-group-id bit of a file of a group (`in_group_or_capable` of
    /// the kernel's fs/inode.c), or `unseen` where that can't be seen.
    pub(super) fn may_keep_setgid(&self, group: UnionId, unseen: bool) -> bool {
        self.is_in_group(group).unwrap_or(unseen) || self.may_keep_set_ids()
    }

    /// Whether the sender may keep set-user-id and set-group-id bits of a file that it changes.
    pub(super) fn may_keep_set_ids(&self) -> bool {
        self.has_capability(CAP_FSETID)
    }

    /// Whether the sender may change what belongs to `owner` (`inode_owner_or_capable` of the kernel's
    /// fs/inode.c).
    pub(super) fn may_change(&self, owner: UnionId) -> bool {
        let is_own = || self.uid == UNKNOWN && self.for_files("Uid:") == Some(owner);
        self.uid == owner || is_own() || self.has_capability(CAP_FOWNER)
    }

    fn has_capability(&self, number: u32) -> bool {
        let effective = || {
            let effective = self.status("CapEff:")?;
            u64::from_str_radix(effective.trim(), 16).ok()
        };
        effective().map_or(self.uid == UnionId(0), |e| e >> number & 1 == 1)
    }

    /// Whether the sender waits in a call that changes an owner; false where that can't be seen.
    pub(super) fn is_changing_owner(&self) -> bool {
        let path = format!("/proc/{}/syscall", self.pid);
        let number = std::fs::read_to_string(path)
            .ok()
            .and_then(|text| text.split_whitespace().next()?.parse().ok());
        number.is_some_and(|n: libc::c_long| OWNER_CALLS.contains(&n))
    }

    /// Returns a line of the sender's /proc/PID/status.
    fn status(&self, name: &str) -> Option<String> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid)).ok()?;
        status.lines().find_map(|l| l.strip_prefix(name)).map(str::to_owned)
    }
}

#[cfg(target_arch = "x86_64")]
const OWNER_CALLS: [libc::c_long; 4] =
    [libc::SYS_chown, libc::SYS_lchown, libc::SYS_fchown, libc::SYS_fchownat];
#[cfg(not(target_arch = "x86_64"))]
const OWNER_CALLS: [libc::c_long; 2] = [libc::SYS_fchown, libc::SYS_fchownat];

#[cfg(test)]
mod tests {
    use super::*;

    fn own() -> Caller {
        let (uid, gid) = (nix::unistd::geteuid(), nix::unistd::getegid());
        Caller { uid: UnionId(uid.as_raw()), gid: UnionId(gid.as_raw()), pid: std::process::id() }
    }

    #[test]
    fn a_senders_own_group_and_owner_are_known() {
        let own = own();
        assert_eq!(own.is_in_group(own.gid), Some(true));
        assert_eq!(own.is_in_group(UnionId(4_294_000_000)), Some(false));
        assert!(own.may_change(own.uid) && !own.is_changing_owner());
        let mapped = Caller { uid: UNKNOWN, gid: UNKNOWN, ..own };
        assert_eq!(mapped.is_in_group(own.gid), Some(true));
        assert!(mapped.may_change(own.uid));
    }

    #[test]
    fn who_is_not_visible_is_in_no_group_that_we_know() {
        let hidden = Caller { pid: 0, uid: UnionId(5), gid: UnionId(5) };
        assert_eq!(hidden.is_in_group(UnionId(7)), None);
        assert!(!hidden.may_change(UnionId(7)) && !hidden.is_changing_owner());
    }
}
