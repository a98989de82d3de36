//! All inodes that the kernel knows or that a known one hangs on; a shard per number.

use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;
use std::sync::atomic::Ordering;

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

/// The table. Locks of shards are held for one expression, never across I/O.
#[derive(Debug, Default)]
pub struct InodeTable {
    map: DashMap<Ino, Arc<Inode>, BuildHasherDefault<InoHasher>>,
}

impl InodeTable {
    /// Returns an inode.
    pub fn get(&self, ino: Ino) -> Option<Arc<Inode>> {
        self.map.get(&ino).map(|i| Arc::clone(&i))
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
        self.map.insert(inode.id, inode);
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
            let found = match self.map.entry(choice) {
                Entry::Occupied(e) => {
                    let inode = Arc::clone(e.get());
                    inode.lookups.fetch_add(1, Ordering::Relaxed);
                    inode
                }
                Entry::Vacant(v) => {
                    let inode = make(choice);
                    inode.lookups.fetch_add(1, Ordering::Relaxed);
                    v.insert(Arc::clone(&inode));
                    return inode;
                }
            };
            // Outside the shard's lock, as it looks at the inode's own.
            if same(&found) {
                return found;
            }
            self.forget(choice, 1);
            choice = next_choice(choice);
        }
    }

    /// Takes back lookups; an inode that nobody knows and nothing hangs on is dropped, and then
    /// maybe its parents.
    pub fn forget(&self, ino: Ino, lookups: u64) {
        let Some(inode) = self.get(ino) else { return };
        // Saturating, as a wrong count from the kernel must not wrap around.
        let taken = inode.lookups.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| {
            Some(n.saturating_sub(lookups))
        });
        if taken.is_ok_and(|before| before <= lookups) {
            self.reap(&inode);
        }
    }

    /// Drops an inode if nobody knows it and nothing hangs on it, and then maybe its parents.
    pub fn reap(&self, inode: &Arc<Inode>) {
        let mut queue = vec![Arc::clone(inode)];
        while let Some(inode) = queue.pop() {
            if self.map.remove_if(&inode.id, |_, i| i.is_unused()).is_some() {
                queue.extend(inode.drop_names());
            }
        }
    }
}
