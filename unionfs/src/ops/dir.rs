//! Reading directories, from the merged listing.

use std::ffi::OsStr;
use std::ops::Range;
use std::os::unix::ffi::OsStrExt;
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

/// Names out of a listing.
#[derive(Default)]
struct Batch {
    /// One after another.
    text: Vec<u8>,
    /// Where each name is in the text.
    seats: Vec<(Range<usize>, Cookie)>,
}

impl Batch {
    fn entries(&self) -> impl Iterator<Item = (&OsStr, Cookie)> {
        let name =
            |at: &Range<usize>| OsStr::from_bytes(self.text.get(at.clone()).unwrap_or_default());
        self.seats.iter().map(move |(at, cookie)| (name(at), *cookie))
    }
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
        let list = listing::ensure(&self.core, &dir, None)?.ok_or(Errno::EIO)?;
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
        let mut batch = Batch::default();
        loop {
            // Looking up an entry needs the listing again, so some are copied out of it.
            self.fill(&mut batch, &dir, at)?;
            for (name, cookie) in batch.entries() {
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
            if batch.seats.len() < BATCH {
                return Ok(());
            }
        }
    }

    fn fill(&self, batch: &mut Batch, dir: &Arc<Inode>, after: u64) -> Result<()> {
        let list = listing::ensure(&self.core, dir, None)?.ok_or(Errno::EIO)?;
        batch.text.clear();
        batch.seats.clear();
        for (name, seat) in list.after(Cookie(after)).take(BATCH) {
            let start = batch.text.len();
            batch.text.extend_from_slice(name.as_bytes());
            batch.seats.push((start..batch.text.len(), seat.cookie));
        }
        Ok(())
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
