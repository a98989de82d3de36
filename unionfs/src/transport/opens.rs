//! Open files, for mounts on which the kernel reads and writes files of the upper by itself
//! (`FOPEN_PASSTHROUGH`, Linux 6.9).
//!
//! All descriptors of an inode must go the same way: through the kernel's cache or past it (see
//! fs/fuse/iomode.c). The first one decides. A file of a lower goes through the cache, as a write may
//! copy it up; a file that has its data in the upper goes past it.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use dashmap::DashMap;
use wire::Backing;

use crate::inode::Ino;

/// Handle of a file that goes through the cache.
const CACHED: u64 = 1;
/// Handle of one that goes past it.
const DIRECT: u64 = 2;

/// How a file was opened.
#[derive(Debug)]
pub(super) enum Way {
    /// Through the cache, which may be kept from earlier if the flag is set.
    Cached(u64, bool),
    /// Past it.
    Direct(u64, Arc<Backing>),
}

/// The open files.
#[derive(Debug, Default)]
pub(super) struct Opens {
    files: DashMap<u64, Open>,
    has_failed: AtomicBool,
}

/// One inode's descriptors.
#[derive(Debug, Default)]
struct Open {
    cached: u64,
    direct: u64,
    backing: Option<Arc<Backing>>,
}

impl Opens {
    /// Counts one more descriptor. `upper` is the file of the upper that has the data, if one has, and
    /// `register` tells the kernel of it.
    pub(super) fn open(
        &self,
        ino: Ino,
        upper: Option<Arc<OwnedFd>>,
        register: impl FnOnce(&OwnedFd) -> sys::Result<Backing>,
    ) -> Way {
        let mut open = self.files.entry(ino.0).or_default();
        // What the kernel has of a file that it wrote itself is of before.
        let keep = upper.is_none();
        if open.cached == 0 && open.backing.is_none() {
            open.backing = upper.and_then(|fd| self.registered(register(&fd)));
        }
        match &open.backing {
            Some(backing) => {
                let backing = Arc::clone(backing);
                open.direct += 1;
                Way::Direct(DIRECT, backing)
            }
            None => {
                open.cached += 1;
                Way::Cached(CACHED, keep)
            }
        }
    }

    fn registered(&self, id: sys::Result<Backing>) -> Option<Arc<Backing>> {
        match id {
            Ok(id) => Some(Arc::new(id)),
            Err(e) => {
                if !self.has_failed.swap(true, Ordering::Relaxed) {
                    log::warn!(
                        "io=passthrough: the kernel doesn't take the upper's files: {}",
                        e.desc()
                    );
                }
                None
            }
        }
    }

    /// Counts one descriptor less.
    pub(super) fn release(&self, ino: Ino, handle: u64) {
        self.files.remove_if_mut(&ino.0, |_, open| {
            let count = if handle == DIRECT { &mut open.direct } else { &mut open.cached };
            *count = count.saturating_sub(1);
            if open.direct == 0 {
                open.backing = None;
            }
            open.direct == 0 && open.cached == 0
        });
    }
}
