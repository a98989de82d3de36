//! Inodes: what the union knows of an object, where it lives now, and the state around them.

pub mod core;
pub mod fds;
pub mod index;
pub mod listing;
pub mod number;
pub mod table;

use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use parking_lot::{Mutex, RwLock};
use smallvec::SmallVec;
use sys::{Errno, Result};

pub use self::core::{Core, Options};
pub use listing::{Cookie, Entry, Listing, Seen, Slots};
pub use number::{Ino, ROOT};

use crate::layer::LowerRef;

/// An object of the union.
///
/// Locks, outer before inner: `copying`, `place` (of a child before its parent), `listing`, `meta`,
/// `dir_fds`, `file`.
#[derive(Debug)]
pub struct Inode {
    /// Node id.
    pub id: Ino,
    /// `st_ino`; differs from the id for the root only.
    pub number: u64,
    /// Type, the `S_IFMT` bits.
    pub kind: u32,
    /// How often the kernel was told of it.
    pub lookups: AtomicU64,
    /// How many known inodes have this one as a parent.
    pub children: AtomicU64,
    /// Descriptors were used since the cache last looked.
    pub used: AtomicBool,
    /// Where it is.
    pub place: RwLock<Place>,
    /// Held by the one thread that copies it up.
    pub copying: Mutex<()>,
    /// The descriptor for content.
    pub file: Mutex<Option<Box<OpenFile>>>,
    /// What only directories have.
    pub dir: Option<Box<Dir>>,
}

/// Where an object is, and what it is called.
#[derive(Debug)]
pub struct Place {
    /// The object in the upper.
    pub upper: InUpper,
    /// The objects in lowers.
    pub lowers: Lowers,
    /// The upper has metadata only: the data is in the last lower.
    pub metacopy: bool,
    /// Names that are known; none for the root and for what was removed.
    pub names: SmallVec<[Name; 1]>,
    /// Names in lowers that were removed since the inode is known.
    pub removed: u32,
    /// What the upper's number of links lacks (or has too many: the index holds one): a lower file
    /// with several names was copied up.
    pub nlink_diff: Option<i32>,
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

impl Lowers {
    /// Returns the parts that have paths: all of a directory's.
    pub fn refs(&self) -> &[LowerRef] {
        match self {
            Lowers::Refs(refs) => refs,
            Lowers::No | Lowers::Child(_) => &[],
        }
    }
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

/// One name of an object.
#[derive(Debug)]
pub struct Name {
    /// The directory.
    pub parent: Arc<Inode>,
    /// The name in it.
    pub name: Box<OsStr>,
    /// Whether the upper has this name (a hard link may be known by a name of a lower only).
    pub in_upper: bool,
}

/// The open content of a file.
#[derive(Clone, Debug)]
pub struct OpenFile {
    /// Open for reading at least.
    pub fd: Arc<OwnedFd>,
    /// Open for writing, and in the upper.
    pub writable: bool,
    /// It could not be opened again, so it stays open while the inode is known.
    pub keep: bool,
}

/// What only directories have.
#[derive(Debug, Default)]
pub struct Dir {
    /// The merged listing, once it was needed.
    pub listing: RwLock<Option<Listing>>,
    /// Single names that were looked for without a listing.
    pub probes: AtomicU32,
    /// What new objects in it inherit, once it was needed.
    pub meta: Mutex<Option<DirMeta>>,
    /// Descriptors of its parts.
    pub fds: Mutex<DirFds>,
    /// The upper part is marked as holding copied-up objects.
    pub impure: AtomicBool,
}

/// Descriptors (`O_PATH`) of a directory's parts.
#[derive(Debug, Default)]
pub struct DirFds {
    /// In the upper.
    pub upper: Option<Arc<OwnedFd>>,
    /// In the lowers, by index.
    pub lowers: Vec<Option<Arc<OwnedFd>>>,
}

/// What new objects inherit from a directory.
#[derive(Clone, Debug)]
pub struct DirMeta {
    /// Mode of the directory.
    pub mode: u32,
    /// Its group on disk.
    pub gid: u32,
    /// Its default ACL.
    pub default_acl: Option<Vec<u8>>,
}

impl Inode {
    /// Makes an inode that the kernel doesn't know yet.
    pub fn new(id: Ino, number: u64, kind: u32, place: Place) -> Inode {
        Inode {
            id,
            number,
            kind,
            lookups: AtomicU64::new(0),
            children: AtomicU64::new(0),
            used: AtomicBool::new(false),
            place: RwLock::new(place),
            copying: Mutex::new(()),
            file: Mutex::new(None),
            dir: (kind == libc::S_IFDIR).then(Box::default),
        }
    }

