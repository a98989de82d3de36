//! The merged listing of one directory: each layer is read once, and the result is kept.

use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use parking_lot::{MappedRwLockReadGuard, RwLockReadGuard, RwLockWriteGuard};
use sys::{Errno, Result, getdents, xattr};

use crate::inode::{Cookie, Core, Entry, Inode, Listing, Seen, Slots, index};
use crate::layer::marks::{self, Marks, Opaque};

/// One name as one layer has it.
struct Raw<'a> {
    name: &'a OsStr,
    kind: u8,
    number: u64,
    /// The layer's own number.
    own: u64,
    /// The object hides what lower layers have at the name, whatever its type.
    opaque: bool,
}

/// Takes the objects that a layer has in a directory.
type Sink<'a> = dyn FnMut(&Raw<'_>) -> Result<()> + 'a;

/// A listing that stays as long as this is there.
pub type Held<'a> = MappedRwLockReadGuard<'a, Listing>;

/// Returns the listing of a directory, and makes it unless it is there. With a limit, gives up quietly on
/// a directory of which some layer has more names.
pub fn ensure<'a>(
    core: &Core,
    dir: &'a Arc<Inode>,
    limit: Option<usize>,
) -> Result<Option<Held<'a>>> {
    let state = dir.dir.as_ref().ok_or(Errno::ENOTDIR)?;
    if let Ok(known) = RwLockReadGuard::try_map(state.listing.read(), Option::as_ref) {
        known.note_use();
        return Ok(Some(known));
    }
    // Held while the layers are read, so that no change can be missed between.
    let mut slot = state.listing.write();
    let is_new = slot.is_none();
    if is_new {
        *slot = build(core, dir, limit)?.map(|mut listing| {
            core.kept.count(&mut listing);
            listing
        });
    }
    let listing = RwLockReadGuard::try_map(RwLockWriteGuard::downgrade(slot), Option::as_ref).ok();
    if is_new && listing.is_some() {
        core.kept.make_room(dir);
    }
    Ok(listing)
}

fn build(core: &Core, dir: &Arc<Inode>, limit: Option<usize>) -> Result<Option<Listing>> {
    let (has_upper, lowers) = {
        let place = dir.place.read();
        (place.has_upper(), place.lower_refs()?)
    };
    let mut merge = Merge::default();
    if has_upper {
        let fd = core.upper_dir(dir)?;
        let impure = core.dir(dir)?.impure.load(Ordering::Relaxed);
        let more = !lowers.is_empty();
        let read = ReadLayer {
            core,
            is_upper: true,
            has_types: core.stack.upper()?.permissions().is_some(),
            xattr_whiteouts: false,
            impure,
            more,
        };
        let hidden = read.read(&fd, limit, &mut |raw| merge.upper(raw, more))?;
        let Some(hidden) = hidden else { return Ok(None) };
        merge.listing.index();
        merge.hidden_by_upper(hidden)?;
    }
    for (i, at) in lowers.iter().enumerate().filter(|(_, at)| !at.barrier) {
        let fd = core.lower_dir(dir, i)?;
        let more = i + 1 < lowers.len();
        let read = ReadLayer {
            core,
            is_upper: false,
            has_types: core.stack.lower(at.layer)?.permissions().is_some(),
            xattr_whiteouts: at.xattr_whiteouts,
            impure: false,
            more,
        };
        // The names of one layer differ, and aren't found before all of them are there.
        let is_first = merge.listing.is_empty();
        let mut take = |raw: &Raw<'_>| {
            let is_known = !is_first && merge.listing.contains(raw.name);
            merge.lower(i as u16, raw, is_known, more)
        };
        let Some(hidden) = read.read(&fd, limit, &mut take)? else { return Ok(None) };
        merge.listing.index();
        if more {
            merge.hidden_by_lower(hidden);
        }
    }
    merge.listing.complete();
    Ok(Some(merge.listing))
}

