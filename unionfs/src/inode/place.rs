//! Where an object is, and what it is called: small, as there is one of it for each known object.

use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;

use smallvec::SmallVec;
use sys::{Errno, Result};

use super::Inode;
use crate::layer::LowerRef;

/// Where an object is, and what it is called.
#[derive(Debug, Default)]
pub struct Place {
    /// The upper's own number of the object.
    upper: u64,
    /// The first name, without [`Name::in_upper`].
    first: Option<(Arc<Inode>, Text)>,
    rare: Option<Box<Rare>>,
    /// As [`Lowers::Child`].
    child: Option<u16>,
    has_upper: bool,
    first_in_upper: bool,
    /// It was seen in a lower before it was in the upper, so the number is the lower's beyond doubt, and
    /// not what a mark says.
    seen_in_lower: bool,
    /// The upper has metadata only: the data is in the last lower.
    pub metacopy: bool,
}

/// The bytes of a name; those of most need no memory of their own.
type Text = SmallVec<[u8; 16]>;

/// What few objects have; and directories, of which there are few.
#[derive(Debug, Default)]
struct Rare {
    refs: Option<Arc<[LowerRef]>>,
    pinned: Option<Arc<OwnedFd>>,
    /// Names after the first.
    more: Vec<Name>,
    removed: u32,
    nlink_diff: Option<i32>,
}

/// The lower parts of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lowers {
    /// None.
    No,
    /// One, which is no directory and complete: it has the object's first name in this lower of the
    /// parent, so that its path needs no memory.
    Child(u16),
    /// All that merge for a directory; for a file its metadata first and its data last.
    Refs(Arc<[LowerRef]>),
}

/// The upper's part of an object. The number is the upper's own, to tell objects apart.
#[derive(Clone, Debug)]
pub enum InUpper {
    /// None.
    No,
    /// Found by one of the names (or the root).
    Named(u64),
    /// Without a name that we know: removed, or only in the index.
    Pinned(u64, Arc<OwnedFd>),
}

impl InUpper {
    /// Returns the upper's own number of the object.
    pub fn number(&self) -> Option<u64> {
        match self {
            InUpper::No => None,
            InUpper::Named(n) | InUpper::Pinned(n, _) => Some(*n),
        }
    }
}

/// One name of an object, which its directory counts.
#[derive(Debug)]
pub struct Name {
    parent: Arc<Inode>,
    text: Text,
    in_upper: bool,
}

impl Name {
    /// Makes a name, counted by its parent.
    pub fn new(parent: &Arc<Inode>, name: &OsStr, in_upper: bool) -> Name {
        parent.count_child();
        Name { parent: Arc::clone(parent), text: Text::from_slice(name.as_bytes()), in_upper }
    }

    /// Gives the name up, and returns the parent, which may be unused now.
    pub fn release(self) -> Arc<Inode> {
        self.parent.uncount_child();
        self.parent
    }

    fn view(&self) -> NameRef<'_> {
        NameRef {
            parent: &self.parent,
            name: OsStr::from_bytes(&self.text),
            in_upper: self.in_upper,
        }
    }
}

/// A look at one name of an object.
#[derive(Clone, Copy, Debug)]
pub struct NameRef<'a> {
    /// The directory.
    pub parent: &'a Arc<Inode>,
    /// The name in it.
    pub name: &'a OsStr,
    /// Whether the upper has this name (a hard link may be known by a name of a lower only).
    pub in_upper: bool,
}

impl NameRef<'_> {
    /// Whether this is that name.
    pub fn is(&self, parent: &Inode, name: &OsStr) -> bool {
        self.parent.id == parent.id && self.name == name
    }
}

/// The upper's and the lowers' parts.
impl Place {
    /// Makes a place without a name.
    pub fn new(upper: &InUpper, lowers: &Lowers) -> Place {
        let mut place = Place::default();
        place.set_upper(upper);
        place.set_lowers(lowers);
        place.seen_in_lower = !place.has_upper;
        place
    }

    /// Whether the object was met in a lower, where all names with its number lead to it.
    pub fn was_seen_in_lower(&self) -> bool {
        self.seen_in_lower
    }

    fn rare_mut(&mut self) -> &mut Rare {
        self.rare.get_or_insert_default()
    }

