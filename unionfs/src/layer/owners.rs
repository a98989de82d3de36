//! How a layer tells owners and modes where its inodes alone don't: in an attribute, or through a
//! mount that maps them.

use std::os::fd::{AsFd, AsRawFd};

use sys::stat::Stat;
use sys::{Result, xattr};

use super::Permissions;
use super::idmap::{DiskId, IdMap, UnionId};

/// The union's maps of users and groups, which the mount of a layer has applied before.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mapped {
    /// Users.
    pub uids: IdMap,
    /// Groups.
    pub gids: IdMap,
}

/// What to do with what a layer's inode says, to have the owner and the mode on disk.
#[derive(Clone, Copy, Debug, Default)]
pub struct Owners<'a> {
    /// The attribute that has them.
    pub attribute: Option<Permissions>,
    /// The maps to go back through.
    pub mapped: Option<&'a Mapped>,
}

impl Owners<'_> {
    /// Puts owner and mode on disk into `stat`, which the object's inode gave.
    pub fn apply(self, object: xattr::Target<'_>, stat: &mut Stat) -> Result<()> {
        if let Some(mapped) = self.mapped {
            stat.uid = mapped.uids.unmapped(UnionId(stat.uid)).0;
            stat.gid = mapped.gids.unmapped(UnionId(stat.gid)).0;
        }
        match self.attribute {
            Some(attribute) => attribute.apply(object, stat),
            None => Ok(()),
        }
    }
}

impl From<Option<Permissions>> for Owners<'_> {
    fn from(attribute: Option<Permissions>) -> Self {
        Owners { attribute, mapped: None }
    }
}

impl IdMap {
    /// Returns the owner on disk of what a mount with this map shows. What the map has no room for
    /// stays, as the kernel shows it: as nobody's.
    fn unmapped(&self, id: UnionId) -> DiskId {
        self.on_disk(id).unwrap_or(DiskId(id.0))
    }
}

/// Whether what is open lies on a mount that maps owners (`mount_setattr(2)`, `MOUNT_ATTR_IDMAP`), by
/// /proc (`mnt_id` of proc_pid_fdinfo(5), options of proc_pid_mountinfo(5)); false where that can't
/// be seen.
pub fn is_idmapped(fd: impl AsFd) -> bool {
    let info = format!("/proc/self/fdinfo/{}", fd.as_fd().as_raw_fd());
    let Ok(info) = std::fs::read_to_string(info) else { return false };
    let Some(id) = info.lines().find_map(|l| l.strip_prefix("mnt_id:")) else { return false };
    let Ok(mounts) = std::fs::read("/proc/self/mountinfo") else { return false };
    maps_owners(&mounts, id.trim().as_bytes())
}

/// Whether the mount with this number has the option, which is one of the mount's own (field 6).
fn maps_owners(mountinfo: &[u8], id: &[u8]) -> bool {
    let mut mounts = mountinfo.split(|&b| b == b'\n').map(|line| line.split(|&b| b == b' '));
    mounts.any(|mut fields| {
        fields.next() == Some(id)
            && fields.nth(4).is_some_and(|o| o.split(|&b| b == b',').any(|o| o == b"idmapped"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &[u8] = b"\
69 67 254:0 /graph/idmapped /mapped/0 rw,relatime,idmapped - ext4 /dev/vda rw
6 67 254:0 /graph /idmapped rw,relatime - ext4 /dev/vda rw,idmapped
";

    #[test]
    fn the_mounts_own_options_say_that_it_maps() {
        assert!(maps_owners(MOUNTS, b"69"));
        assert!(!maps_owners(MOUNTS, b"6"));
        assert!(!maps_owners(MOUNTS, b"9"));
    }

    #[test]
    fn what_a_mount_shows_goes_back_to_what_is_on_disk() {
        let map = IdMap { ranges: IdMap::parse_ranges("0:100000:10").unwrap(), ..IdMap::default() };
        assert_eq!(map.unmapped(UnionId(100_007)), DiskId(7));
        assert_eq!(map.shown(map.unmapped(UnionId(65534))), UnionId(65534));
        assert_eq!(IdMap::default().unmapped(UnionId(7)), DiskId(7));
    }
}
