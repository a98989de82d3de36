//! Negotiation with the kernel, and what replies say about caching.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use daemon::Turns;
use fuser::{InitFlags, KernelConfig};

use super::opens::Opens;
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

/// How files are opened, read and written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Io {
    /// Without messages where the kernel can.
    #[default]
    Auto,
    /// Without messages: the kernel opens files by itself.
    NoOpen,
    /// Files of the upper are read and written by the kernel itself.
    Passthrough,
    /// With messages, through the kernel's cache.
    Cached,
}

/// Largest request that carries data.
const MAX_WRITE: u32 = 1 << 20;

/// A union as the session serves it.
#[derive(Debug)]
pub struct Served {
    pub(super) union: Arc<Union>,
    pub(super) cache: Cache,
    pub(super) io: Io,
    /// The kernel needs no OPEN requests.
    pub(super) no_open: bool,
    /// The kernel needs no OPENDIR requests.
    pub(super) no_opendir: bool,
    /// Where it does, and passes files through.
    pub(super) opens: Opens,
    /// Each message is one.
    pub(super) turns: Arc<Turns>,
}

impl Served {
    /// Makes a union ready to be served.
    pub fn new(union: Arc<Union>, cache: Cache, io: Io) -> Served {
        let turns = union.turns();
        Served {
            union,
            cache,
            io,
            no_open: false,
            no_opendir: false,
            opens: Opens::default(),
            turns,
        }
    }

    /// Asks for what we implement in full, and for nothing that `fuser` only has a name for.
    pub(super) fn negotiate(&mut self, config: &mut KernelConfig) -> io::Result<()> {
        let offered = config.capabilities();
        let mut needed =
            InitFlags::FUSE_DONT_MASK | InitFlags::FUSE_BIG_WRITES | InitFlags::FUSE_MAX_PAGES;
        if !self.union.core.options.no_acls {
            needed |= InitFlags::FUSE_POSIX_ACL;
        }
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
        self.no_opendir = offered.contains(InitFlags::FUSE_NO_OPENDIR_SUPPORT);
        self.negotiate_io(config)?;
        if config.set_max_write(MAX_WRITE).is_err() {
            log::debug!("largest write stays as the kernel has it");
        }
        if config.set_time_granularity(Duration::from_nanos(1)).is_err() {
            log::debug!("granularity of times stays as the kernel has it");
        }
        Ok(())
    }

    /// Decides on OPEN requests and on passthrough.
    fn negotiate_io(&mut self, config: &mut KernelConfig) -> io::Result<()> {
        let offered = config.capabilities();
        let ask = |config: &mut KernelConfig, flag| {
            config.add_capabilities(flag).map_err(|_| io::Error::other(format!("no {flag:?}")))
        };
        match self.io {
            Io::Cached => {}
            Io::Auto | Io::NoOpen => {
                self.no_open = offered.contains(InitFlags::FUSE_NO_OPEN_SUPPORT);
                if self.no_open {
                    ask(config, InitFlags::FUSE_NO_OPEN_SUPPORT)?;
                } else if self.io == Io::NoOpen {
                    return Err(io::Error::other("io=noopen: Linux 5.1 or newer is needed"));
                }
            }
            Io::Passthrough => {
                // The kernel checks this at each open only.
                let may = sys::process::has_capability(sys::process::CAP_SYS_ADMIN)
                    && sys::process::is_in_first_user_namespace();
                if !may {
                    return Err(io::Error::other(
                        "io=passthrough: only root outside of any user namespace may; use io=auto",
                    ));
                }
                if !offered.contains(InitFlags::FUSE_PASSTHROUGH) {
                    return Err(io::Error::other(
                        "io=passthrough: Linux 6.9 or newer with CONFIG_FUSE_PASSTHROUGH is needed",
                    ));
                }
                ask(config, InitFlags::FUSE_PASSTHROUGH)?;
                // The upper may not be a stacked file system itself; overlayfs may lie on this one.
                if config.set_max_stack_depth(1).is_err() {
                    return Err(io::Error::other("io=passthrough: the kernel allows no stacking"));
                }
            }
        }
        Ok(())
    }
}