    /// Whether this is a directory.
    pub fn is_dir(&self) -> bool {
        self.dir.is_some()
    }

    /// Whether neither the kernel nor another inode needs it.
    pub fn is_unused(&self) -> bool {
        self.id != ROOT
            && self.lookups.load(Ordering::Relaxed) == 0
            && self.children.load(Ordering::Relaxed) == 0
    }

    /// Takes all names away and returns the parents that they were in.
    pub fn drop_names(&self) -> Vec<Arc<Inode>> {
        let names = std::mem::take(&mut self.place.write().names);
        names.into_iter().map(Name::release).collect()
    }

    /// Closes the descriptors that can be opened again.
    pub fn close_descriptors(&self) {
        if let Some(dir) = &self.dir {
            *dir.fds.lock() = DirFds::default();
        }
        let mut file = self.file.lock();
        if file.as_ref().is_some_and(|f| !f.keep) {
            *file = None;
        }
    }
}

impl Name {
    /// Makes a name, counted by its parent.
    pub fn new(parent: &Arc<Inode>, name: &OsStr, in_upper: bool) -> Name {
        parent.children.fetch_add(1, Ordering::Relaxed);
        Name { parent: Arc::clone(parent), name: name.into(), in_upper }
    }

    /// Whether this is that name.
    pub fn is(&self, parent: &Inode, name: &OsStr) -> bool {
        self.parent.id == parent.id && *self.name == *name
    }

    /// Gives the name up, and returns the parent, which may be unused now.
    pub fn release(self) -> Arc<Inode> {
        self.parent.children.fetch_sub(1, Ordering::Relaxed);
        self.parent
    }
}

impl Place {
    /// Whether the upper has a part of the object.
    pub fn has_upper(&self) -> bool {
        !matches!(self.upper, InUpper::No)
    }

    /// Returns the upper's own number of the object.
    pub fn upper_number(&self) -> Option<u64> {
        match self.upper {
            InUpper::No => None,
            InUpper::Named(n) | InUpper::Pinned(n, _) => Some(n),
        }
    }

    /// Whether the object has both an upper and a lower part, as a merged directory does.
    pub fn is_merged(&self) -> bool {
        usize::from(self.has_upper()) + self.lowers.refs().len() > 1
    }

    /// Whether a lower has a part of the object.
    pub fn has_lowers(&self) -> bool {
        self.lowers != Lowers::No
    }

    /// Returns all lower parts with their paths.
    ///
    /// # Errors
    /// `EIO`: the first name is gone, which [`Place::settle`] should have seen.
    pub fn lower_refs(&self) -> Result<Arc<[LowerRef]>> {
        match &self.lowers {
            Lowers::No => Ok(Arc::from([])),
            Lowers::Refs(refs) => Ok(Arc::clone(refs)),
            Lowers::Child(slot) => {
                let name = self.names.first().ok_or(Errno::EIO)?;
                let parent = name.parent.place.read();
                let at = parent.lowers.refs().get(usize::from(*slot)).ok_or(Errno::EIO)?;
                Ok(Arc::from([at.child_ref(&name.name)]))
            }
        }
    }

    /// Makes the lower parts independent of the first name, which is about to go.
    pub fn settle(&mut self) -> Result<()> {
        if let Lowers::Child(_) = self.lowers {
            self.lowers = Lowers::Refs(self.lower_refs()?);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_inode_is_small() {
        // A million of them are known after a walk over a large tree.
        assert!(size_of::<Inode>() <= 176, "{} bytes", size_of::<Inode>());
    }
}
