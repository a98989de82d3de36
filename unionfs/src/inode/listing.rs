//! The merged listing of one directory, with cookies that stay valid while it changes.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::hash::{BuildHasher, RandomState};
use std::ops::Range;
use std::os::unix::ffi::OsStrExt;
use std::sync::atomic::{AtomicBool, Ordering};

use hashbrown::HashTable;
use sys::{Errno, Result};

use super::kept::Share;

/// Position in a listing: larger than 0, never used again for another name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cookie(pub u64);

/// What users see of a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// It exists.
    Present,
    /// It is hidden by a whiteout in the upper.
    Whiteout,
    /// It doesn't exist, and the upper has nothing at it.
    Gone,
}

/// One name.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Where it stands.
    pub cookie: Cookie,
    /// What users see.
    pub seen: Seen,
    /// `DT_*` type of the topmost object.
    pub kind: u8,
    /// Inode number to show.
    pub number: u64,
    /// The upper has an object (no whiteout) at this name.
    pub in_upper: bool,
    /// Without the upper a lower layer would show something here.
    pub below: bool,
    /// Which lowers of the directory hold a part: all that merge for a directory, one for others.
    pub lowers: Slots,
}

/// What readers of a directory are told of a name.
#[derive(Clone, Copy, Debug)]
pub struct Seat {
    /// Where it stands.
    pub cookie: Cookie,
    /// `DT_*` type.
    pub kind: u8,
    /// Inode number to show.
    pub number: u64,
}

/// Indices of lowers of a directory: nearly always none or one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Slots {
    first: Option<u16>,
    more: Option<Vec<u16>>,
}

impl Slots {
    /// Makes a list of one.
    pub fn one(slot: u16) -> Slots {
        Slots { first: Some(slot), more: None }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.first.is_none()
    }

    /// Returns the only one, if there is just one.
    pub fn single(&self) -> Option<u16> {
        self.first.filter(|_| self.more.is_none())
    }

    /// Whether a lower is among them.
    pub fn contains(&self, slot: u16) -> bool {
        self.first == Some(slot) || self.more.as_ref().is_some_and(|m| m.contains(&slot))
    }

    /// Adds one at the end.
    pub fn push(&mut self, slot: u16) {
        if self.first.is_none() {
            self.first = Some(slot);
        } else {
            self.more.get_or_insert_default().push(slot);
        }
    }
}

/// All names of a directory in a fixed order; new ones come last.
///
/// A row takes 24 bytes, its name as many as it has, and the index about six more: a directory of a
/// million names is kept in 40 MB.
#[derive(Debug, Default)]
pub struct Listing {
    rows: Vec<Row>,
    /// The names, one after another.
    text: Vec<u8>,
    /// Row numbers by name.
    index: HashTable<u32>,
    /// How many rows, from the first, went through it.
    indexed: usize,
    hasher: RandomState,
    /// The lowers of rows that have several.
    many: HashMap<u32, Slots>,
    last: u64,
    present: usize,
    gone: usize,
    /// It isn't any more as it was read.
    is_changed: bool,
    /// Somebody looked at all of it since it was last asked whether it stays.
    used: AtomicBool,
    share: Option<Share>,
}

/// An [`Entry`] as it is kept, with the place of its name in the text.
#[derive(Clone, Copy, Debug)]
struct Row {
    cookie: u64,
    number: u64,
    start: u32,
    slot: u16,
    len: u8,
    /// `DT_*` type in the lower half, [`IN_UPPER`], [`BELOW`], and what users see above them.
    bits: u8,
}

const IN_UPPER: u8 = 1 << 4;
const BELOW: u8 = 1 << 5;
const SEEN_SHIFT: u32 = 6;
/// No lower has a part.
const NO_SLOT: u16 = u16::MAX;
/// Several have; there are never so many layers.
const MANY_SLOTS: u16 = u16::MAX - 1;

impl Row {
    fn seen(&self) -> Seen {
        match self.bits >> SEEN_SHIFT {
            0 => Seen::Present,
            1 => Seen::Whiteout,
            _ => Seen::Gone,
        }
    }

    fn range(&self) -> Range<usize> {
        let start = self.start as usize;
        start..start + usize::from(self.len)
    }
}

impl Listing {
    fn name_of(&self, row: &Row) -> &OsStr {
        OsStr::from_bytes(self.text.get(row.range()).unwrap_or_default())
    }

