//! Owners as the layers hold them and owners as users see them: two types, one map between them.

use sys::Errno;

/// A user or group as the layer holds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DiskId(pub u32);

/// A user or group as users of the union see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnionId(pub u32);

/// What the kernel shows for an owner that has no number in a user namespace
/// (`/proc/sys/kernel/overflowuid`, in practice never changed).
const OVERFLOW: u32 = 65534;

/// One range of a map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// First owner on disk.
    pub disk: u32,
    /// First owner shown.
    pub shown: u32,
    /// How many.
    pub len: u32,
}

/// The map of users, or of groups.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IdMap {
    /// Ranges; empty means identity.
    pub ranges: Vec<Range>,
    /// Every owner is shown as this one.
    pub squash: Option<u32>,
    /// Owners that the daemon's user namespace can't express are shown as root.
    pub unmapped_root: bool,
}

impl IdMap {
    /// Parses `DISK:SHOWN:LENGTH[:DISK:SHOWN:LENGTH…]`; a leading colon is accepted, as podman
    /// writes one.
    ///
    /// # Errors
    /// A sentence that says which part is wrong.
    pub fn parse_ranges(value: &str) -> Result<Vec<Range>, String> {
        let value = value.strip_prefix(':').unwrap_or(value);
        let numbers: Vec<u32> = value
            .split(':')
            .map(|n| n.parse().map_err(|_| format!("`{n}` is not a number")))
            .collect::<Result<_, _>>()?;
        let (triples, rest) = numbers.as_chunks::<3>();
        if !rest.is_empty() || triples.is_empty() {
            return Err("give triples DISK:SHOWN:LENGTH".into());
        }
        Ok(triples.iter().map(|&[disk, shown, len]| Range { disk, shown, len }).collect())
    }

    /// Returns how an owner on disk is shown.
    pub fn shown(&self, id: DiskId) -> UnionId {
        if let Some(squash) = self.squash {
            return UnionId(squash);
        }
        if self.unmapped_root && id.0 == OVERFLOW {
            return UnionId(0);
        }
        if self.ranges.is_empty() {
            return UnionId(id.0);
        }
        let hit = self.ranges.iter().find(|r| id.0 >= r.disk && id.0 - r.disk < r.len);
        UnionId(hit.map_or(OVERFLOW, |r| r.shown + (id.0 - r.disk)))
    }

    /// Returns how the owner of a lower object is written when it is copied up: as it is, unless it
    /// can't be expressed.
    pub fn copied(&self, id: DiskId) -> DiskId {
        if self.unmapped_root && id.0 == OVERFLOW { DiskId(0) } else { id }
    }

    /// Returns how an owner that a user gave is written.
    ///
    /// # Errors
    /// `EINVAL`: the map has no room for it.
    pub fn on_disk(&self, id: UnionId) -> Result<DiskId, Errno> {
        if self.ranges.is_empty() {
            return Ok(DiskId(id.0));
        }
        let hit = self.ranges.iter().find(|r| id.0 >= r.shown && id.0 - r.shown < r.len);
        hit.map(|r| DiskId(r.disk + (id.0 - r.shown))).ok_or(Errno::EINVAL)
    }

    /// Returns the owner on disk of what a user makes. Whoever isn't in the map, as an engine that
    /// prepares a container's root, makes things in its own name, as with fuse-overlayfs.
    pub fn of_creator(&self, id: UnionId) -> DiskId {
        self.on_disk(id).unwrap_or(DiskId(id.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_map_both_ways() {
        let map = IdMap {
            ranges: IdMap::parse_ranges(":0:1000:1:1:100000:65536").unwrap(),
            ..IdMap::default()
        };
        assert_eq!(map.shown(DiskId(0)), UnionId(1000));
        assert_eq!(map.shown(DiskId(5)), UnionId(100_004));
        assert_eq!(map.shown(DiskId(70_000)), UnionId(OVERFLOW));
        assert_eq!(map.on_disk(UnionId(1000)), Ok(DiskId(0)));
        assert_eq!(map.on_disk(UnionId(100_004)), Ok(DiskId(5)));
        assert_eq!(map.on_disk(UnionId(7)), Err(Errno::EINVAL));
        assert_eq!(map.of_creator(UnionId(7)), DiskId(7));
        assert_eq!(map.of_creator(UnionId(1000)), DiskId(0));
    }

    #[test]
    fn bad_ranges_are_named() {
        assert!(IdMap::parse_ranges("0:1").unwrap_err().contains("triples"));
        assert!(IdMap::parse_ranges("0:x:1").unwrap_err().contains("`x`"));
    }

    #[test]
    fn unmapped_owners_become_root_only_when_asked() {
        let plain = IdMap::default();
        assert_eq!(plain.shown(DiskId(OVERFLOW)), UnionId(OVERFLOW));
        let map = IdMap { unmapped_root: true, ..IdMap::default() };
        assert_eq!(map.shown(DiskId(OVERFLOW)), UnionId(0));
        assert_eq!(map.shown(DiskId(7)), UnionId(7));
    }
}
