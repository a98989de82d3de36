//! Reading directories, from the merged listing.

use std::ffi::{OsStr, OsString};
use std::sync::Arc;

use sys::Errno;
use sys::stat::Stat;

use super::Union;
use crate::error::Result;
use crate::inode::{Cookie, Ino, Inode};
use crate::resolve::{self, listing};

/// Cookies of `.` and `..`; the listing's own come after.
const DOTS: u64 = 2;
/// Entries that are taken out of the listing at once.
const BATCH: usize = 128;
/// Up to this place of a listing, entries are shown with their attributes: whoever lists a directory
/// mostly asks for them next, or removes all (rm -r looks each name up). What is behind fills the
/// caches of kernel and daemon, and a mere listing of a huge directory needs it not.
const WITH_ATTRIBUTES: u64 = 4096;

/// One entry for the kernel.
#[derive(Debug)]
pub struct DirEntry<'a> {
    /// Name.
    pub name: &'a OsStr,
    /// `st_ino`.
    pub number: u64,
    /// `DT_*` type.
    pub kind: u8,
    /// Where to go on after it.
    pub next: u64,
}

impl Union {
    /// Hands entries from `offset` on to `add` until it returns true (it has no more room).
    pub fn readdir(
        &self,
        ino: Ino,
        offset: u64,
        mut add: impl FnMut(DirEntry<'_>) -> bool,
    ) -> Result<()> {
        let dir = self.core.inode(ino)?;
        if self.dots(&dir, offset, &mut add) {
            return Ok(());
        }
        listing::ensure(&self.core, &dir, None)?;
        let guard = self.core.dir(&dir)?.listing.read();
        let list = guard.as_ref().ok_or(Errno::EIO)?;
        for (name, e) in list.after(Cookie(offset.saturating_sub(DOTS))) {
            let next = e.cookie.0 + DOTS;
            if add(DirEntry { name, number: e.number, kind: e.kind, next }) {
                break;
            }
        }
        Ok(())
    }

    /// As [`Union::readdir`], with the attributes of each entry, which counts one more lookup if
    /// `add` takes it. `.`, `..` and what comes late in a huge directory have none.
    pub fn readdirplus(
        &self,
        ino: Ino,
        offset: u64,
        mut add: impl FnMut(DirEntry<'_>, Option<&Stat>) -> bool,
    ) -> Result<()> {
        let dir = self.core.inode(ino)?;
        if self.dots(&dir, offset, &mut |e| add(e, None)) {
            return Ok(());
        }
        let mut at = offset.saturating_sub(DOTS);
        if at >= WITH_ATTRIBUTES {
            return self.readdir(ino, offset, |e| add(e, None));
        }
        listing::ensure(&self.core, &dir, None)?;
        loop {
            // Looking up an entry needs the listing again, so a batch is copied out of it.
            let batch = self.batch(&dir, at)?;
            for (name, cookie) in &batch {
                at = cookie.0;
                let Some(found) = resolve::find(&self.core, &dir, name)? else { continue };
                let (inode, stat) = resolve::enter(&self.core, &dir, name, found);
                let stat = self.owned(stat);
                let entry = DirEntry {
                    name,
                    number: inode.number(),
                    kind: inode.dirent_kind(),
                    next: cookie.0 + DOTS,
                };
                if add(entry, Some(&stat)) {
                    self.core.table.forget(inode.id, 1);
                    return Ok(());
                }
            }
            if batch.len() < BATCH {
                return Ok(());
            }
        }
    }

    fn batch(&self, dir: &Arc<Inode>, after: u64) -> Result<Vec<(OsString, Cookie)>> {
        let guard = self.core.dir(dir)?.listing.read();
        let list = guard.as_ref().ok_or(Errno::EIO)?;
        let rest = list.after(Cookie(after)).take(BATCH);
        Ok(rest.map(|(n, e)| (n.to_os_string(), e.cookie)).collect())
    }

    fn dots(
        &self,
        dir: &Arc<Inode>,
        offset: u64,
        add: &mut impl FnMut(DirEntry<'_>) -> bool,
    ) -> bool {
        let parent = dir.place.read().first_name().map_or(dir.number(), |n| n.parent.number());
        let dots = [(".", dir.number()), ("..", parent)];
        dots.iter().zip(1..).skip(offset as usize).any(|(&(name, number), next)| {
            add(DirEntry { name: OsStr::new(name), number, kind: libc::DT_DIR, next })
        })
    }
}
