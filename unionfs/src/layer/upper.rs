//! The upper layer and its work directory: every mutation of the backing store, each logged once.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use nix::fcntl::Flock;
use sys::name::SetTime;
use sys::stat::Stat;
use sys::{Errno, Result, xattr};

use super::marks::{self, Prefix, Whiteouts};
use super::permissions::{self, Permissions};
use super::spot::Spot;
use super::tree::remove_tree;
use crate::error::best_effort;

/// Name of the whiteout in the work directory that others are links of.
const SHARED_WHITEOUT: &str = "#whiteout";

/// What an upper layer accepted when it was tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dialect {
    /// How deletions are written.
    pub whiteouts: Whiteouts,
    /// Where marks go; `None` where the file system has no attributes for us.
    pub prefix: Option<Prefix>,
    /// `O_TMPFILE` works.
    pub tmpfile: bool,
}

/// Marks that are asked for where an upper may accept better ones.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wishes {
    /// Deletions as `.wh.NAME` files, which every file system and archive can hold.
    pub dot_whiteouts: bool,
    /// Marks in `user.overlay.`, which need no privilege.
    pub user_marks: bool,
}

/// What stands at a name in the upper when something new is put there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Over {
    /// Nothing.
    Nothing,
    /// A whiteout.
    Whiteout,
}

/// The writable layer.
#[derive(Debug)]
pub struct UpperLayer {
    root: Arc<OwnedFd>,
    path: PathBuf,
    dev: u64,
    work: Arc<OwnedFd>,
    index: Option<Arc<OwnedFd>>,
    dialect: Dialect,
    permissions: Option<Permissions>,
    next_temp: AtomicU64,
    /// Held for the life of the mount: two daemons on one work directory would eat each other's.
    _lock: Flock<OwnedFd>,
}

/// Opened and prepared directories that an [`UpperLayer`] is made of; [`super::prepare`] makes them.
#[derive(Debug)]
pub struct Parts {
    pub(super) root: OwnedFd,
    pub(super) path: PathBuf,
    pub(super) dev: u64,
    pub(super) work: OwnedFd,
    pub(super) index: Option<OwnedFd>,
    pub(super) lock: Flock<OwnedFd>,
    pub(super) permissions: Option<Permissions>,
    pub(super) wishes: Wishes,
}

impl UpperLayer {
    /// Makes the layer of its parts, and finds out what its file system accepts.
    pub fn new(parts: Parts) -> UpperLayer {
        let dialect = super::probe::dialect(&parts.work, parts.wishes);
        log::debug!("upper {}: {dialect:?}", parts.path.display());
        UpperLayer {
            root: Arc::new(parts.root),
            path: parts.path,
            dev: parts.dev,
            work: Arc::new(parts.work),
            index: parts.index.map(Arc::new),
            dialect,
            permissions: parts.permissions,
            next_temp: AtomicU64::new(0),
            _lock: parts.lock,
        }
    }

    /// Returns the descriptor of the layer's root.
    pub fn root(&self) -> &Arc<OwnedFd> {
        &self.root
    }

    /// Returns the path by which the layer was named.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the device of the layer.
    pub fn dev(&self) -> u64 {
        self.dev
    }

    /// Returns what the layer accepts.
    pub fn dialect(&self) -> Dialect {
        self.dialect
    }

    /// Returns in which attribute the layer keeps owners and modes, if in any.
    pub fn permissions(&self) -> Option<Permissions> {
        self.permissions
    }

    /// Returns what the layer says of an object.
    pub fn stat(&self, object: &Spot) -> Result<Stat> {
        object.stat_in(self.permissions.into())
    }

    /// Keeps a change of owner or mode in an attribute; false where the layer has real ones.
    fn record(&self, object: &Spot, change: impl FnOnce(&mut Stat)) -> Result<bool> {
        let Some(permissions) = self.permissions else { return Ok(false) };
        let mut stat = self.stat(object)?;
        change(&mut stat);
        permissions.record(object.xattrs(), &stat)?;
        Ok(true)
    }

    /// Returns the directory of the hard link index, if there is one.
    pub fn index(&self) -> Option<&Arc<OwnedFd>> {
        self.index.as_ref()
    }