/// How one layer of a directory is read.
struct ReadLayer<'a> {
    core: &'a Core,
    is_upper: bool,
    /// Types may be kept in attributes.
    has_types: bool,
    xattr_whiteouts: bool,
    impure: bool,
    more: bool,
}

impl ReadLayer<'_> {
    /// Hands over what the layer has, and returns the names that it hides in layers below; or nothing, if
    /// it has more names than the limit.
    fn read(
        &self,
        dir: &OwnedFd,
        limit: Option<usize>,
        sink: &mut Sink<'_>,
    ) -> Result<Option<Vec<OsString>>> {
        let device = self.core.numbers.device(sys::stat::stat_fd(dir)?.dev);
        let mut left = limit.unwrap_or(usize::MAX);
        let mut too_large = false;
        let mut odd = Vec::new();
        getdents::for_each(Core::readable(dir)?, |e| {
            if left == 0 {
                too_large = true;
                return Err(Errno::E2BIG);
            }
            if self.needs_a_look(e.name, e.kind) {
                odd.push((e.name.to_os_string(), e.kind, e.ino));
                return Ok(());
            }
            left -= 1;
            let number = device.number(e.ino);
            sink(&Raw { name: e.name, kind: e.kind, number, own: e.ino, opaque: false })
        })
        .or_else(|e| if too_large { Ok(()) } else { Err(e) })?;
        if too_large {
            return Ok(None);
        }
        let mut hidden = Vec::new();
        for (name, kind, own) in &odd {
            let (kind, own) = (*kind, *own);
            let raw = Raw { name, kind, number: device.number(own), own, opaque: false };
            self.look(dir, raw, &mut hidden, sink)?;
        }
        Ok(Some(hidden))
    }

    /// Whether an entry's name and type alone don't tell what it is.
    fn needs_a_look(&self, name: &OsStr, kind: u8) -> bool {
        match kind {
            libc::DT_CHR | libc::DT_UNKNOWN => true,
            libc::DT_REG => {
                self.has_types
                    || self.xattr_whiteouts
                    || self.impure
                    || name.as_bytes().starts_with(marks::DOT_WH)
            }
            libc::DT_DIR => self.more,
            libc::DT_LNK => self.impure,
            _ => self.impure,
        }
    }

    fn look(
        &self,
        dir: &OwnedFd,
        mut raw: Raw<'_>,
        hidden: &mut Vec<OsString>,
        sink: &mut Sink<'_>,
    ) -> Result<()> {
        if matches!(raw.kind, libc::DT_CHR | libc::DT_UNKNOWN) {
            let stat = match sys::stat::stat_at_unsynced(dir, raw.name) {
                Err(Errno::ENOENT) => return Ok(()),
                r => r?,
            };
            if stat.is_whiteout_device() {
                hidden.push(raw.name.to_os_string());
                return Ok(());
            }
            raw.kind = (stat.kind() >> 12) as u8;
        }
        if raw.name == marks::DOT_WH_OPAQUE {
            return Ok(());
        }
        let m = match Marks::read(xattr::Target::At(dir.as_fd(), raw.name)) {
            Err(Errno::ENOENT) => return Ok(()),
            r => r?,
        };
        if raw.kind == libc::DT_REG && !m.literal && raw.name.as_bytes().starts_with(marks::DOT_WH)
        {
            hidden.extend(marks::dot_wh_hides(raw.name).map(OsStr::to_os_string));
            return Ok(());
        }
        if self.xattr_whiteouts && raw.kind == libc::DT_REG && m.whiteout {
            hidden.push(raw.name.to_os_string());
            return Ok(());
        }
        // A redirected directory merges with others than those of its name.
        raw.opaque = m.opaque == Opaque::Yes
            || m.redirect.is_some()
            || raw.kind == libc::DT_DIR && has_sentinel(dir, raw.name)?;
        if !self.is_upper {
            return sink(&raw);
        }
        let origin = m.origin.as_ref().filter(|_| raw.kind != libc::DT_DIR);
        let lower = || origin.and_then(|o| index::lower_of(self.core, o));
        let unmarked = || self.core.unmarked.get(&raw.own).map(|n| *n);
        let told = || origin.and_then(|o| index::number_in(self.core, o));
        let found = m.number.or_else(told).or_else(unmarked);
        if let Some(number) = found.or_else(|| lower().map(|l| self.core.numbers.of(l.dev, l.ino)))
        {
            raw.number = number;
        }
        sink(&raw)
    }
}

