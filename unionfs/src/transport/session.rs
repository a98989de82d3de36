//! Negotiation with the kernel, and what replies say about caching.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use daemon::Turns;
use wire::abi::init;
use wire::{Agreement, Counts, Lanes, Offer};

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

/// Whether messages come through io_uring.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Uring {
    /// Where the kernel offers it and this process may.
    #[default]
    WhereOffered,
    /// Or there is no mount.
    Always,
    /// They come by the device.
    Never,
}

/// How messages come, and for which files there are any.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ways {
    /// Opening, reading and writing.
    pub io: Io,
    /// The transport.
    pub uring: Uring,
}

/// Largest request that carries data.
const MAX_WRITE: u32 = 1 << 20;

/// A union as the session serves it.
#[derive(Debug)]
pub struct Served {
    pub(super) union: Arc<Union>,
    pub(super) cache: Cache,
    pub(super) ways: Ways,
    /// The mount has `default_permissions`, as ours have.
    pub(super) checks_permissions: bool,
    /// The kernel needs no OPEN messages.
    pub(super) no_open: bool,
    /// The kernel needs no OPENDIR messages.
    pub(super) no_opendir: bool,
    /// Where it does, and passes files through.
    pub(super) opens: Opens,
    /// Each message is one.
    pub(super) turns: Arc<Turns>,
    /// Messages so far.
    pub(super) counts: Arc<Counts>,
}

impl Served {
    /// Makes a union ready to be served. `checks_permissions`: the kernel does, by owners and modes.
    /// `counts` is the session's.
    pub fn new(
        union: Arc<Union>,
        cache: Cache,
        ways: Ways,
        checks_permissions: bool,
        counts: Arc<Counts>,
    ) -> Served {
        let turns = union.turns();
        Served {
            union,
            cache,
            ways,
            checks_permissions,
            no_open: false,
            no_opendir: false,
            opens: Opens::default(),
            turns,
            counts,
        }
    }

    /// Asks for what we implement in full, and for nothing else.
    pub(super) fn negotiate(&mut self, offer: &Offer) -> io::Result<Agreement> {
        let mut needed = init::DONT_MASK | init::BIG_WRITES | init::MAX_PAGES;
        if !self.union.core.options.no_acls {
            needed |= init::POSIX_ACL;
        }
        // Without an OPEN message O_TRUNC must come as a SETATTR, so ATOMIC_O_TRUNC is never asked
        // for.
        let welcome = init::PARALLEL_DIROPS
            | init::ASYNC_READ
            | init::ASYNC_DIO
            | init::CACHE_SYMLINKS
            | init::DO_READDIRPLUS
            | init::HANDLE_KILLPRIV_V2
            | init::EXPLICIT_INVAL_DATA
            | init::HAS_IOCTL_DIR
            | init::NO_EXPORT_SUPPORT
            | init::NO_OPENDIR_SUPPORT;
        if offer.flags & needed != needed {
            return Err(io::Error::other(
                "the kernel's FUSE lacks what is needed: Linux 4.20 or newer",
            ));
        }
        self.no_opendir = offer.flags & init::NO_OPENDIR_SUPPORT != 0;
        let (opening, max_stack_depth) = self.negotiate_io(offer)?;
        let mut flags = needed | welcome | opening;
        // Without that, the kernel ends the connection.
        if self.checks_permissions {
            flags |= init::ALLOW_IDMAP;
        }
        let lanes = self.negotiate_uring(offer)?;
        Ok(Agreement { flags, max_write: MAX_WRITE, max_stack_depth, lanes })
    }

    /// Decides on io_uring.
    fn negotiate_uring(&self, offer: &Offer) -> io::Result<Option<Lanes>> {
        let is_offered = offer.flags & init::OVER_IO_URING != 0;
        let lanes = match self.ways.uring {
            Uring::Never => return Ok(None),
            Uring::WhereOffered if !is_offered => return Ok(None),
            Uring::Always if !is_offered => Err(io::Error::other(
                "the kernel doesn't offer it: Linux 6.14 or newer is needed, and that root writes Y to \
                 /sys/module/fuse/parameters/enable_uring",
            )),
            _ => Lanes::new(MAX_WRITE, self.turns.threads()),
        };
        match (lanes, self.ways.uring) {
            (Err(e), Uring::Always) => Err(io::Error::other(format!("io_uring: {e}"))),
            (Err(e), _) => {
                log::info!("messages come by the device: io_uring: {e}");
                Ok(None)
            }
            (lanes, _) => lanes.map(Some),
        }
    }

    /// Decides on OPEN messages and on passthrough, and how deep that may be stacked.
    fn negotiate_io(&mut self, offer: &Offer) -> io::Result<(u64, u32)> {
        match self.ways.io {
            Io::Cached => Ok((0, 0)),
            Io::Auto | Io::NoOpen => {
                self.no_open = offer.flags & init::NO_OPEN_SUPPORT != 0;
                if !self.no_open && self.ways.io == Io::NoOpen {
                    return Err(io::Error::other("io=noopen: Linux 5.1 or newer is needed"));
                }
                Ok((init::NO_OPEN_SUPPORT, 0))
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
                if offer.flags & init::PASSTHROUGH == 0 {
                    return Err(io::Error::other(
                        "io=passthrough: Linux 6.9 or newer with CONFIG_FUSE_PASSTHROUGH is needed",
                    ));
                }
                // The upper may not be a stacked file system itself; overlayfs may lie on this one.
                Ok((init::PASSTHROUGH, 1))
            }
        }
    }
}