    /// Returns the directory in which things are made before they are named.
    pub fn work(&self) -> &Arc<OwnedFd> {
        &self.work
    }

    /// Returns a name in the work directory that nobody else uses: the directory was emptied at the
    /// start, is locked, and each name is given once.
    pub fn temp_name(&self) -> OsString {
        OsString::from(format!("#{:x}", self.next_temp.fetch_add(1, Ordering::Relaxed)))
    }

    /// Makes a nameless file for reading and writing.
    ///
    /// # Errors
    /// `EOPNOTSUPP`: use a name in the work directory.
    pub fn tmpfile(&self) -> Result<OwnedFd> {
        if !self.dialect.tmpfile {
            return Err(Errno::EOPNOTSUPP);
        }
        let flags = libc::O_TMPFILE | libc::O_RDWR;
        let mode = if self.permissions.is_some() { permissions::REAL_MODE } else { 0o600 };
        sys::openat::open_at(&self.work, OsStr::new("."), flags, mode)
    }

    /// Makes a new regular file and opens it for reading and writing.
    pub fn create(&self, dir: impl AsFd, name: &OsStr, mode: u32) -> Result<OwnedFd> {
        log::debug!("upper: create {name:?}");
        let flags = libc::O_CREAT | libc::O_EXCL | libc::O_RDWR | libc::O_NOFOLLOW;
        sys::openat::open_at(dir, name, flags, mode)
    }

    /// Makes a directory.
    pub fn mkdir(&self, dir: impl AsFd, name: &OsStr, mode: u32) -> Result<()> {
        log::debug!("upper: mkdir {name:?}");
        sys::name::mkdir(dir, name, mode)
    }

    /// Makes a symlink.
    pub fn symlink(&self, target: &OsStr, dir: impl AsFd, name: &OsStr) -> Result<()> {
        log::debug!("upper: symlink {name:?}");
        sys::name::symlink(target, dir, name)
    }

    /// Makes a node.
    pub fn mknod(&self, dir: impl AsFd, name: &OsStr, mode: u32, rdev: u64) -> Result<()> {
        log::debug!("upper: mknod {name:?}");
        sys::name::mknod(dir, name, mode, rdev)
    }

    /// Gives an object one more name.
    pub fn link(&self, object: &Spot, dir: impl AsFd, name: &OsStr) -> Result<()> {
        log::debug!("upper: link {name:?}");
        match object {
            Spot::At(from_dir, from) => sys::name::link(from_dir, from, dir, name),
            Spot::Fd(fd) => sys::name::link_fd(fd, dir, name),
        }
    }

    /// Removes the entry of a non-directory.
    pub fn unlink(&self, dir: impl AsFd, name: &OsStr) -> Result<()> {
        log::debug!("upper: unlink {name:?}");
        sys::name::unlink(dir, name)
    }

    /// Removes an empty directory.
    pub fn rmdir(&self, dir: impl AsFd, name: &OsStr) -> Result<()> {
        log::debug!("upper: rmdir {name:?}");
        sys::name::rmdir(dir, name)
    }

    /// Renames with the flags of `renameat2(2)`.
    pub fn rename(
        &self,
        from: (impl AsFd, &OsStr),
        to: (impl AsFd, &OsStr),
        flags: u32,
    ) -> Result<()> {
        log::debug!("upper: rename {:?} {:?} {flags:#x}", from.1, to.1);
        sys::name::rename(from.0, from.1, to.0, to.1, flags)
    }

    /// Sets permission bits; not for symlinks.
    pub fn chmod(&self, object: &Spot, mode: u32) -> Result<()> {
        log::debug!("upper: chmod {:?} {mode:o}", object.parts().1);
        if self.record(object, |s| s.mode = s.kind() | mode)? {
            return Ok(());
        }
        match object {
            Spot::At(dir, name) => sys::name::chmod_at(dir, name, mode),
            Spot::Fd(fd) => sys::name::chmod_fd(fd, mode),
        }
    }