    fn find(&self, name: &OsStr) -> Option<u32> {
        let is_it = |&i: &u32| self.rows.get(i as usize).is_some_and(|r| self.name_of(r) == name);
        self.index.find(self.hasher.hash_one(name), is_it).copied()
    }

    fn entry(&self, at: u32, row: &Row) -> Entry {
        let lowers = match row.slot {
            NO_SLOT => Slots::default(),
            MANY_SLOTS => self.many.get(&at).cloned().unwrap_or_default(),
            slot => Slots::one(slot),
        };
        Entry {
            cookie: Cookie(row.cookie),
            seen: row.seen(),
            kind: row.bits & 0xf,
            number: row.number,
            in_upper: row.bits & IN_UPPER != 0,
            below: row.bits & BELOW != 0,
            lowers,
        }
    }

    /// Stores everything of an entry but cookie and name.
    fn store(&mut self, at: u32, entry: Entry) {
        let slot = match entry.lowers.single() {
            None if entry.lowers.is_empty() => NO_SLOT,
            None => MANY_SLOTS,
            Some(slot) => slot,
        };
        let Some(row) = self.rows.get_mut(at as usize) else { return };
        let seen = entry.seen as u8;
        row.number = entry.number;
        row.bits = entry.kind & 0xf
            | if entry.in_upper { IN_UPPER } else { 0 }
            | if entry.below { BELOW } else { 0 }
            | seen << SEEN_SHIFT;
        if slot == MANY_SLOTS {
            self.many.insert(at, entry.lowers);
        } else if row.slot == MANY_SLOTS {
            self.many.remove(&at);
        }
        row.slot = slot;
    }

    /// Returns what is known of a name.
    pub fn get(&self, name: &OsStr) -> Option<Entry> {
        let at = self.find(name)?;
        self.rows.get(at as usize).map(|row| self.entry(at, row))
    }

    /// Whether anything is known of a name.
    pub fn contains(&self, name: &OsStr) -> bool {
        self.find(name).is_some()
    }

    /// Returns how many names users see.
    pub fn present(&self) -> usize {
        self.present
    }

    /// Returns how many names are known, hidden ones included.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether no name is known at all.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Puts a name in (at the end if it is new) with everything but its cookie as given.
    ///
    /// # Errors
    /// `ENAMETOOLONG`: more than 255 bytes. `EOVERFLOW`: the names together have more than 4 GiB.
    pub fn put(&mut self, name: &OsStr, entry: Entry) -> Result<()> {
        self.is_changed = true;
        let at = match self.find(name) {
            Some(at) => at,
            None => self.append(name)?,
        };
        self.replace(at, entry);
        Ok(())
    }

    /// Adds a name that isn't there, at the end; it is found after [`Listing::index`].
    ///
    /// # Errors
    /// As [`Listing::put`].
    pub fn add(&mut self, name: &OsStr, entry: Entry) -> Result<()> {
        let at = self.push(name)?;
        self.replace(at, entry);
        Ok(())
    }

    /// Makes the names findable that were added. Of one that was added twice, as a file system may list
    /// it while somebody changes the directory, the first is kept.
    pub fn index(&mut self) {
        let (rows, text, hasher) = (&self.rows, &self.text, &self.hasher);
        let name = |i: u32| {
            let text = rows.get(i as usize).and_then(|r| text.get(r.range()));
            OsStr::from_bytes(text.unwrap_or_default())
        };
        let hash = |i: &u32| hasher.hash_one(name(*i));
        self.index.reserve(rows.len().saturating_sub(self.indexed), hash);
        let mut twice = Vec::new();
        for at in self.indexed as u32..rows.len() as u32 {
            let own = hash(&at);
            if self.index.find(own, |&i| name(i) == name(at)).is_some() {
                twice.push(at);
            } else {
                self.index.insert_unique(own, at, hash);
            }
        }
        self.indexed = rows.len();
        for at in twice {
            if let Some(entry) = self.rows.get(at as usize).map(|row| self.entry(at, row)) {
                self.replace(at, Entry { seen: Seen::Gone, ..entry });
            }
        }
    }

    /// Adds a row at the end, which is gone still.
    fn append(&mut self, name: &OsStr) -> Result<u32> {
        let at = self.push(name)?;
        self.enter(at, name);
        Ok(at)
    }

