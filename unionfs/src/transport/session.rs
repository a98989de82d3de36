//! Negotiation with the kernel, and what replies say about caching.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use daemon::Turns;
use fuser::{InitFlags, KernelConfig};

use crate::ops::Union;

/// How long the kernel may keep what it was told. All changes come through the mount, so nothing
/// becomes stale by itself.
#[derive(Clone, Copy, Debug)]
pub struct Cache {
    /// Time of entries and attributes.
    pub valid: Duration,
    /// Time of names that don't exist.
    pub negative: Duration,
}

/// Largest request that carries data.
const MAX_WRITE: u32 = 1 << 20;

/// A union as the session serves it.
#[derive(Debug)]
pub struct Served {
    pub(super) union: Arc<Union>,
    pub(super) cache: Cache,
    /// The kernel needs no OPEN and OPENDIR requests.
    pub(super) no_open: bool,
    /// Each message is one.
    pub(super) turns: Arc<Turns>,
}

impl Served {
    /// Makes a union ready to be served.
    pub fn new(union: Arc<Union>, cache: Cache) -> Served {
        let turns = union.turns();
        Served { union, cache, no_open: false, turns }
    }

    /// Asks for what we implement in full, and for nothing that `fuser` only has a name for.
    pub(super) fn negotiate(&mut self, config: &mut KernelConfig) -> io::Result<()> {
        let offered = config.capabilities();
        let needed = InitFlags::FUSE_DONT_MASK
            | InitFlags::FUSE_POSIX_ACL
            | InitFlags::FUSE_BIG_WRITES
            | InitFlags::FUSE_MAX_PAGES;
        let welcome = InitFlags::FUSE_PARALLEL_DIROPS
            | InitFlags::FUSE_ASYNC_READ
            | InitFlags::FUSE_ASYNC_DIO
            | InitFlags::FUSE_CACHE_SYMLINKS
            | InitFlags::FUSE_DO_READDIRPLUS
            | InitFlags::FUSE_READDIRPLUS_AUTO
            | InitFlags::FUSE_HANDLE_KILLPRIV_V2
            | InitFlags::FUSE_EXPLICIT_INVAL_DATA
            | InitFlags::FUSE_HAS_IOCTL_DIR
            | InitFlags::FUSE_NO_EXPORT_SUPPORT
            | InitFlags::FUSE_NO_OPEN_SUPPORT
            | InitFlags::FUSE_NO_OPENDIR_SUPPORT;
        let add = |config: &mut KernelConfig, flags| {
            config.add_capabilities(flags).map_err(|missing| {
                io::Error::other(format!(
                    "the kernel's FUSE lacks {missing:?}: Linux 4.20 or newer is needed"
                ))
            })
        };
        add(config, needed)?;
        add(config, welcome & offered)?;
        // Without an OPEN request O_TRUNC must come as a SETATTR, so ATOMIC_O_TRUNC is never asked
        // for.
        self.no_open =
            offered.contains(InitFlags::FUSE_NO_OPEN_SUPPORT | InitFlags::FUSE_NO_OPENDIR_SUPPORT);
        if config.set_max_write(MAX_WRITE).is_err() {
            log::debug!("largest write stays as the kernel has it");
        }
        if config.set_time_granularity(Duration::from_nanos(1)).is_err() {
            log::debug!("granularity of times stays as the kernel has it");
        }
        Ok(())
    }
}
