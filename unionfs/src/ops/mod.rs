//! The operations: each takes our own types and returns a value or the number of an error; the
//! transport does the rest.

mod ahead;
pub mod attr;
mod caller;
pub mod dir;
pub mod io;
pub mod link;
pub mod lookup;
pub mod make;
pub mod remove;
pub mod rename;
pub mod setattr;
pub mod statistics;
pub mod xattr;

use std::ffi::OsStr;
use std::sync::Arc;

use daemon::Turns;
use parking_lot::RwLock;
use sys::stat::Stat;

use self::ahead::Ahead;
use crate::error::Result;
use crate::inode::{Cookie, Core, Entry, Inode, Listing, Seen, Slots};
use crate::layer::idmap::{DiskId, UnionId};

/// No user or group (`FUSE_INVALID_UIDGID`).
pub const UNKNOWN: UnionId = UnionId(u32::MAX);

/// Who asks.
#[derive(Clone, Copy, Debug)]
pub struct Caller {
    /// Effective user, as the mount's user namespace numbers it; [`UNKNOWN`] where the kernel tells it only
    /// of who makes something, as the mount may have idmapped copies.
    pub uid: UnionId,
    /// Effective group, or [`UNKNOWN`].
    pub gid: UnionId,
    /// Process, 0 where it isn't visible.
    pub pid: u32,
}

/// A mounted union.
#[derive(Debug)]
pub struct Union {
    pub(crate) core: Core,
    /// Renames that move names between directories exclude each other.
    pub(crate) renames: RwLock<()>,
    ahead: Ahead,
}

impl Union {
    /// Makes the operations of a prepared core.
    pub fn new(core: Core) -> Union {
        Union { core, renames: RwLock::new(()), ahead: Ahead::default() }
    }

    /// Returns the turns of the threads that serve.
    pub fn turns(&self) -> Arc<Turns> {
        Arc::clone(&self.core.turns)
    }

    /// Ends the mount: nobody asks any more.
    pub fn finish(&self) {
        if let Some(upper) = self.core.stack.upper_opt() {
            upper.finish();
        }
    }

    /// Translates the owners of an object.
    fn owned(&self, mut stat: Stat) -> Stat {
        stat.uid = self.core.options.uids.shown(DiskId(stat.uid)).0;
        stat.gid = self.core.options.gids.shown(DiskId(stat.gid)).0;
        stat
    }

    /// Changes the listing of a directory, if it has one.
    fn relist<T>(&self, dir: &Arc<Inode>, f: impl FnOnce(&mut Listing) -> T) -> Result<Option<T>> {
        Ok(self.core.dir(dir)?.listing.write().as_mut().map(f))
    }

    /// Notes that a name of a directory now leads to an object of the upper; `below` says whether a
    /// lower would show something there without it.
    fn list_present(
        &self,
        dir: &Arc<Inode>,
        name: &OsStr,
        object: &Inode,
        below: bool,
    ) -> Result<()> {
        let new = Entry {
            cookie: Cookie(0),
            seen: Seen::Present,
            kind: object.dirent_kind(),
            number: object.number(),
            in_upper: true,
            below,
            lowers: Slots::default(),
        };
        self.relist(dir, |l| l.put(name, new))?.unwrap_or(Ok(()))
    }
}
