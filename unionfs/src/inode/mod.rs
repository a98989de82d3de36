//! Inodes: what the union knows of an object, where it lives now, and the state around them.

pub mod core;
pub mod fds;
pub mod index;
pub mod kept;
pub mod listing;
pub mod number;
pub mod place;
pub mod table;

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use parking_lot::{Mutex, RwLock};

pub use self::core::{Core, Options};
pub use listing::{Cookie, Entry, Listing, Seat, Seen, Slots};
pub use number::{Ino, ROOT};
pub use place::{InUpper, Lowers, Name, NameRef, Place};

/// An object of the union.
///
/// Locks, outer before inner: `copying`, `place` (of a child before its parent), `listing`, `meta`,
/// `dir_fds`, `file`.
#[derive(Debug)]
pub struct Inode {
    /// Node id.
    pub id: Ino,
    /// How often the kernel was told of it; at its largest it stays, and so does the inode.
    lookups: AtomicU32,
    /// Type, as in `d_type`.
    kind: u8,
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
    /// `st_ino` of the root, whose id the protocol fixes.
    pub number: u64,
    /// How many known inodes have this one as a parent.
    children: AtomicU64,
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
    ///
    /// # Preconditions
    /// `kind` is one of the `S_IFMT` types.
    pub fn new(id: Ino, kind: u32, place: Place) -> Inode {
        Inode {
            id,
            lookups: AtomicU32::new(0),
            kind: (kind >> 12) as u8,
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

    /// Returns the type, one of the `S_IFMT` bits.
    pub fn kind(&self) -> u32 {
        u32::from(self.kind) << 12
    }

    /// Returns the type as `d_type` has it.
    pub fn dirent_kind(&self) -> u8 {
        self.kind
    }

    /// Returns `st_ino`, which differs from the id for the root only.
    pub fn number(&self) -> u64 {
        match &self.dir {
            Some(dir) if self.id == ROOT => dir.number,
            _ => self.id.0,
        }
    }

    /// Counts a reply that tells the kernel of the inode.
    pub fn count_lookup(&self) {
        self.change_lookups(|n| n.saturating_add(1));
    }

    /// Takes back lookups, and returns whether none is left.
    pub fn uncount_lookups(&self, taken: u64) -> bool {
        let taken = u32::try_from(taken).unwrap_or(u32::MAX);
        // Saturating, as a wrong count from the kernel must not wrap around.
        self.change_lookups(|n| if n == u32::MAX { n } else { n.saturating_sub(taken) });
        self.lookups.load(Ordering::Relaxed) == 0
    }

    fn change_lookups(&self, change: impl Fn(u32) -> u32) {
        let mut n = self.lookups.load(Ordering::Relaxed);
        let order = Ordering::Relaxed;
        while let Err(now) = self.lookups.compare_exchange_weak(n, change(n), order, order) {
            n = now;
        }
    }

    fn count_child(&self) {
        if let Some(dir) = &self.dir {
            dir.children.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn uncount_child(&self) {
        if let Some(dir) = &self.dir {
            dir.children.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Whether neither the kernel nor another inode needs it.
    pub fn is_unused(&self) -> bool {
        self.id != ROOT
            && self.lookups.load(Ordering::Relaxed) == 0
            && self.dir.as_ref().is_none_or(|d| d.children.load(Ordering::Relaxed) == 0)
    }

    /// Takes all names away and returns the parents that they were in.
    pub fn drop_names(&self) -> Vec<Arc<Inode>> {
        let mut place = self.place.write();
        std::iter::from_fn(|| place.take_first()).map(Name::release).collect()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_inode_is_small() {
        // A million of them are known after a walk over a large tree.
        assert!(size_of::<Inode>() <= 104, "{} bytes", size_of::<Inode>());
    }
}