    fn push(&mut self, name: &OsStr) -> Result<u32> {
        let len = u8::try_from(name.len()).map_err(|_| Errno::ENAMETOOLONG)?;
        let at = u32::try_from(self.rows.len()).map_err(|_| Errno::EOVERFLOW)?;
        let start = u32::try_from(self.text.len()).map_err(|_| Errno::EOVERFLOW)?;
        self.last += 1;
        self.rows.push(Row {
            cookie: self.last,
            number: 0,
            start,
            slot: NO_SLOT,
            len,
            bits: (Seen::Gone as u8) << SEEN_SHIFT,
        });
        self.gone += 1;
        self.text.extend_from_slice(name.as_bytes());
        Ok(at)
    }

    fn enter(&mut self, at: u32, name: &OsStr) {
        let (rows, text, hasher) = (&self.rows, &self.text, &self.hasher);
        let rehash = |&i: &u32| {
            let name = rows.get(i as usize).and_then(|r| text.get(r.range()));
            hasher.hash_one(OsStr::from_bytes(name.unwrap_or_default()))
        };
        self.index.insert_unique(hasher.hash_one(name), at, rehash);
        self.indexed = self.rows.len();
    }

    fn replace(&mut self, at: u32, entry: Entry) {
        let Some(before) = self.rows.get(at as usize).map(Row::seen) else { return };
        self.present += usize::from(entry.seen == Seen::Present);
        self.present -= usize::from(before == Seen::Present);
        self.gone += usize::from(entry.seen == Seen::Gone);
        self.gone -= usize::from(before == Seen::Gone);
        self.store(at, entry);
    }

    /// All of it was read: gives back room that was reserved while it grew.
    pub fn complete(&mut self) {
        self.rows.shrink_to_fit();
        self.text.shrink_to_fit();
        self.is_changed = false;
    }

    /// Returns how much memory it takes, about.
    pub fn bytes(&self) -> usize {
        size_of::<Row>() * self.rows.capacity()
            + self.text.capacity()
            + self.index.allocation_size()
    }

    /// Holds its part of the memory of all listings.
    pub fn hold(&mut self, share: Share) {
        self.share = Some(share);
    }

    /// Notes that it is used.
    pub fn note_use(&self) {
        self.used.store(true, Ordering::Relaxed);
    }

    /// Whether it must not go, as a later one would have other cookies, or should not yet, as it was used since
    /// this was last asked.
    pub fn stays(&self) -> bool {
        self.is_changed || self.used.swap(false, Ordering::Relaxed)
    }

    /// Changes what is known of a name, if anything is.
    pub fn update(&mut self, name: &OsStr, change: impl FnOnce(&mut Entry)) {
        self.is_changed = true;
        if let Some(at) = self.find(name)
            && let Some(row) = self.rows.get(at as usize)
        {
            let mut entry = self.entry(at, row);
            change(&mut entry);
            self.replace(at, entry);
        }
        self.compact();
    }

    /// Forgets names that are gone when they are the larger part, so that the work is shared by as many
    /// removals. Cookies stay as they are.
    fn compact(&mut self) {
        if self.rows.len() <= 64 || self.gone * 2 <= self.rows.len() {
            return;
        }
        let mut old = std::mem::take(self);
        self.hasher = old.hasher.clone();
        self.is_changed = true;
        self.share = old.share.take();
        self.last = old.last;
        self.present = old.present;
        for (i, row) in (0u32..).zip(&old.rows).filter(|(_, r)| r.seen() != Seen::Gone) {
            let name = old.name_of(row);
            let at = self.rows.len() as u32;
            self.rows.push(Row { start: self.text.len() as u32, ..*row });
            self.text.extend_from_slice(name.as_bytes());
            self.enter(at, name);
            if let Some(slots) = old.many.get(&i) {
                self.many.insert(at, slots.clone());
            }
        }
    }