fn has_sentinel(dir: &OwnedFd, name: &OsStr) -> Result<bool> {
    let mut path = name.to_os_string();
    path.push("/");
    path.push(marks::DOT_WH_OPAQUE);
    match sys::stat::stat_at_unsynced(dir, &path) {
        Ok(_) => Ok(true),
        Err(Errno::ENOENT | Errno::EACCES) => Ok(false),
        Err(e) => Err(e),
    }
}

/// The listing as it grows from the top layer down.
#[derive(Default)]
struct Merge {
    listing: Listing,
    /// Names for which lower layers don't matter to what users see.
    closed: HashSet<OsString>,
    /// Names for which it is known whether a lower shows something.
    settled: HashSet<OsString>,
}

impl Merge {
    /// Takes an object of the upper; `more`: there are layers below.
    fn upper(&mut self, raw: &Raw<'_>, more: bool) -> Result<()> {
        if more && (raw.kind != libc::DT_DIR || raw.opaque) {
            self.closed.insert(raw.name.to_os_string());
        }
        self.listing.add(raw.name, Entry { in_upper: true, ..blank(raw) })
    }

    fn hidden_by_upper(&mut self, names: Vec<OsString>) -> Result<()> {
        for name in names {
            // A removed and re-made directory has its `.wh.` file beside it.
            if !self.listing.contains(&name) {
                let raw = Raw { name: &name, kind: 0, number: 0, own: 0, opaque: false };
                self.listing.put(&name, Entry { seen: Seen::Whiteout, ..blank(&raw) })?;
            }
            self.closed.insert(name);
        }
        Ok(())
    }

    /// Takes an object of a lower; `is_known`: a layer above has the name. Only layers below that are
    /// asked ever again what is settled.
    fn lower(&mut self, index: u16, raw: &Raw<'_>, is_known: bool, more: bool) -> Result<()> {
        let first_below = match more {
            true => self.settled.insert(raw.name.to_os_string()),
            false => !self.settled.contains(raw.name),
        };
        // By a whiteout of a lower above, or by an object that doesn't merge.
        let is_closed = self.closed.contains(raw.name);
        let is_dir = raw.kind == libc::DT_DIR;
        if is_known {
            self.listing.update(raw.name, |e| {
                e.below |= first_below;
                if is_dir && !is_closed && e.seen == Seen::Present && e.kind == libc::DT_DIR {
                    if e.lowers.is_empty() {
                        e.number = raw.number;
                    }
                    e.lowers.push(index);
                }
            });
        } else if !is_closed {
            let entry = Entry { below: true, lowers: Slots::one(index), ..blank(raw) };
            self.listing.add(raw.name, entry)?;
        }
        if more && (!is_dir || raw.opaque) {
            self.closed.insert(raw.name.to_os_string());
        }
        Ok(())
    }

    fn hidden_by_lower(&mut self, names: Vec<OsString>) {
        for name in names {
            self.settled.insert(name.clone());
            self.closed.insert(name);
        }
    }
}

fn blank(raw: &Raw<'_>) -> Entry {
    Entry {
        cookie: Cookie(0),
        seen: Seen::Present,
        kind: raw.kind,
        number: raw.number,
        in_upper: false,
        below: false,
        lowers: Slots::default(),
    }
}