    /// Sets owner and group.
    pub fn chown(&self, object: &Spot, uid: Option<u32>, gid: Option<u32>) -> Result<()> {
        let (dir, name) = object.parts();
        log::debug!("upper: chown {name:?} {uid:?} {gid:?}");
        let cleared = |s: &mut Stat| {
            s.uid = uid.unwrap_or(s.uid);
            s.gid = gid.unwrap_or(s.gid);
            // As chown(2) does.
            if !s.is_dir() {
                s.mode &= !libc::S_ISUID;
                if s.mode & libc::S_IXGRP != 0 {
                    s.mode &= !libc::S_ISGID;
                }
            }
        };
        if self.record(object, cleared)? {
            return Ok(());
        }
        sys::name::chown_at(dir, name, uid, gid)
    }

    /// Sets times.
    pub fn utimens(&self, object: &Spot, atime: SetTime, mtime: SetTime) -> Result<()> {
        let (dir, name) = object.parts();
        log::debug!("upper: utimens {name:?}");
        sys::name::utimens_at(dir, name, atime, mtime)
    }

    /// Sets an attribute by its name on disk.
    pub fn set_xattr(&self, object: &Spot, name: &OsStr, value: &[u8], flags: i32) -> Result<()> {
        log::debug!("upper: setxattr {:?} {name:?}", object.parts().1);
        xattr::set(object.xattrs(), name, value, flags)
    }

    /// Removes an attribute by its name on disk.
    pub fn remove_xattr(&self, object: &Spot, name: &OsStr) -> Result<()> {
        log::debug!("upper: removexattr {:?} {name:?}", object.parts().1);
        xattr::remove(object.xattrs(), name)
    }

    /// Sets one of our marks, where the file system has attributes for us.
    ///
    /// # Errors
    /// `EOPNOTSUPP`: it hasn't.
    pub fn set_mark(&self, object: &Spot, mark: &str, value: &[u8]) -> Result<()> {
        let prefix = self.dialect.prefix.ok_or(Errno::EOPNOTSUPP)?;
        self.set_xattr(object, &prefix.name(mark), value, 0)
    }

    /// Makes a directory hide everything below it.
    pub fn set_opaque(&self, object: &Spot) -> Result<()> {
        match self.set_mark(object, "opaque", b"y") {
            Err(Errno::EOPNOTSUPP) => {
                let dir = object.open(libc::O_PATH | libc::O_DIRECTORY)?;
                self.create(&dir, OsStr::new(marks::DOT_WH_OPAQUE), 0o600).map(drop)
            }
            r => r,
        }
    }

    /// Puts a whiteout where the upper has nothing.
    pub fn whiteout(&self, dir: impl AsFd, name: &OsStr) -> Result<()> {
        log::debug!("upper: whiteout {name:?}");
        match self.dialect.whiteouts {
            Whiteouts::Device { .. } => self.link_whiteout(dir, name),
            Whiteouts::DotWh => self.create(dir, &marks::dot_wh(name)?, 0o600).map(drop),
        }
    }

    /// Makes a whiteout that somebody else put into the layer one of our dialect, before something takes
    /// its place. Between the steps both hide what is below.
    pub fn adopt_whiteout(&self, dir: impl AsFd, name: &OsStr) -> Result<()> {
        let has_object = match sys::stat::stat_at_unsynced(&dir, name) {
            Ok(_) => true,
            Err(Errno::ENOENT) => false,
            Err(e) => return Err(e),
        };
        match (self.dialect.whiteouts, has_object) {
            (Whiteouts::Device { .. }, false) => {
                self.link_whiteout(&dir, name)?;
                self.unlink(dir, &marks::dot_wh(name)?)
            }
            (Whiteouts::DotWh, true) => {
                match self.whiteout(&dir, name) {
                    Err(Errno::EEXIST) => {}
                    r => r?,
                }
                self.unlink(dir, name)
            }
            _ => Ok(()),
        }
    }

    /// Leaves nothing in the work directory at the end of the mount.
    pub fn finish(&self) {
        match sys::name::unlink(&self.work, OsStr::new(SHARED_WHITEOUT)) {
            Err(Errno::ENOENT) => {}
            r => best_effort("clear the work directory", r),
        }
    }

