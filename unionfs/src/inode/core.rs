//! The state of a mounted union that resolving and copying up need, and the ways to an object.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use daemon::Turns;
use dashmap::DashMap;
use sys::openat::{Confine, open_confined};
use sys::stat::Stat;
use sys::{Errno, Result};

use super::fds::FdCache;
use super::kept::Kept;
use super::number::Numbers;
use super::table::InodeTable;
use super::{Dir, InUpper, Ino, Inode, OpenFile, Place};
use crate::layer::idmap::IdMap;
use crate::layer::marks::Escape;
use crate::layer::{LayerStack, Owners, Spot};

/// How copied-up data is brought to disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fsync {
    /// The data is on disk before its name is.
    #[default]
    Ordered,
    /// That, and for copies of metadata and of directories as well.
    Strict,
    /// Never; a crash of the machine may lose everything.
    Volatile,
}

/// The file system of a lower, as handles name it.
#[derive(Debug)]
pub struct Origins {
    /// Its UUID.
    pub uuid: [u8; 16],
    /// The layer's root, open for reading, for `open_by_handle_at(2)`; `None` where it can't be read.
    pub root: Option<OwnedFd>,
}

/// What was asked for at the mount.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Owners.
    pub uids: IdMap,
    /// Groups.
    pub gids: IdMap,
    /// Durability.
    pub fsync: Fsync,
    /// Attributes are refused.
    pub no_xattrs: bool,
    /// The kernel decides by modes alone; ACLs are attributes without effect.
    pub no_acls: bool,
    /// Directories show one link, as merged ones always do.
    pub static_nlink: bool,
    /// Directories with a lower part are renamed by redirects.
    pub redirects: bool,
    /// Changes of metadata copy no data.
    pub metacopy: bool,
    /// How many bytes of merged listings are kept, about; all without it.
    pub listings: Option<usize>,
}

/// Layers, inodes and options of one mount.
#[derive(Debug)]
pub struct Core {
    /// The layers.
    pub stack: LayerStack,
    /// The inodes.
    pub table: InodeTable,
    /// Inode numbers.
    pub numbers: Numbers,
    /// Descriptors.
    pub fds: FdCache,
    /// Listings.
    pub kept: Kept,
    /// Options.
    pub options: Options,
    /// Names of attributes.
    pub escape: Escape,
    /// The lowers' file systems, for origin handles.
    pub origins: Vec<Origins>,
    /// Every file of the daemon's owner can be opened whatever its mode (`CAP_DAC_OVERRIDE`).
    pub opens_all: bool,
    /// Numbers of live copies on which they can't be marked (user attributes can't be on symlinks and
    /// nodes), by the upper's own.
    pub unmarked: DashMap<u64, u64>,
    /// The threads that serve, to be told before one of them blocks.
    pub turns: Arc<Turns>,
    /// The daemon's own user and group, which new objects get by themselves.
    pub own: (u32, u32),
}

impl Core {
    /// Returns an inode that the kernel names.
    ///
    /// # Errors
    /// `ESTALE`: it was forgotten.
    pub fn inode(&self, ino: Ino) -> Result<Arc<Inode>> {
        self.table.get(ino).ok_or(Errno::ESTALE)
    }

