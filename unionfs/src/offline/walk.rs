//! The walk over an upper: everything that it has, and what that means for users.

use std::ffi::{OsStr, OsString};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sys::stat::Stat;
use sys::{Errno, xattr};

use super::error::{OfflineError, Result};
use super::links::Tracking;
use super::raw::{self, Raw, RawDir, join};
use super::view::View;
use crate::inode::Inode;
use crate::layer::marks::{Marks, Opaque};
use crate::layer::{LowerLayer, Permissions, Spot};

/// An upper and the layers below it.
#[derive(Debug)]
pub struct Stack {
    upper: LowerLayer,
    /// What users see.
    pub(super) merged: View,
    /// What they would see without the upper.
    below: View,
    exclude: Vec<Vec<u8>>,
}

/// Whether users see a name also without the upper.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Was {
    /// Nothing was there.
    Absent,
    /// A directory was there.
    Dir,
    /// Something else was there.
    Other,
}

/// An object that the upper has, or that it brought from a layer below to a new place.
#[derive(Debug)]
pub(super) struct Node<'a> {
    /// Path without a leading slash; empty for the root.
    pub(super) path: &'a [u8],
    /// What users see of it.
    pub(super) stat: Stat,
    /// Where its attributes are, and its data unless `data` says otherwise.
    pub(super) spot: Spot,
    /// The inode in [`Stack::merged`] that has the data.
    pub(super) data: Option<Arc<Inode>>,
    /// What was at the path.
    pub(super) was: Was,
    /// It hides what lower layers have below it.
    pub(super) opaque: bool,
    /// What its marks say, for an object of the upper itself.
    pub(super) marks: Option<&'a Marks>,
}

/// Who is told what an upper has, directories before what is in them, names in order.
pub(super) trait Visitor {
    /// An object.
    fn object(&mut self, stack: &Stack, node: &Node<'_>) -> Result<()>;
    /// A whiteout that hides something.
    fn deleted(&mut self, path: &[u8]) -> Result<()>;
    /// A name that is hidden as its directory is opaque.
    fn hidden(&mut self, path: &[u8]) -> Result<()>;
}

impl Stack {
    /// Opens an upper and the layers below it, the topmost first. Nothing is locked and nothing is
    /// written: of an upper that is mounted, what is seen is of no single moment.
    pub fn open<P: AsRef<Path>>(upper: &Path, lowers: &[P]) -> Result<Stack> {
        let layer = LowerLayer::open(upper)
            .map_err(|e| crate::error::StartError::path("upper", upper, e))?;
        let lowers = || lowers.iter().map(AsRef::as_ref);
        let merged = View::open(std::iter::once(upper).chain(lowers()))?;
        Ok(Stack { upper: layer, merged, below: View::open(lowers())?, exclude: Vec::new() })
    }

    /// Leaves out these absolute paths, with everything below them.
    #[must_use]
    pub fn without(mut self, paths: impl IntoIterator<Item = PathBuf>) -> Stack {
        let trimmed = paths.into_iter().map(|p| {
            let bytes = p.as_os_str().as_bytes();
            bytes.split(|&b| b == b'/').filter(|p| !p.is_empty()).collect::<Vec<_>>().join(&b'/')
        });
        self.exclude.extend(trimmed.filter(|p| !p.is_empty()));
        self
    }

    /// Tells a visitor of everything.
    pub(super) fn walk(&self, visitor: &mut (impl Visitor + Send)) -> Result<()> {
        super::deep::run(|| {
            let mut tracking = Tracking::new(visitor);
            self.walk_upper(&mut tracking)?;
            tracking.finish(self)
        })
    }

    fn walk_upper(&self, visitor: &mut impl Visitor) -> Result<()> {
        let root = self.upper.root();
        let fail = |e| OfflineError::At("look at", self.upper.path().into(), e);
        let marks = Marks::read(xattr::of(root)).map_err(fail)?;
        let mut stat = sys::stat::stat_fd(root).map_err(fail)?;
        if let Some(p) = self.upper.permissions() {
            p.apply(xattr::of(root), &mut stat).map_err(fail)?;
        }
        let merged = self.merged.root().map_err(fail)?;
        let below = self.below.root().map_err(fail)?;
        let raw = raw::read(root, &marks, self.upper.permissions()).map_err(fail)?;
        let opaque = marks.opaque == Opaque::Yes || raw.opaque_file;
        let node = Node {
            path: b"",
            stat,
            spot: Spot::Fd(Arc::clone(root)),
            data: None,
            was: Was::Dir,
            opaque,
            marks: Some(&marks),
        };
        visitor.object(self, &node)?;
        let dir = Dir {
            fd: Arc::clone(root),
            path: Vec::new(),
            raw,
            opaque,
            merged: Some(merged),
            below: Some(below),
        };
        self.directory(dir, visitor)
    }

    pub(super) fn is_excluded(&self, path: &[u8]) -> bool {
        self.exclude.iter().any(|e| e == path)
    }

    fn directory(&self, dir: Dir, visitor: &mut impl Visitor) -> Result<()> {
        super::deep::check(&dir.path)?;
        if dir.opaque {
            self.hidden(&dir, visitor)?;
        }
        for (name, raw) in &dir.raw.entries {
            let path = join(&dir.path, name);
            if self.is_excluded(&path) {
                continue;
            }
            let below = match &dir.below {
                Some(below) => {
                    self.below.child(below, name).map_err(OfflineError::at("look up", &path))?
                }
                None => None,
            };
            match &raw.object {
                Some((stat, marks)) => {
                    let seen = Object { name, path, stat: *stat, marks, raw };
                    self.object(&dir, seen, below.map(|b| b.inode), visitor)?;
                }
                None if below.is_some() && !dir.opaque => visitor.deleted(&path)?,
                None => {}
            }
        }
        Ok(())
    }

