//! What a mount tells of itself: a line for SIGUSR1, and JSON for `unionctl stats`, which asks by an ioctl(2)
//! of the mount's root.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use serde::{Deserialize, Serialize};
use sys::Errno;

use super::Union;

/// Room for the answer, which is JSON and zeros behind it.
pub const ROOM: usize = 4096;
/// The request: reads [`ROOM`] bytes. Whoever may open the root may ask.
pub const REQUEST: u32 = nix::request_code_read!(b'u', 0x70, ROOM) as u32;

/// How much a mount keeps, and what it did.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Statistics {
    /// Known inodes.
    pub inodes: usize,
    /// Those with open descriptors.
    pub inodes_with_descriptors: usize,
    /// Bytes of merged listings.
    pub listing_bytes: usize,
    /// Beyond how many some are dropped; `None` without a limit.
    pub listing_limit: Option<usize>,
    /// Bytes of the daemon that are in memory; `None` where /proc can't tell.
    pub resident_bytes: Option<u64>,
    /// Threads that take messages of the device.
    pub threads: usize,
    /// Those that wait for one at the moment.
    pub readers: usize,
    /// How often one was called to help.
    pub calls: u64,
    /// Threads that take messages through io_uring.
    pub io_uring_threads: usize,
    /// Messages by operation.
    pub messages: BTreeMap<String, u64>,
}

impl Statistics {
    /// Gathers them; the transport knows how many threads take messages through io_uring, and how many
    /// messages there were.
    pub fn new(
        union: &Union,
        io_uring_threads: usize,
        messages: impl Iterator<Item = (&'static str, u64)>,
    ) -> Statistics {
        let core = &union.core;
        let (readers, calls) = core.turns.readers_and_calls();
        Statistics {
            inodes: core.table.len(),
            inodes_with_descriptors: core.fds.len(),
            listing_bytes: core.kept.bytes(),
            listing_limit: core.kept.limit(),
            resident_bytes: resident_bytes(),
            threads: core.turns.threads(),
            readers,
            calls,
            io_uring_threads,
            messages: messages.map(|(name, n)| (name.to_owned(), n)).collect(),
        }
    }

    /// Asks the mount at a path.
    ///
    /// # Errors
    /// `ENOTTY` and others: there is none of ours. `EBADMSG`: one of another version.
    pub fn of_mount(path: &Path) -> sys::Result<Statistics> {
        let open = std::fs::File::open(path);
        let root = open.map_err(|e| Errno::from_raw(e.raw_os_error().unwrap_or(libc::EIO)))?;
        let mut answer = vec![0; ROOM];
        sys::copy::ask(&root, REQUEST, &mut answer)?;
        let end = answer.iter().position(|b| *b == 0).unwrap_or(ROOM);
        answer.truncate(end);
        serde_json::from_slice(&answer).map_err(|_| Errno::EBADMSG)
    }
}

fn resident_bytes() -> Option<u64> {
    let statm = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = statm.split_whitespace().nth(1)?.parse().ok()?;
    let page = nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE).ok()??;
    Some(pages * u64::try_from(page).ok()?)
}

impl fmt::Display for Statistics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} inodes, {} with descriptors; {} of {} threads read, {} calls for help; {} kB of listings; ",
            self.inodes,
            self.inodes_with_descriptors,
            self.readers,
            self.threads,
            self.calls,
            self.listing_bytes.div_ceil(1024),
        )?;
        if self.io_uring_threads > 0 {
            write!(f, "{} threads of io_uring; ", self.io_uring_threads)?;
        }
        let messages: Vec<_> =
            self.messages.iter().map(|(name, n)| format!("{n} {name}")).collect();
        write!(f, "messages: {}", messages.join(", "))
    }
}
