//! How much memory merged listings take, and which of them go when that is too much: those that nobody
//! changed since they were read, so that they will be the same, cookies too, when they are read again.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use super::{Inode, Listing};

/// Directories that are looked at in one go.
const LOOKS: usize = 64;

/// The listings that are kept.
#[derive(Debug)]
pub struct Kept {
    limit: Option<usize>,
    total: Arc<AtomicUsize>,
    /// Directories in the order in which they were listed.
    queue: Mutex<VecDeque<Weak<Inode>>>,
}

/// What one listing takes; given back when it is dropped.
#[derive(Debug)]
pub struct Share {
    total: Arc<AtomicUsize>,
    bytes: usize,
}

impl Drop for Share {
    fn drop(&mut self) {
        self.total.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

impl Kept {
    /// Keeps about so many bytes; all without a limit.
    pub fn new(limit: Option<usize>) -> Kept {
        Kept { limit, total: Arc::default(), queue: Mutex::default() }
    }

    /// Returns how many bytes the listings take that were read and not dropped since.
    pub fn bytes(&self) -> usize {
        self.total.load(Ordering::Relaxed)
    }

    /// Returns beyond how many some are dropped.
    pub fn limit(&self) -> Option<usize> {
        self.limit
    }

    /// Counts a listing that was read just now.
    pub fn count(&self, listing: &mut Listing) {
        let bytes = listing.bytes();
        self.total.fetch_add(bytes, Ordering::Relaxed);
        listing.hold(Share { total: Arc::clone(&self.total), bytes });
    }

    /// Drops listings that weren't used lately until the rest is within the limit, or few were found that
    /// may go. The one of `new`, which was just read, stays; one that is in use at the moment, too.
    pub fn make_room(&self, new: &Arc<Inode>) {
        let mut queue = self.queue.lock();
        // Two for each new one, so that those that are gone are never more than those that are there.
        for _ in 0..2 {
            let oldest = queue.pop_front();
            queue.extend(oldest.filter(|inode| inode.strong_count() > 0));
        }
        queue.push_back(Arc::downgrade(new));
        let mut looks = LOOKS.min(queue.len());
        while self.limit.is_some_and(|limit| self.bytes() > limit) && looks > 0 {
            looks -= 1;
            let Some(oldest) = queue.pop_front() else { break };
            let Some(inode) = oldest.upgrade() else { continue };
            let Some(dir) = &inode.dir else { continue };
            if Arc::ptr_eq(&inode, new) {
                queue.push_back(oldest);
                continue;
            }
            match dir.listing.try_write() {
                Some(mut slot) if !slot.as_ref().is_some_and(Listing::stays) => {
                    *slot = None;
                    // Lookups make it again after as many as before.
                    dir.probes.store(0, Ordering::Relaxed);
                }
                _ => queue.push_back(oldest),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inode::{Ino, Place};

    fn dir(n: u64) -> Arc<Inode> {
        Arc::new(Inode::new(Ino(n + 2), libc::S_IFDIR, Place::default()))
    }

    #[test]
    fn directories_that_are_gone_leave_nothing_behind() {
        let kept = Kept::new(None);
        let stay: Vec<_> = (0..10).map(dir).collect();
        stay.iter().for_each(|dir| kept.make_room(dir));
        for n in 10..1000 {
            kept.make_room(&dir(n));
        }
        let queue = kept.queue.lock();
        assert!(queue.len() <= 2 * stay.len() + 3, "{}", queue.len());
        assert_eq!(queue.iter().filter(|i| i.strong_count() > 0).count(), stay.len());
    }
}
