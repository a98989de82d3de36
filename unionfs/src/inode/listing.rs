//! The merged listing of one directory, with cookies that stay valid while it changes.

use std::ffi::OsStr;

use indexmap::IndexMap;

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

/// Indices of lowers of a directory: nearly always none or one, so that more cost a box.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Slots {
    first: Option<u16>,
    #[expect(clippy::box_collection, reason = "one pointer in each entry instead of three words")]
    more: Option<Box<Vec<u16>>>,
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
#[derive(Debug, Default)]
pub struct Listing {
    entries: IndexMap<Box<OsStr>, Entry>,
    last: u64,
    present: usize,
}

impl Listing {
    /// Returns what is known of a name.
    pub fn get(&self, name: &OsStr) -> Option<&Entry> {
        self.entries.get(name)
    }

    /// Returns how many names users see.
    pub fn present(&self) -> usize {
        self.present
    }

    /// Returns how many names are known, hidden ones included.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether no name is known at all.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Puts a name in (at the end if it is new) with everything but its cookie as given.
    pub fn put(&mut self, name: &OsStr, mut entry: Entry) {
        if let Some(old) = self.entries.get_mut(name) {
            self.present -= usize::from(old.seen == Seen::Present);
            self.present += usize::from(entry.seen == Seen::Present);
            entry.cookie = old.cookie;
            *old = entry;
            return;
        }
        self.present += usize::from(entry.seen == Seen::Present);
        self.last += 1;
        entry.cookie = Cookie(self.last);
        self.entries.insert(name.into(), entry);
    }

    /// Gives back room that was reserved while it grew.
    pub fn shrink(&mut self) {
        self.entries.shrink_to_fit();
    }

    /// Changes what is known of a name, if anything is.
    pub fn update(&mut self, name: &OsStr, change: impl FnOnce(&mut Entry)) {
        if let Some(e) = self.entries.get_mut(name) {
            let before = e.seen == Seen::Present;
            change(e);
            self.present -= usize::from(before);
            self.present += usize::from(e.seen == Seen::Present);
        }
        self.compact();
    }

    /// Forgets names that are gone when they are the larger part. Cookies stay as they are.
    fn compact(&mut self) {
        if self.entries.len() > 64 && self.present * 2 < self.entries.len() {
            self.entries.retain(|_, e| e.seen != Seen::Gone);
        }
    }

    /// Returns the names that users see after a position, in order.
    pub fn after(&self, cookie: Cookie) -> impl Iterator<Item = (&OsStr, &Entry)> {
        let start = self.entries.as_slice().partition_point(|_, e| e.cookie <= cookie);
        let rest = self.entries.get_range(start..);
        rest.into_iter()
            .flat_map(|s| s.iter())
            .filter(|(_, e)| e.seen == Seen::Present)
            .map(|(n, e)| (&**n, e))
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
        assert!(size_of::<Entry>() <= 40, "{}", size_of::<Entry>());
    }

    fn names(l: &Listing, after: u64) -> Vec<&str> {
        l.after(Cookie(after)).map(|(n, _)| n.to_str().unwrap()).collect()
    }

    #[test]
    fn cookies_survive_removal_and_compaction() {
        let mut l = Listing::default();
        for i in 0..200 {
            l.put(OsStr::new(&format!("{i:03}")), entry());
        }
        for i in 0..150 {
            l.update(OsStr::new(&format!("{i:03}")), |e| e.seen = Seen::Gone);
        }
        assert_eq!(l.present(), 50);
        assert!(l.len() < 200);
        assert_eq!(names(&l, 0).first(), Some(&"150"));
        assert_eq!(names(&l, 199), ["199"]);
        l.put(OsStr::new("new"), entry());
        assert_eq!(names(&l, 199), ["199", "new"]);
    }

    #[test]
    fn a_name_that_comes_back_keeps_its_place() {
        let mut l = Listing::default();
        for n in ["a", "b", "c"] {
            l.put(OsStr::new(n), entry());
        }
        l.update(OsStr::new("b"), |e| e.seen = Seen::Whiteout);
        assert_eq!(names(&l, 0), ["a", "c"]);
        l.put(OsStr::new("b"), entry());
        assert_eq!(names(&l, 0), ["a", "b", "c"]);
        assert_eq!(l.present(), 3);
    }
}
