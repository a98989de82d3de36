//! The only door from lower to upper: [`ensure_upper`]. Nothing of a copy is seen before it is
//! complete; one copy at a time for each inode, and no lock that another inode needs.

pub mod data;
pub mod metadata;
mod staging;

use std::cell::Cell;
use std::ffi::{OsStr, OsString};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use sys::name::SetTime;
use sys::stat::Stat;
use sys::{Errno, Result, xattr};

pub use staging::Staged;

use crate::error::best_effort;
use crate::inode::core::Fsync;
use crate::inode::{Core, InUpper, Inode, Place, index};
use crate::layer::{LowerLayer, LowerRef, Over, Spot, UpperLayer};

/// How a lower file is opened for its data; should it be a pipe by now, nobody waits for its other end.
const DATA: i32 = libc::O_RDONLY | libc::O_NONBLOCK;
/// Bytes whose copy takes no longer than other messages.
const QUICK: u64 = 64 << 10;

/// How much of an object the upper must have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// Everything.
    Data,
    /// Everything but the content, if the mount does such copies.
    Metadata,
    /// Everything but the content, which the caller is about to cut off.
    Truncated,
}

/// Makes sure that the upper has an object, its parents first.
///
/// # Errors
/// `EROFS`: there is no upper. Anything that copying meets; nothing that users can see is left then.
pub fn ensure_upper(core: &Core, inode: &Arc<Inode>, need: Need) -> Result<()> {
    let need = if core.options.metacopy || need != Need::Metadata { need } else { Need::Data };
    if is_there(&inode.place.read(), need) {
        return Ok(());
    }
    let upper = core.stack.upper()?;
    let _one_at_a_time = inode.copying.lock();
    let (lowers, parent, metacopy) = {
        let place = inode.place.read();
        if is_there(&place, need) {
            return Ok(());
        }
        let parent = place.first_parent();
        // A metacopy of a lower layer is copied like any file, from two places.
        (place.lower_refs()?, parent, place.has_upper() && place.metacopy)
    };
    if let Some(parent) = &parent {
        ensure_upper(core, parent, Need::Data)?;
    }
    let copy = CopyUp { core, upper, inode, lowers, is_unmarked: Cell::new(false) };
    match inode.kind() {
        libc::S_IFREG if metacopy => copy.fill_metacopy(need),
        libc::S_IFREG => copy.file(need),
        libc::S_IFDIR => copy.directory(),
        _ => copy.other(),
    }
}

fn is_there(place: &Place, need: Need) -> bool {
    place.has_upper() && (!place.metacopy || need == Need::Metadata)
}

/// Makes sure that the upper has an object at one of its names, which a hard link of a lower file
/// may lack after it was copied up at another.
///
/// # Errors
/// `ENOENT`: the object has no such name.
pub fn ensure_name(
    core: &Core,
    inode: &Arc<Inode>,
    parent: &Arc<Inode>,
    name: &OsStr,
) -> Result<()> {
    ensure_upper(core, inode, Need::Metadata)?;
    ensure_upper(core, parent, Need::Data)?;
    let upper = core.stack.upper()?;
    let dir = core.upper_dir(parent)?;
    let mut place = inode.place.write();
    let is_known = place.names().find(|n| n.is(parent, name)).map(|n| n.in_upper);
    if is_known.ok_or(Errno::ENOENT)? {
        return Ok(());
    }
    let object = core.upper_spot(inode, &place)?;
    let times = sys::stat::stat_fd(&dir)?;
    make_impure(core, parent, &dir)?;
    upper.link(&object, &dir, name)?;
    // One more link of the upper, but no more names that users see.
    add_nlink_diff(upper, &mut place, &object, -1)?;
    restore_times(upper, &dir, &times);
    named(&mut place, parent, name);
    listed_in_upper(core, parent, name)
}

/// Changes what the upper's number of links lacks, on disk first.
pub fn add_nlink_diff(
    upper: &UpperLayer,
    place: &mut Place,
    object: &Spot,
    change: i32,
) -> Result<()> {
    let Some(diff) = place.nlink_diff() else { return Ok(()) };
    let diff = diff.saturating_add(change);
    upper.set_mark(object, "nlink", format!("U{diff:+}").as_bytes())?;
    place.set_nlink_diff(Some(diff));
    Ok(())
}