    /// Tells of what an opaque directory hides.
    fn hidden(&self, dir: &Dir, visitor: &mut impl Visitor) -> Result<()> {
        let Some(below) = &dir.below else { return Ok(()) };
        let names = self.below.names(below).map_err(OfflineError::at("list", &dir.path))?;
        for name in names {
            let path = join(&dir.path, &name);
            let is_there = dir.raw.entries.get(&name).is_some_and(|r| r.object.is_some());
            if !is_there && !self.is_excluded(&path) {
                visitor.hidden(&path)?;
            }
        }
        Ok(())
    }

    fn object(
        &self,
        dir: &Dir,
        object: Object<'_>,
        below: Option<Arc<Inode>>,
        visitor: &mut impl Visitor,
    ) -> Result<()> {
        let Object { name, path, stat, marks, raw } = object;
        let fail = |step| OfflineError::at(step, &path);
        let was = match &below {
            None => Was::Absent,
            Some(b) if b.is_dir() => Was::Dir,
            Some(_) => Was::Other,
        };
        let spot = Spot::At(Arc::clone(&dir.fd), name.to_os_string());
        let merged = || -> Result<Option<Arc<Inode>>> {
            let Some(parent) = &dir.merged else { return Ok(None) };
            let seen = self.merged.child(parent, name).map_err(fail("look up"))?;
            Ok(seen.map(|s| s.inode))
        };
        if !stat.is_dir() {
            let data = if marks.metacopy { merged()? } else { None };
            let node =
                Node { path: &path, stat, spot, data, was, opaque: false, marks: Some(marks) };
            return visitor.object(self, &node);
        }
        let fd = raw::enter(&dir.fd, name).map_err(fail("open"))?;
        let inner = raw::read(&fd, marks, self.upper.permissions()).map_err(fail("read"))?;
        let marked = marks.opaque == Opaque::Yes || inner.opaque_file || raw.whiteout.is_some();
        let is_redirected = marks.redirect.is_some() && !marked;
        // What a renamed directory has at its new place hides what was there.
        let opaque = marked || is_redirected || was != Was::Dir;
        let node = Node {
            path: &path,
            stat,
            spot,
            data: None,
            was,
            opaque: opaque && was == Was::Dir,
            marks: Some(marks),
        };
        visitor.object(self, &node)?;
        let merged = merged()?;
        if is_redirected {
            let merged = merged.ok_or(Errno::EIO).map_err(fail("follow the redirect of"))?;
            let moved = Moved { merged, below: below.filter(|_| was == Was::Dir) };
            return self.moved(&path, moved, visitor);
        }
        let below = below.filter(|_| was == Was::Dir);
        self.directory(Dir { fd: Arc::new(fd), path, raw: inner, opaque, merged, below }, visitor)
    }

    /// Everything of a renamed directory, which is in the layers below at its old place.
    fn moved(&self, above: &[u8], dir: Moved, visitor: &mut impl Visitor) -> Result<()> {
        super::deep::check(above)?;
        let fail = |step, path: &[u8]| OfflineError::at(step, path);
        let names = self.merged.names(&dir.merged).map_err(fail("list", above))?;
        if let Some(below) = &dir.below {
            for name in self.below.names(below).map_err(fail("list", above))? {
                let path = join(above, &name);
                if names.binary_search(&name).is_err() && !self.is_excluded(&path) {
                    visitor.hidden(&path)?;
                }
            }
        }
        for name in names {
            let path = join(above, &name);
            if self.is_excluded(&path) {
                continue;
            }
            let seen = self.merged.child(&dir.merged, &name).map_err(fail("look up", &path))?;
            let Some(seen) = seen else { continue };
            let below = match &dir.below {
                Some(below) => self.below.child(below, &name).map_err(fail("look up", &path))?,
                None => None,
            };
            let was = match &below {
                None => Was::Absent,
                Some(b) if b.inode.is_dir() => Was::Dir,
                Some(_) => Was::Other,
            };
            let spot = self.merged.spot(&seen.inode).map_err(fail("find", &path))?;
            let is_dir = seen.stat.is_dir();
            let data = Some(Arc::clone(&seen.inode));
            let node =
                Node { path: &path, stat: seen.stat, spot, data, was, opaque: false, marks: None };
            visitor.object(self, &node)?;
            if is_dir {
                let below = below.filter(|_| was == Was::Dir).map(|b| b.inode);
                self.moved(&path, Moved { merged: seen.inode, below }, visitor)?;
            }
        }
        Ok(())
    }

    /// Returns how the upper keeps owners and modes.
    pub(super) fn permissions(&self) -> Option<Permissions> {
        self.upper.permissions()
    }
}

/// A directory of the upper.
struct Dir {
    fd: Arc<OwnedFd>,
    path: Vec<u8>,
    raw: RawDir,
    /// Nothing of what is below shows through.
    opaque: bool,
    merged: Option<Arc<Inode>>,
    /// The directory that was at the path.
    below: Option<Arc<Inode>>,
}

/// An object of a directory of the upper.
struct Object<'a> {
    name: &'a OsString,
    path: Vec<u8>,
    stat: Stat,
    marks: &'a Marks,
    raw: &'a Raw,
}

/// A directory that came from another place.
struct Moved {
    merged: Arc<Inode>,
    below: Option<Arc<Inode>>,
}

/// Returns a path as a file name, for errors.
pub(super) fn shown(path: &[u8]) -> &OsStr {
    OsStr::from_bytes(path)
}