    /// Returns the names that users see after a position, in order.
    pub fn after(&self, cookie: Cookie) -> impl Iterator<Item = (&OsStr, Seat)> {
        let start = self.rows.partition_point(|r| r.cookie <= cookie.0);
        let rest = self.rows.get(start..).unwrap_or_default();
        rest.iter().filter(|r| r.seen() == Seen::Present).map(|r| {
            let seat = Seat { cookie: Cookie(r.cookie), kind: r.bits & 0xf, number: r.number };
            (self.name_of(r), seat)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry() -> Entry {
        Entry {
            cookie: Cookie(0),
            seen: Seen::Present,
            kind: libc::DT_REG,
            number: 9,
            in_upper: true,
            below: false,
            lowers: Slots::default(),
        }
    }

    #[test]
    fn slots_keep_their_order() {
        let mut s = Slots::default();
        assert!(s.is_empty());
        for i in [3, 1, 7] {
            s.push(i);
        }
        assert!(s.contains(3) && s.contains(7) && !s.contains(2) && !s.is_empty());
        assert!(size_of::<Row>() <= 24, "{}", size_of::<Row>());
    }

    #[test]
    fn names_that_were_added_at_once_are_found_and_shown_once() {
        let mut l = Listing::default();
        l.put(OsStr::new("old"), entry()).unwrap();
        for n in ["a", "b", "a", "old"] {
            l.add(OsStr::new(n), Entry { number: 5, ..entry() }).unwrap();
        }
        l.index();
        l.add(OsStr::new("c"), entry()).unwrap();
        l.index();
        assert_eq!(names(&l, 0), ["old", "a", "b", "c"]);
        assert_eq!((l.present(), l.get(OsStr::new("old")).unwrap().number), (4, 9));
        assert!(l.contains(OsStr::new("c")) && !l.contains(OsStr::new("d")));
        l.put(OsStr::new("a"), Entry { number: 6, ..entry() }).unwrap();
        assert_eq!((names(&l, 1).len(), l.get(OsStr::new("a")).unwrap().number), (3, 6));
    }

    fn names(l: &Listing, after: u64) -> Vec<&str> {
        l.after(Cookie(after)).map(|(n, _)| n.to_str().unwrap()).collect()
    }

    #[test]
    fn cookies_survive_removal_and_compaction() {
        let mut l = Listing::default();
        for i in 0..200 {
            l.put(OsStr::new(&format!("{i:03}")), entry()).unwrap();
        }
        for i in 0..150 {
            l.update(OsStr::new(&format!("{i:03}")), |e| e.seen = Seen::Gone);
        }
        assert_eq!(l.present(), 50);
        assert!(l.len() < 200);
        assert_eq!(names(&l, 0).first(), Some(&"150"));
        assert_eq!(names(&l, 199), ["199"]);
        l.put(OsStr::new("new"), entry()).unwrap();
        assert_eq!(names(&l, 199), ["199", "new"]);
    }

    #[test]
    fn a_name_that_comes_back_keeps_its_place() {
        let mut l = Listing::default();
        for n in ["a", "b", "c"] {
            l.put(OsStr::new(n), entry()).unwrap();
        }
        l.update(OsStr::new("b"), |e| e.seen = Seen::Whiteout);
        assert_eq!(names(&l, 0), ["a", "c"]);
        l.put(OsStr::new("b"), entry()).unwrap();
        assert_eq!(names(&l, 0), ["a", "b", "c"]);
        assert_eq!(l.present(), 3);
    }

    #[test]
    fn entries_are_kept_as_they_were_given() {
        let mut l = Listing::default();
        let mut several = Slots::one(3);
        several.push(9);
        for (i, lowers) in [Slots::default(), Slots::one(7), several.clone()].iter().enumerate() {
            let seen = [Seen::Present, Seen::Whiteout, Seen::Present][i];
            let below = i == 1;
            let e = Entry { seen, below, in_upper: !below, lowers: lowers.clone(), ..entry() };
            l.put(OsStr::new(&i.to_string()), e).unwrap();
            let got = l.get(OsStr::new(&i.to_string())).unwrap();
            assert_eq!((got.seen, got.below, got.in_upper), (seen, below, !below));
            assert_eq!((got.lowers, got.kind, got.number), (lowers.clone(), libc::DT_REG, 9));
        }
        for i in 0..200 {
            l.put(OsStr::new(&format!("x{i}")), Entry { seen: Seen::Gone, ..entry() }).unwrap();
        }
        l.update(OsStr::new("0"), |e| e.kind = libc::DT_DIR);
        assert_eq!((l.len(), l.present()), (3, 2), "the gone ones were dropped");
        assert_eq!(l.get(OsStr::new("2")).unwrap().lowers, several);
        assert_eq!(l.get(OsStr::new("0")).unwrap().kind, libc::DT_DIR);
        let too_long = "n".repeat(256);
        assert_eq!(l.put(OsStr::new(&too_long), entry()), Err(Errno::ENAMETOOLONG));
    }
}