    /// Returns the directory part of an inode.
    ///
    /// # Errors
    /// `ENOTDIR`.
    pub fn dir<'a>(&self, inode: &'a Inode) -> Result<&'a Dir> {
        inode.dir.as_deref().ok_or(Errno::ENOTDIR)
    }

    /// Returns a descriptor (`O_PATH`) of the upper part of a directory.
    ///
    /// # Errors
    /// `ENOENT`: there is none.
    pub fn upper_dir(&self, inode: &Arc<Inode>) -> Result<Arc<OwnedFd>> {
        let dir = self.dir(inode)?;
        inode.used.store(true, Ordering::Relaxed);
        if let Some(fd) = &dir.fds.lock().upper {
            return Ok(Arc::clone(fd));
        }
        // From the top, so that to open one needs no call within a call for each directory above:
        // there can be more of these than there is stack.
        for above in self.closed_above(inode).iter().rev() {
            self.upper_dir(above)?;
        }
        let place = inode.place.read();
        let fd = match self.upper_spot(inode, &place)? {
            Spot::Fd(fd) => return Ok(fd),
            Spot::At(parent, name) => {
                let flags = libc::O_PATH | libc::O_DIRECTORY | libc::O_NOFOLLOW;
                Arc::new(open_confined(parent, &name, flags, 0, Confine::BeneathNoSymlinks)?)
            }
        };
        dir.fds.lock().upper = Some(Arc::clone(&fd));
        drop(place);
        self.fds.opened(inode);
        Ok(fd)
    }

    /// Returns the directories above one whose upper parts must be opened first, the nearest first.
    fn closed_above(&self, inode: &Arc<Inode>) -> Vec<Arc<Inode>> {
        let parent = |of: &Inode| {
            let place = of.place.read();
            let named = matches!(place.upper(), InUpper::Named(_)) && of.id != super::ROOT;
            let name = place.names().find(|n| n.in_upper).filter(|_| named)?;
            let is_closed = |i: &Inode| {
                i.id != super::ROOT && i.dir.as_ref().is_some_and(|d| d.fds.lock().upper.is_none())
            };
            is_closed(name.parent).then(|| Arc::clone(name.parent))
        };
        std::iter::successors(parent(inode), |above| parent(above)).collect()
    }

    /// Returns a descriptor (`O_PATH`) of the part of a directory in its lower number `i`.
    pub fn lower_dir(&self, inode: &Arc<Inode>, i: usize) -> Result<Arc<OwnedFd>> {
        let dir = self.dir(inode)?;
        inode.used.store(true, Ordering::Relaxed);
        if let Some(Some(fd)) = dir.fds.lock().lowers.get(i) {
            return Ok(Arc::clone(fd));
        }
        let lowers = inode.place.read().lower_refs()?;
        let at = lowers.get(i).ok_or(Errno::EIO)?;
        let fd = self.stack.lower(at.layer)?.open_dir(&at.path)?;
        {
            let mut fds = dir.fds.lock();
            if fds.lowers.len() <= i {
                fds.lowers.resize(lowers.len(), None);
            }
            if let Some(slot) = fds.lowers.get_mut(i) {
                *slot = Some(Arc::clone(&fd));
            }
        }
        if !at.path.is_empty() {
            self.fds.opened(inode);
        }
        Ok(fd)
    }

    /// Returns the address of the upper part of an object, whose place the caller has locked.
    ///
    /// # Errors
    /// `ENOENT`: there is none.
    pub fn upper_spot(&self, inode: &Inode, place: &Place) -> Result<Spot> {
        match place.upper() {
            InUpper::No => Err(Errno::ENOENT),
            InUpper::Pinned(_, fd) => Ok(Spot::Fd(fd)),
            InUpper::Named(_) if inode.id == super::ROOT => {
                Ok(Spot::Fd(Arc::clone(self.stack.upper()?.root())))
            }
            InUpper::Named(_) => {
                let name = place.names().find(|n| n.in_upper).ok_or(Errno::ENOENT)?;
                Ok(Spot::At(self.upper_dir(name.parent)?, name.name.to_os_string()))
            }
        }
    }

    /// Returns the address of the object's topmost part, for reading.
    pub fn spot(&self, inode: &Inode, place: &Place) -> Result<Spot> {
        if place.has_upper() {
            return self.upper_spot(inode, place);
        }
        if let (Some(slot), Some(name)) = (place.child_slot(), place.first_name()) {
            let dir = self.lower_dir(name.parent, usize::from(slot))?;
            return Ok(Spot::At(dir, name.name.to_os_string()));
        }
        let lowers = place.lower_refs()?;
        let at = lowers.first().ok_or(Errno::EIO)?;
        let layer = self.stack.lower(at.layer)?;
        if at.path.is_empty() {
            return Ok(Spot::Fd(Arc::clone(layer.root())));
        }
        let (dir, name) = at.split()?;
        Ok(Spot::At(layer.open_dir(dir)?, OsString::from(name)))
    }

    /// Returns what is known of an object, as users shall see it but for the owners.
    pub fn stat(&self, inode: &Arc<Inode>) -> Result<Stat> {
        let open = inode.file.lock().clone();
        let place = inode.place.read();
        let stat = match open {
            // The open file of a metacopy is the lower's, which has the data only.
            Some(f) if f.writable || !place.has_upper() => {
                Spot::Fd(f.fd).stat_in(self.owners(&place)?)?
            }
            _ => self.spot(inode, &place)?.stat_in(self.owners(&place)?)?,
        };
        Ok(self.shown(inode, &place, stat))
    }

    /// Returns how the layer of an object's topmost part tells owners and modes.
    fn owners(&self, place: &Place) -> Result<Owners<'_>> {
        if place.has_upper() {
            return Ok(self.stack.upper()?.permissions().into());
        }
        let lowers = place.lower_refs()?;
        let at = lowers.first().ok_or(Errno::EIO)?;
        Ok(self.stack.lower(at.layer)?.owners())
    }

    /// Whether the upper's part of an object is a copy, which shows another number than its own.
    pub fn is_copy(&self, inode: &Inode, place: &Place) -> bool {
        match (place.upper_number(), self.stack.upper_opt()) {
            (Some(n), Some(upper)) => self.numbers.of(upper.dev(), n) != inode.number(),
            _ => false,
        }
    }

    /// Turns what a layer says of an object into what users shall see but for the owners.
    pub fn shown(&self, inode: &Inode, place: &Place, mut stat: Stat) -> Stat {
        stat.ino = inode.number();
        if inode.is_dir() {
            // As overlayfs: to count the subdirectories of a merged directory would cost a listing.
            if place.is_merged() || self.options.static_nlink {
                stat.nlink = 1;
            }
            if place.first_name().is_none() && inode.id != super::ROOT {
                stat.nlink = 0;
            }
        } else if !place.has_upper() {
            stat.nlink = stat.nlink.saturating_sub(place.removed());
        } else if let Some(diff) = place.nlink_diff() {
            stat.nlink = stat.nlink.saturating_add_signed(diff);
        }
        if place.metacopy
            && let Ok(lowers) = place.lower_refs()
            && let Some(data) = lowers.last()
            && let Ok(layer) = self.stack.lower(data.layer)
            && let Ok(fd) = layer.open_at(&data.path, libc::O_PATH)
            && let Ok(data) = sys::stat::stat_fd(fd)
        {
            stat.blocks = data.blocks;
        }
        stat
    }

    /// Returns the content of a file for reading.
    pub fn reader(&self, inode: &Arc<Inode>) -> Result<Arc<OwnedFd>> {
        inode.used.store(true, Ordering::Relaxed);
        if let Some(f) = inode.file.lock().as_ref() {
            return Ok(Arc::clone(&f.fd));
        }
        let place = inode.place.read();
        let is_whole = place.has_upper() && !place.metacopy;
        let is_child = !place.has_upper() && place.child_slot().is_some();
        let fd = if is_whole || is_child {
            self.spot(inode, &place)?.open(libc::O_RDONLY)?
        } else {
            let lowers = place.lower_refs()?;
            let at = lowers.last().ok_or(Errno::EIO)?;
            if at.barrier {
                return Err(Errno::EACCES);
            }
            self.stack.lower(at.layer)?.open_at(&at.path, libc::O_RDONLY)?
        };
        let fd = Arc::new(fd);
        self.keep_open(inode, Arc::clone(&fd), false);
        Ok(fd)
    }

    /// Returns the content of a file for reading and writing.
    ///
    /// # Preconditions
    /// The inode was copied up with its data.
    pub fn writer(&self, inode: &Arc<Inode>) -> Result<Arc<OwnedFd>> {
        inode.used.store(true, Ordering::Relaxed);
        if let Some(f) = inode.file.lock().as_ref().filter(|f| f.writable) {
            return Ok(Arc::clone(&f.fd));
        }
        let place = inode.place.read();
        let spot = self.upper_spot(inode, &place)?;
        let fd = match spot.open(libc::O_RDWR) {
            // An append-only file (chattr +a) can be written in this way only.
            Err(Errno::EPERM) => spot.open(libc::O_RDWR | libc::O_APPEND)?,
            r => r?,
        };
        let fd = Arc::new(fd);
        self.keep_open(inode, Arc::clone(&fd), true);
        Ok(fd)
    }

    /// Brings a file to disk, while other threads go on.
    pub fn sync(&self, fd: impl AsFd, data_only: bool) -> Result<()> {
        self.turns.blocking();
        if data_only { nix::unistd::fdatasync(fd) } else { nix::unistd::fsync(fd) }
    }

    /// Keeps the content of a file open for the next use.
    pub fn keep_open(&self, inode: &Arc<Inode>, fd: Arc<OwnedFd>, writable: bool) {
        let keep = !self.opens_all
            && writable
            && sys::stat::stat_fd(&fd).is_ok_and(|s| s.mode & 0o600 != 0o600);
        let mut file = inode.file.lock();
        // A reader that lost a race must not throw a writer's descriptor away.
        if writable || !file.as_ref().is_some_and(|f| f.writable) {
            *file = Some(Box::new(OpenFile { fd, writable, keep }));
        }
        drop(file);
        self.fds.opened(inode);
    }

    /// Returns a descriptor of a directory's part that entries can be read from.
    pub fn readable(dir: &OwnedFd) -> Result<OwnedFd> {
        let flags = libc::O_RDONLY | libc::O_DIRECTORY;
        open_confined(dir, OsStr::new("."), flags, 0, Confine::BeneathNoSymlinks)
    }

    /// Notes that a name is gone, and forgets its directory if nothing needs it now.
    pub fn release(&self, name: super::Name) {
        let parent = name.release();
        if parent.is_unused() {
            self.table.reap(&parent);
        }
    }
}