/// Marks a directory of the upper as holding objects with an origin, as overlayfs does, so that the
/// entries of others need no look.
pub fn make_impure(core: &Core, parent: &Arc<Inode>, dir: &Arc<OwnedFd>) -> Result<()> {
    if !core.dir(parent)?.impure.swap(true, Ordering::Relaxed) {
        mark(core.stack.upper()?, &Spot::Fd(Arc::clone(dir)), "impure", b"y");
    }
    Ok(())
}

/// Sets a mark that is not worth failing for, and returns whether it is there.
fn mark(upper: &UpperLayer, to: &Spot, mark: &str, value: &[u8]) -> bool {
    let set = upper.set_mark(to, mark, value);
    let is_set = set.is_ok();
    // No attributes here, or (user ones) not on this type.
    if !matches!(set, Err(Errno::EOPNOTSUPP | Errno::EPERM)) {
        best_effort("mark a copy", set);
    }
    is_set
}

/// Notes that the upper has an object at a name.
fn named(place: &mut Place, parent: &Inode, name: &OsStr) {
    place.name_in_upper(parent, name);
    place.unpin();
}

fn listed_in_upper(core: &Core, parent: &Arc<Inode>, name: &OsStr) -> Result<()> {
    if let Some(l) = core.dir(parent)?.listing.write().as_mut() {
        l.update(name, |e| {
            e.in_upper = true;
            e.below = true;
        });
    }
    Ok(())
}

/// A copy changes nothing that users see, so the directory's times stay.
fn restore_times(upper: &UpperLayer, dir: &Arc<OwnedFd>, times: &Stat) {
    let spot = Spot::Fd(Arc::clone(dir));
    let (atime, mtime) = (SetTime::At(times.atime), SetTime::At(times.mtime));
    best_effort("restore the times of a directory", upper.utimens(&spot, atime, mtime));
}

/// One copy on its way.
struct CopyUp<'a> {
    core: &'a Core,
    upper: &'a UpperLayer,
    inode: &'a Arc<Inode>,
    lowers: Arc<[LowerRef]>,
    /// The copy can't carry its inode number.
    is_unmarked: Cell<bool>,
}