    /// Returns the object in the upper.
    pub fn upper(&self) -> InUpper {
        match self.rare.as_ref().and_then(|r| r.pinned.as_ref()) {
            _ if !self.has_upper => InUpper::No,
            Some(fd) => InUpper::Pinned(self.upper, Arc::clone(fd)),
            None => InUpper::Named(self.upper),
        }
    }

    /// Notes where the object is in the upper.
    pub fn set_upper(&mut self, upper: &InUpper) {
        self.has_upper = upper.number().is_some();
        self.upper = upper.number().unwrap_or_default();
        match (upper, &mut self.rare) {
            (InUpper::Pinned(_, fd), _) => self.rare_mut().pinned = Some(Arc::clone(fd)),
            (_, Some(rare)) => rare.pinned = None,
            (_, None) => {}
        }
    }

    /// Notes that the object can be found in the upper by a name.
    pub fn unpin(&mut self) {
        if let Some(rare) = &mut self.rare {
            rare.pinned = None;
        }
    }

    /// Whether the upper has a part of the object.
    pub fn has_upper(&self) -> bool {
        self.has_upper
    }

    /// Returns the upper's own number of the object.
    pub fn upper_number(&self) -> Option<u64> {
        self.has_upper().then_some(self.upper)
    }

    /// Returns the objects in lowers.
    pub fn lowers(&self) -> Lowers {
        match (self.child, self.rare.as_ref().and_then(|r| r.refs.as_ref())) {
            (Some(slot), _) => Lowers::Child(slot),
            (None, Some(refs)) => Lowers::Refs(Arc::clone(refs)),
            (None, None) => Lowers::No,
        }
    }

    fn set_lowers(&mut self, lowers: &Lowers) {
        match lowers {
            Lowers::No => {}
            Lowers::Child(slot) => self.child = Some(*slot),
            Lowers::Refs(refs) => self.rare_mut().refs = Some(Arc::clone(refs)),
        }
    }

    /// Whether a lower has a part of the object.
    pub fn has_lowers(&self) -> bool {
        self.lowers() != Lowers::No
    }

    /// Returns which lower of the parent has the object, where that is all that is known.
    pub fn child_slot(&self) -> Option<u16> {
        self.child
    }

    /// Returns the lower parts that have paths: all of a directory's.
    pub fn refs(&self) -> &[LowerRef] {
        self.rare.as_ref().and_then(|r| r.refs.as_deref()).unwrap_or_default()
    }

    /// Whether the object has both an upper and a lower part, as a merged directory does.
    pub fn is_merged(&self) -> bool {
        usize::from(self.has_upper()) + self.refs().len() > 1
    }

    /// Returns all lower parts with their paths.
    ///
    /// # Errors
    /// `EIO`: the first name is gone, which [`Place::settle`] should have seen.
    pub fn lower_refs(&self) -> Result<Arc<[LowerRef]>> {
        match self.lowers() {
            Lowers::No => Ok(Arc::from([])),
            Lowers::Refs(refs) => Ok(refs),
            Lowers::Child(slot) => {
                let first = self.first_name().ok_or(Errno::EIO)?;
                let parent = first.parent.place.read();
                let at = parent.refs().get(usize::from(slot)).ok_or(Errno::EIO)?;
                Ok(Arc::from([at.child_ref(first.name)]))
            }
        }
    }

    /// Makes the lower parts independent of the first name, which is about to go.
    pub fn settle(&mut self) -> Result<()> {
        if self.child.is_some() {
            let refs = self.lower_refs()?;
            self.rare_mut().refs = Some(refs);
            self.child = None;
        }
        Ok(())
    }
}

