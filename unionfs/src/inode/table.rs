//! All inodes that the kernel knows or that a known one hangs on; a shard per number.

use std::borrow::Borrow;
use std::hash::{BuildHasherDefault, Hash, Hasher};
use std::sync::Arc;

use dashmap::DashMap;
use dashmap::mapref::entry::Entry;

use super::Inode;
use super::number::{Ino, next_choice};

/// Spreads inode numbers, which are close together, over shards and buckets: one multiplication.
#[derive(Debug, Default, Clone, Copy)]
pub struct InoHasher(u64);

impl Hasher for InoHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for &b in bytes {
            self.write_u64(u64::from(b));
        }
    }

    fn write_u64(&mut self, n: u64) {
        self.0 = (self.0 ^ n).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
    }
}

/// An inode, told from others by its id alone, so that the table needs no second copy of that.
#[derive(Debug)]
struct ById(Arc<Inode>);

impl Borrow<Ino> for ById {
    fn borrow(&self) -> &Ino {
        &self.0.id
    }
}

impl Hash for ById {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.id.hash(state);
    }
}

impl PartialEq for ById {
    fn eq(&self, other: &ById) -> bool {
        self.0.id == other.0.id
    }
}

impl Eq for ById {}

/// The table. Locks of shards are held for one expression, never across I/O.
#[derive(Debug, Default)]
pub struct InodeTable {
    map: DashMap<ById, (), BuildHasherDefault<InoHasher>>,
}

impl InodeTable {
    /// Returns an inode.
    pub fn get(&self, ino: Ino) -> Option<Arc<Inode>> {
        self.map.get(&ino).map(|i| Arc::clone(&i.key().0))
    }

    /// Returns how many inodes are known.
    pub fn len(&self) -> usize {
        self.map.len()
    }

    /// Whether no inode is known.
    pub fn is_empty(&self) -> bool {
        self.map.is_empty()
    }

    /// Puts in an inode under its own number, as the root is.
    pub fn put(&self, inode: Arc<Inode>) {
        self.map.insert(ById(inode), ());
    }

    /// Returns the inode of an object with one more lookup, making it if need be. Where another
    /// object has the number already (`same` says no), the next choice is taken.
    pub fn enter(
        &self,
        first: Ino,
        same: impl Fn(&Inode) -> bool,
        make: impl Fn(Ino) -> Arc<Inode>,
    ) -> Arc<Inode> {
        let mut choice = first;
        loop {
            let Some(found) = self.hold(choice) else {
                let inode = make(choice);
                inode.count_lookup();
                match self.map.entry(ById(Arc::clone(&inode))) {
                    Entry::Vacant(v) => {
                        v.insert(());
                        return inode;
                    }
                    // Somebody was faster.
                    Entry::Occupied(_) => {}
                }
                inode.drop_names();
                continue;
            };
            // Outside the shard's lock, as it looks at the inode's own.
            if same(&found) {
                return found;
            }
            self.forget(choice, 1);
            choice = next_choice(choice);
        }
    }

    /// Returns an inode with one more lookup, counted while the shard is locked, so that it can't
    /// be dropped between.
    pub fn hold(&self, ino: Ino) -> Option<Arc<Inode>> {
        let found = self.map.get(&ino)?;
        let inode = &found.key().0;
        inode.count_lookup();
        Some(Arc::clone(inode))
    }

    /// Takes back lookups; an inode that nobody knows and nothing hangs on is dropped, and then
    /// maybe its parents.
    pub fn forget(&self, ino: Ino, lookups: u64) {
        let Some(inode) = self.get(ino) else { return };
        if inode.uncount_lookups(lookups) {
            self.reap(&inode);
        }
    }

    /// Drops an inode if nobody knows it and nothing hangs on it, and then maybe its parents.
    pub fn reap(&self, inode: &Arc<Inode>) {
        let mut queue = vec![Arc::clone(inode)];
        while let Some(inode) = queue.pop() {
            if self.map.remove_if(&inode.id, |i, ()| i.0.is_unused()).is_some() {
                queue.extend(inode.drop_names());
            }
        }
    }
}
