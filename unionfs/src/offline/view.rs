//! Layers as users of a mount would see them, without one: a read-only union in this process.

use std::ffi::{OsStr, OsString};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;

use sys::stat::Stat;
use sys::{Errno, Result};

use crate::error::StartError;
use crate::inode::{Cookie, Core, Inode, Options, ROOT, index};
use crate::layer::origin::decode;
use crate::layer::{LowerLayer, Spot};
use crate::resolve::{self, listing};

/// Descriptors that are kept at most.
const DESCRIPTORS: u64 = 1024;

/// Needed to open objects by handle.
const CAP_DAC_READ_SEARCH: u32 = 2;

/// A union of layers that are only read.
#[derive(Debug)]
pub(super) struct View {
    core: Core,
}

/// An object that users would see.
#[derive(Clone, Debug)]
pub(super) struct Visible {
    pub(super) inode: Arc<Inode>,
    pub(super) stat: Stat,
}

impl View {
    /// Merges layers, the topmost first.
    pub(super) fn open<'a>(
        paths: impl IntoIterator<Item = &'a Path>,
    ) -> std::result::Result<View, StartError> {
        let open = |p| LowerLayer::open(p).map_err(|e| StartError::path("lower layer", p, e));
        let lowers = paths.into_iter().map(open).collect::<std::result::Result<Vec<_>, _>>()?;
        let merging = lowers.len();
        let core =
            crate::start::make_core((None, lowers), merging, Options::default(), DESCRIPTORS, 1)?;
        Ok(View { core })
    }

    /// Returns the root.
    pub(super) fn root(&self) -> Result<Arc<Inode>> {
        self.core.inode(ROOT)
    }

    /// Returns what users would see at a name of a directory.
    pub(super) fn child(&self, dir: &Arc<Inode>, name: &OsStr) -> Result<Option<Visible>> {
        let found = resolve::find(&self.core, dir, name)?;
        Ok(found.map(|found| {
            let (inode, stat) = resolve::enter(&self.core, dir, name, found);
            Visible { inode, stat }
        }))
    }

    /// Returns the names that users would see in a directory, sorted.
    pub(super) fn names(&self, dir: &Arc<Inode>) -> Result<Vec<OsString>> {
        let listing = listing::ensure(&self.core, dir, None)?.ok_or(Errno::EIO)?;
        let all = listing.after(Cookie(0));
        let mut names: Vec<OsString> = all.map(|(name, _)| name.to_os_string()).collect();
        names.sort_unstable();
        Ok(names)
    }

    /// Returns where the topmost part of an object is.
    pub(super) fn spot(&self, inode: &Arc<Inode>) -> Result<Spot> {
        self.core.spot(inode, &inode.place.read())
    }

    /// Returns the content of a file.
    pub(super) fn data(&self, inode: &Arc<Inode>) -> Result<Arc<OwnedFd>> {
        self.core.reader(inode)
    }

    /// Whether a layer has the object that an origin handle names; `None` where that can't be found
    /// out, without the right to look objects up by handle.
    pub(super) fn knows(&self, origin: &[u8]) -> Option<bool> {
        let may = sys::process::has_capability(CAP_DAC_READ_SEARCH);
        may.then(|| index::lower_of(&self.core, origin).is_some())
    }

    /// Returns the number that users would see of the lower object that an origin handle names.
    pub(super) fn number(&self, origin: &[u8]) -> Option<u64> {
        index::number_in(&self.core, origin).or_else(|| {
            let stat = index::lower_of(&self.core, origin)?;
            Some(self.core.numbers.of(stat.dev, stat.ino))
        })
    }

    /// Whether an origin handle names an object of the layers, as far as its file system has handles.
    pub(super) fn is_origin(&self, origin: &[u8], inode: &Arc<Inode>) -> bool {
        let handle = || {
            let lowers = inode.place.read().lower_refs().ok()?;
            let at = lowers.first()?;
            let fd = self.core.stack.lower(at.layer).ok()?.open_at(&at.path, libc::O_PATH).ok()?;
            sys::handle::of_at(fd, OsStr::new("")).ok()
        };
        // Whoever wrote it may have left out the UUID.
        match (decode(origin), handle()) {
            (Some((_, named)), Some(own)) => named == own,
            _ => true,
        }
    }

    /// Returns how many links the lower object has that an origin handle names.
    pub(super) fn lower_links(&self, origin: &[u8]) -> Option<u32> {
        index::lower_of(&self.core, origin).map(|s| s.nlink)
    }
}