/// Names and links.
impl Place {
    /// Returns the names that are known; none for the root and for what was removed.
    pub fn names(&self) -> impl Iterator<Item = NameRef<'_>> {
        let more = self.rare.iter().flat_map(|r| r.more.iter().map(Name::view));
        self.first_name().into_iter().chain(more)
    }

    /// Returns the name that has been known for longest.
    pub fn first_name(&self) -> Option<NameRef<'_>> {
        let (parent, text) = self.first.as_ref()?;
        Some(NameRef { parent, name: OsStr::from_bytes(text), in_upper: self.first_in_upper })
    }

    /// Returns the directory of the first name.
    pub fn first_parent(&self) -> Option<Arc<Inode>> {
        self.first_name().map(|n| Arc::clone(n.parent))
    }

    /// Whether an object has this name.
    pub fn is_known_as(&self, parent: &Inode, name: &OsStr) -> bool {
        self.names().any(|n| n.is(parent, name))
    }

    /// Adds a name.
    pub fn push_name(&mut self, name: Name) {
        if self.first.is_some() {
            self.rare_mut().more.push(name);
        } else {
            self.first = Some((name.parent, name.text));
            self.first_in_upper = name.in_upper;
        }
    }

    /// Takes a name away, and returns it if the object had it.
    pub fn take_name(&mut self, parent: &Inode, name: &OsStr) -> Option<Name> {
        if self.first_name().is_some_and(|n| n.is(parent, name)) {
            return self.take_first();
        }
        let more = &mut self.rare.as_mut()?.more;
        let at = more.iter().position(|n| n.view().is(parent, name))?;
        Some(more.remove(at))
    }

    /// Takes the first name away; the next one becomes the first.
    pub fn take_first(&mut self) -> Option<Name> {
        let (parent, text) = self.first.take()?;
        let gone = Name { parent, text, in_upper: self.first_in_upper };
        if let Some(more) = self.rare.as_mut().map(|r| &mut r.more).filter(|m| !m.is_empty()) {
            let next = more.remove(0);
            self.push_name(next);
        }
        Some(gone)
    }

    /// Notes that the upper has a name.
    pub fn name_in_upper(&mut self, parent: &Inode, name: &OsStr) {
        if self.first_name().is_some_and(|n| n.is(parent, name)) {
            self.first_in_upper = true;
        } else if let Some(rare) = &mut self.rare
            && let Some(n) = rare.more.iter_mut().find(|n| n.view().is(parent, name))
        {
            n.in_upper = true;
        }
    }

    /// Returns how many names in lowers were removed since the inode is known.
    pub fn removed(&self) -> u32 {
        self.rare.as_ref().map_or(0, |r| r.removed)
    }

    /// Counts one more of them.
    pub fn count_removed(&mut self) {
        self.rare_mut().removed += 1;
    }

    /// Returns what the upper's number of links lacks (or has too many: the index holds one): a
    /// lower file with several names was copied up.
    pub fn nlink_diff(&self) -> Option<i32> {
        self.rare.as_ref().and_then(|r| r.nlink_diff)
    }

    /// Sets that.
    pub fn set_nlink_diff(&mut self, diff: Option<i32>) {
        if diff.is_some() || self.rare.is_some() {
            self.rare_mut().nlink_diff = diff;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inode::Ino;

    fn dir() -> Arc<Inode> {
        Arc::new(Inode::new(Ino(7), libc::S_IFDIR, Place::default()))
    }

    #[test]
    fn the_oldest_name_is_the_first() {
        let dir = dir();
        let mut place = Place::new(&InUpper::Named(3), &Lowers::No);
        for (name, in_upper) in [("a", false), ("b", true), ("a name of more than 16 bytes", false)]
        {
            place.push_name(Name::new(&dir, OsStr::new(name), in_upper));
        }
        place.name_in_upper(&dir, OsStr::new("a name of more than 16 bytes"));
        let gone = place.take_name(&dir, OsStr::new("a")).unwrap();
        assert!(!gone.in_upper && !place.is_known_as(&dir, OsStr::new("a")));
        let names: Vec<_> = place.names().map(|n| (n.name.to_owned(), n.in_upper)).collect();
        assert_eq!(names, [("b".into(), true), ("a name of more than 16 bytes".into(), true)]);
        gone.release();
        assert!(!dir.is_unused());
        while let Some(name) = place.take_first() {
            name.release();
        }
        assert!(dir.is_unused());
    }

    #[test]
    fn what_was_set_is_shown() {
        let mut place = Place::new(&InUpper::No, &Lowers::Child(4));
        assert_eq!((place.lowers(), place.has_upper()), (Lowers::Child(4), false));
        let fd = Arc::new(OwnedFd::from(std::fs::File::open("/").unwrap()));
        place.set_upper(&InUpper::Pinned(9, fd));
        assert!(matches!(place.upper(), InUpper::Pinned(9, _)));
        place.unpin();
        assert!(matches!(place.upper(), InUpper::Named(9)));
        place.set_nlink_diff(Some(-1));
        place.count_removed();
        assert_eq!((place.nlink_diff(), place.removed()), (Some(-1), 1));
    }
}