    /// Makes a whiteout as one more link of a device in the work directory, which costs a tenth of a
    /// device of its own (ovl_whiteout() of the kernel does the same).
    fn link_whiteout(&self, dir: impl AsFd, name: &OsStr) -> Result<()> {
        let shared = OsStr::new(SHARED_WHITEOUT);
        for _ in 0..2 {
            match sys::name::link(&self.work, shared, &dir, name) {
                // None yet, or one with as many links as the file system allows.
                Err(Errno::ENOENT) => {}
                Err(Errno::EMLINK) => best_effort(
                    "give up a whiteout with too many links",
                    sys::name::unlink(&self.work, shared),
                ),
                Err(Errno::EPERM | Errno::EOPNOTSUPP) => break,
                r => return r,
            }
            match sys::name::mknod(&self.work, shared, libc::S_IFCHR, 0) {
                // Another thread was faster.
                Err(Errno::EEXIST) => {}
                r => r?,
            }
        }
        sys::name::mknod(dir, name, libc::S_IFCHR, 0)
    }

    /// Replaces what the upper has at a name by a whiteout in one step, and removes it.
    pub fn replace_by_whiteout(&self, dir: impl AsFd, name: &OsStr, is_dir: bool) -> Result<()> {
        let dir = dir.as_fd();
        let temp = self.temp_name();
        match self.dialect.whiteouts {
            Whiteouts::Device { rename: true } => {
                self.rename((dir, name), (&self.work, &temp), libc::RENAME_WHITEOUT)?;
            }
            Whiteouts::Device { rename: false } => {
                sys::name::mknod(&self.work, &temp, libc::S_IFCHR, 0)?;
                let flags = if is_dir { libc::RENAME_EXCHANGE } else { 0 };
                self.rename((&self.work, &temp), (dir, name), flags)?;
                if !is_dir {
                    return Ok(());
                }
            }
            // First the whiteout, which hides only lower layers: a crash between leaves the old
            // state.
            Whiteouts::DotWh => {
                self.whiteout(dir, name)?;
                self.rename((dir, name), (&self.work, &temp), 0)?;
            }
        }
        best_effort("remove what a whiteout replaced", remove_tree(&self.work, &temp));
        Ok(())
    }

    /// Takes a directory that users see as empty, with the whiteouts in it, away in one step.
    pub fn remove_dir(&self, dir: impl AsFd, name: &OsStr) -> Result<()> {
        match self.rmdir(&dir, name) {
            Err(Errno::ENOTEMPTY | Errno::EEXIST) => {}
            r => return r,
        }
        let temp = self.temp_name();
        self.rename((dir, name), (&self.work, &temp), 0)?;
        best_effort("remove an emptied directory", remove_tree(&self.work, &temp));
        Ok(())
    }

    /// Puts an object that is complete in the work directory at its place.
    pub fn publish(
        &self,
        temp: &OsStr,
        dir: impl AsFd,
        name: &OsStr,
        is_dir: bool,
        over: Over,
    ) -> Result<()> {
        let device = matches!(self.dialect.whiteouts, Whiteouts::Device { .. });
        let exchange = is_dir && over == Over::Whiteout && device;
        let flags = if exchange { libc::RENAME_EXCHANGE } else { 0 };
        self.rename((&self.work, temp), (&dir, name), flags)?;
        if exchange {
            best_effort("remove a whiteout", sys::name::unlink(&self.work, temp));
        }
        self.drop_dot_wh(dir, name, over)
    }

    /// Gives a complete nameless file its place.
    pub fn publish_tmpfile(
        &self,
        file: &OwnedFd,
        dir: impl AsFd,
        name: &OsStr,
        over: Over,
    ) -> Result<()> {
        log::debug!("upper: publish {name:?}");
        if over == Over::Whiteout && matches!(self.dialect.whiteouts, Whiteouts::Device { .. }) {
            let temp = self.temp_name();
            sys::name::link_fd(file, &self.work, &temp)?;
            return self.rename((&self.work, &temp), (dir, name), 0);
        }
        sys::name::link_fd(file, &dir, name)?;
        self.drop_dot_wh(dir, name, over)
    }

    /// Removes the `.wh.` file of a name that exists again.
    pub fn drop_dot_wh(&self, dir: impl AsFd, name: &OsStr, over: Over) -> Result<()> {
        if over == Over::Nothing || self.dialect.whiteouts != Whiteouts::DotWh {
            return Ok(());
        }
        match self.unlink(dir, &marks::dot_wh(name)?) {
            Err(Errno::ENOENT) => Ok(()),
            r => r,
        }
    }
}
