//! A bounded cache of descriptors: an inode keeps those that it used lately, and the oldest are
//! closed when there are too many.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use super::Inode;

/// Which inodes hold descriptors, in the order in which they opened them.
#[derive(Debug)]
pub struct FdCache {
    limit: usize,
    queue: Mutex<VecDeque<Weak<Inode>>>,
}

impl FdCache {
    /// Makes a cache for about `limit` descriptors.
    pub fn new(limit: usize) -> FdCache {
        FdCache { limit: limit.max(16), queue: Mutex::new(VecDeque::new()) }
    }

    /// Returns how many descriptors were noted and not closed again since.
    pub fn len(&self) -> usize {
        self.queue.lock().len()
    }

    /// Whether none was.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Notes that an inode opened a descriptor, and closes those of inodes that were not used
    /// since they were noted, if there are too many.
    pub fn opened(&self, inode: &Arc<Inode>) {
        let mut victims = Vec::new();
        {
            let mut queue = self.queue.lock();
            queue.push_back(Arc::downgrade(inode));
            let mut tries = 2 * self.limit;
            while queue.len() > self.limit && tries > 0 {
                tries -= 1;
                let Some(oldest) = queue.pop_front() else { break };
                let Some(victim) = oldest.upgrade() else { continue };
                if victim.used.swap(false, Ordering::Relaxed) {
                    queue.push_back(oldest);
                } else {
                    victims.push(victim);
                }
            }
        }
        // Closing may take long; other threads shall not wait for it.
        for v in victims {
            v.close_descriptors();
        }
    }
}