impl CopyUp<'_> {
    fn first(&self) -> Result<&LowerRef> {
        self.lowers.first().ok_or(Errno::EIO)
    }

    /// Opens the lower object that the metadata come from, as an address or for its data too.
    fn source(&self, flags: i32) -> Result<(OwnedFd, Stat)> {
        let at = self.first()?;
        let layer = self.core.stack.lower(at.layer)?;
        if at.barrier {
            let spot = self.core.spot(self.inode, &self.inode.place.read())?;
            return Ok((layer.open_at(b"", libc::O_PATH)?, spot.stat()?));
        }
        let fd = layer.open_at(&at.path, flags)?;
        let mut stat = sys::stat::stat_fd(&fd)?;
        layer.owners().apply(xattr::of(&fd), &mut stat)?;
        Ok((fd, stat))
    }

    fn attributes<'a>(&self, source: &'a OwnedFd) -> Result<Option<xattr::Target<'a>>> {
        Ok((!self.first()?.barrier).then(|| xattr::of(source)))
    }

    fn open_data(&self) -> Result<OwnedFd> {
        let at = self.lowers.last().ok_or(Errno::EIO)?;
        if at.barrier {
            return Err(Errno::EACCES);
        }
        self.core.stack.lower(at.layer)?.open_at(&at.path, DATA)
    }

    fn file(&self, need: Need) -> Result<()> {
        let has_both = need == Need::Data && self.lowers.len() == 1;
        let (source, stat) = self.source(if has_both { DATA } else { libc::O_PATH })?;
        let staged = Staged::file(self.upper)?;
        let file = staged.file_fd()?;
        // An empty file has no data that could be left behind.
        let metacopy = need == Need::Metadata && stat.size > 0 && self.mark_metacopy(&staged)?;
        let need = if need == Need::Metadata && !metacopy { Need::Data } else { need };
        if metacopy {
            sys::name::truncate(file, stat.size)?;
        }
        if need == Need::Data {
            match has_both && !self.first()?.barrier {
                true => self.copy_data(&source, file, &stat)?,
                false => self.copy_data(&self.open_data()?, file, &stat)?,
            }
        }
        let number = self.finish(&source, &stat, &staged)?;
        let has_data = need == Need::Data && stat.size > 0;
        match self.core.options.fsync {
            Fsync::Ordered if has_data => self.core.sync(file, false)?,
            Fsync::Strict => self.core.sync(file, false)?,
            _ => {}
        }
        self.commit(staged, (&source, &stat), number, metacopy)
    }

    /// Copies the data of a file of which this is known.
    fn copy_data(&self, from: &OwnedFd, to: &OwnedFd, stat: &Stat) -> Result<()> {
        let layer = self.core.stack.lower(self.lowers.last().ok_or(Errno::EIO)?.layer)?;
        if stat.size == 0 || layer.shares() && self.share(layer, from, to)? {
            return Ok(());
        }
        if stat.size > QUICK {
            self.core.turns.blocking();
        }
        data::copy(from, to, stat.size, stat.blocks * 512 >= stat.size)
    }

    /// Shares all blocks, if the layer's file system can do that with the upper's.
    fn share(&self, layer: &LowerLayer, from: &OwnedFd, to: &OwnedFd) -> Result<bool> {
        match sys::copy::reflink(from, to) {
            Ok(()) => Ok(true),
            Err(e) => {
                // Others are of this file, which may be too odd to be shared.
                if matches!(e, Errno::EOPNOTSUPP | Errno::EXDEV | Errno::ENOTTY) {
                    layer.cannot_share();
                }
                Ok(false)
            }
        }
    }

    /// Marks a copy as having no data, if the upper can.
    fn mark_metacopy(&self, staged: &Staged<'_>) -> Result<bool> {
        match self.upper.set_mark(&staged.spot(), "metacopy", b"") {
            Ok(()) => Ok(true),
            Err(Errno::EOPNOTSUPP | Errno::EPERM) => Ok(false),
            Err(e) => Err(e),
        }
    }

    fn directory(&self) -> Result<()> {
        let (source, stat) = self.source(libc::O_PATH)?;
        let staged = Staged::directory(self.upper)?;
        let number = self.finish(&source, &stat, &staged)?;
        if self.core.options.fsync == Fsync::Strict {
            let dir = staged.spot().open(libc::O_RDONLY | libc::O_DIRECTORY)?;
            self.core.sync(dir, false)?;
        }
        self.commit(staged, (&source, &stat), number, false)
    }

    fn other(&self) -> Result<()> {
        let (source, stat) = self.source(libc::O_PATH)?;
        let staged = if stat.is_symlink() {
            Staged::symlink(self.upper, &sys::name::readlink(&source, OsStr::new(""))?)?
        } else {
            Staged::node(self.upper, stat.mode, stat.rdev)?
        };
        let number = self.finish(&source, &stat, &staged)?;
        self.commit(staged, (&source, &stat), number, false)
    }

    /// Gives the staged copy its metadata and our marks; returns its own inode number.
    fn finish(&self, source: &OwnedFd, stat: &Stat, staged: &Staged<'_>) -> Result<u64> {
        let to = staged.spot();
        // Marks before the times, which any change of attributes would touch.
        let origin = index::origin_of(self.core, self.first()?, source);
        let is_marked = match &origin {
            Some(origin) => mark(self.upper, &to, "origin", origin),
            None => false,
        };
        // The inode number stays over remounts. Where the origin tells it, a mark of its own would only
        // take room: both together don't fit into an inode of ext4.
        let told = origin.filter(|_| is_marked).and_then(|o| index::number_in(self.core, &o));
        if told != Some(self.inode.number()) {
            let number = self.inode.number().to_le_bytes();
            self.is_unmarked.set(!mark(self.upper, &to, "number", &number));
        }
        metadata::apply(self.core, self.upper, &to, stat, self.attributes(source)?)
    }

    /// Puts the staged copy at its name, or keeps it without one if the object has none any more.
    fn commit(
        &self,
        staged: Staged<'_>,
        (source, stat): (&OwnedFd, &Stat),
        number: u64,
        metacopy: bool,
    ) -> Result<()> {
        let parent = self.inode.place.read().first_parent();
        let dir = match &parent {
            Some(p) => Some(self.core.upper_dir(p)?),
            None => None,
        };
        let mut place = self.inode.place.write();
        let name = place.first_name().map(|n| (Arc::clone(n.parent), n.name.to_os_string()));
        let fd = match (name, dir) {
            (Some((parent, name)), Some(dir)) => {
                let indexed = self.index(&staged, source, stat, &mut place)?;
                let fd = match self.place_at(staged, (&parent, &dir, &name)) {
                    Err(e) => {
                        self.unindex(indexed);
                        place.set_nlink_diff(None);
                        return Err(e);
                    }
                    r => r?,
                };
                place.set_upper(&InUpper::Named(number));
                named(&mut place, &parent, &name);
                fd
            }
            _ => {
                let fd = staged.into_nameless()?;
                place.set_upper(&InUpper::Pinned(number, Arc::clone(&fd)));
                (!self.inode.is_dir()).then_some(fd)
            }
        };
        place.metacopy = metacopy;
        if self.is_unmarked.get() {
            self.core.unmarked.insert(number, self.inode.number());
        }
        if self.inode.kind() == libc::S_IFREG
            && !metacopy
            && let Some(fd) = fd
        {
            self.core.keep_open(self.inode, fd, true);
        }
        Ok(())
    }

    fn place_at(
        &self,
        staged: Staged<'_>,
        (parent, dir, name): (&Arc<Inode>, &Arc<OwnedFd>, &OsStr),
    ) -> Result<Option<Arc<OwnedFd>>> {
        let times = sys::stat::stat_fd(dir)?;
        make_impure(self.core, parent, dir)?;
        let fd = staged.publish(dir, name, Over::Nothing)?;
        restore_times(self.upper, dir, &times);
        listed_in_upper(self.core, parent, name)?;
        Ok(fd)
    }

    /// Enters a lower file with several names in the index, so that it stays one file, and returns the
    /// name there.
    fn index(
        &self,
        staged: &Staged<'_>,
        source: &OwnedFd,
        stat: &Stat,
        place: &mut Place,
    ) -> Result<Option<OsString>> {
        if !stat.is_file() || stat.nlink < 2 || self.upper.dialect().prefix.is_none() {
            return Ok(None);
        }
        let Some(index) = self.upper.index() else { return Ok(None) };
        let Some(origin) = index::origin_of(self.core, self.first()?, source) else {
            return Ok(None);
        };
        // The upper will have two links: the index and one name.
        let links = stat.nlink.saturating_sub(place.removed());
        place.set_nlink_diff(Some(links as i32 - 2));
        add_nlink_diff(self.upper, place, &staged.spot(), 0)?;
        let entry = OsString::from(crate::layer::origin::index_name(&origin));
        self.upper.link(&staged.spot(), index, &entry)?;
        Ok(Some(entry))
    }

    fn unindex(&self, entry: Option<OsString>) {
        if let (Some(entry), Some(index)) = (entry, self.upper.index()) {
            best_effort("take back an index entry", self.upper.unlink(index, &entry));
        }
    }

    /// Copies the data that a metacopy lacks, and only then takes its mark away.
    fn fill_metacopy(&self, need: Need) -> Result<()> {
        let spot = self.core.upper_spot(self.inode, &self.inode.place.read())?;
        let before = spot.stat()?;
        let file = Arc::new(spot.open(libc::O_RDWR)?);
        if need == Need::Data {
            let source = self.open_data()?;
            let stat = sys::stat::stat_fd(&source)?;
            self.copy_data(&source, &file, &Stat { size: before.size, ..stat })?;
            if self.core.options.fsync != Fsync::Volatile {
                self.core.sync(&file, false)?;
            }
        }
        let object = Spot::Fd(Arc::clone(&file));
        let mut place = self.inode.place.write();
        for prefix in [crate::layer::marks::Prefix::Trusted, crate::layer::marks::Prefix::User] {
            match self.upper.remove_xattr(&object, &prefix.name("metacopy")) {
                Err(Errno::ENODATA | Errno::EOPNOTSUPP | Errno::EPERM) => {}
                r => r?,
            }
        }
        self.upper.utimens(&object, SetTime::At(before.atime), SetTime::At(before.mtime))?;
        place.metacopy = false;
        self.core.keep_open(self.inode, file, true);
        Ok(())
    }
}
