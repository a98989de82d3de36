//! New objects: files, directories, symlinks, nodes; also over a whiteout.

use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;

use sys::stat::Stat;
use sys::{Errno, xattr};

use super::{Caller, Union};
use crate::copyup::{Need, Staged, ensure_upper};
use crate::error::Result;
use crate::inode::{DirMeta, InUpper, Ino, Inode, Listing, Lowers, Place, Seen};
use crate::layer::{Over, Spot, UpperLayer, acl, marks};
use crate::resolve::{self, Found, Standing};

/// What to make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum New<'a> {
    /// A regular file.
    File,
    /// A directory.
    Dir,
    /// A symlink with this content.
    Symlink(&'a OsStr),
    /// A FIFO, socket or device: type bits and device number.
    Node(u32, u64),
}

/// Permission bits as the caller gave them, and its umask.
#[derive(Clone, Copy, Debug)]
pub struct Mode {
    /// Permission bits.
    pub bits: u32,
    /// Bits to clear where no default ACL rules.
    pub umask: u32,
}

/// What a new object shall look like on disk.
struct Plan<'a> {
    new: New<'a>,
    mode: u32,
    uid: u32,
    gid: u32,
    access_acl: Option<Vec<u8>>,
    default_acl: Option<Vec<u8>>,
    /// The name looks like a whiteout, so the object is marked as being none.
    literal: bool,
}

impl New<'_> {
    fn kind(&self) -> u32 {
        match self {
            New::File => libc::S_IFREG,
            New::Dir => libc::S_IFDIR,
            New::Symlink(_) => libc::S_IFLNK,
            New::Node(kind, _) => *kind,
        }
    }
}

impl Union {
    /// Makes an object, which counts one lookup, and returns its attributes.
    ///
    /// # Errors
    /// `EEXIST`: the name is taken. `EPERM`: a device 0:0, which would be a whiteout.
    pub fn make(
        &self,
        caller: Caller,
        parent: Ino,
        name: &OsStr,
        new: New<'_>,
        mode: Mode,
    ) -> Result<Stat> {
        if new == New::Node(libc::S_IFCHR, 0) {
            return Err(Errno::EPERM);
        }
        let upper = self.core.stack.upper()?;
        let parent = self.core.inode(parent)?;
        let standing = resolve::standing(&self.core, &parent, name)?;
        if standing.seen == Seen::Present {
            return Err(Errno::EEXIST);
        }
        if parent.place.read().first_name().is_none() && parent.id != crate::inode::ROOT {
            return Err(Errno::ENOENT);
        }
        ensure_upper(&self.core, &parent, Need::Data)?;
        let dir = self.core.upper_dir(&parent)?;
        let meta = self.dir_meta(&parent, &dir)?;
        let plan = self.plan(caller, name, new, mode, &meta)?;
        let over = if standing.seen == Seen::Whiteout { Over::Whiteout } else { Over::Nothing };
        if over == Over::Whiteout {
            upper.adopt_whiteout(&dir, name)?;
        }
        let (stat, file) = if over == Over::Nothing && self.is_direct(&plan, &meta) {
            make_directly(upper, &dir, name, &plan, mode)?
        } else {
            make_staged(upper, &dir, name, &plan, over)?
        };
        let (inode, stat) = self.enter_new(&parent, name, stat, standing)?;
        if let Some(fd) = file {
            self.core.keep_open(&inode, fd, true);
        }
        Ok(self.owned(stat))
    }

    /// Makes a file that has no name yet (`O_TMPFILE` of open(2)), which counts one lookup, and returns
    /// its attributes.
    ///
    /// # Errors
    /// `EOPNOTSUPP`: the upper's file system can't.
    pub fn make_nameless(&self, caller: Caller, parent: Ino, mode: Mode) -> Result<Stat> {
        let upper = self.core.stack.upper()?;
        let parent = self.core.inode(parent)?;
        ensure_upper(&self.core, &parent, Need::Data)?;
        let dir = self.core.upper_dir(&parent)?;
        let meta = self.dir_meta(&parent, &dir)?;
        let plan = self.plan(caller, OsStr::new(""), New::File, mode, &meta)?;
        let staged = Staged::nameless(upper)?;
        dress(upper, &staged, &plan)?;
        let fd = staged.into_nameless()?;
        let stat = upper.stat(&Spot::Fd(Arc::clone(&fd)))?;
        let make = |id: Ino| {
            let place = Place::new(&InUpper::Pinned(stat.ino, Arc::clone(&fd)), &Lowers::No);
            Arc::new(Inode::new(id, libc::S_IFREG, place))
        };
        // Whoever has the number is another object.
        let number = Ino(resolve::number_of(&self.core, &stat));
        let inode = self.core.table.enter(number, |_| false, make);
        self.core.keep_open(&inode, fd, true);
        let place = inode.place.read();
        Ok(self.owned(self.core.shown(&inode, &place, stat)))
    }

    /// Makes the inode of a new object of the upper.
    fn enter_new(
        &self,
        parent: &Arc<Inode>,
        name: &OsStr,
        stat: Stat,
        standing: Standing,
    ) -> Result<(Arc<Inode>, Stat)> {
        let number = resolve::number_of(&self.core, &stat);
        let found = Found {
            stat,
            upper: InUpper::Named(stat.ino),
            named_in_upper: true,
            lowers: Lowers::No,
            metacopy: false,
            nlink_diff: None,
            number,
            impure: false,
        };
        let (inode, stat) = resolve::enter(&self.core, parent, name, found);
        if let Some(dir) = &inode.dir {
            *dir.listing.write() = Some(Listing::default());
        }
        self.list_present(parent, name, &inode, standing.below)?;
        Ok((inode, stat))
    }

    /// Returns what new objects inherit from a directory.
    fn dir_meta(&self, parent: &Arc<Inode>, dir: &Arc<OwnedFd>) -> Result<DirMeta> {
        let mut slot = self.core.dir(parent)?.meta.lock();
        if let Some(meta) = slot.as_ref() {
            return Ok(meta.clone());
        }
        let stat = self.core.stack.upper()?.stat(&Spot::Fd(Arc::clone(dir)))?;
        let default_acl = xattr::get(xattr::of(dir), OsStr::new(acl::DEFAULT))?;
        let meta = DirMeta { mode: stat.mode, gid: stat.gid, default_acl };
        *slot = Some(meta.clone());
        Ok(meta)
    }

    fn plan<'a>(
        &self,
        caller: Caller,
        name: &OsStr,
        new: New<'a>,
        mode: Mode,
        meta: &DirMeta,
    ) -> Result<Plan<'a>> {
        let is_link = matches!(new, New::Symlink(_));
        let setgid = meta.mode & libc::S_ISGID != 0;
        let mut plan = Plan {
            new,
            mode: mode.bits & 0o7777 & !mode.umask,
            uid: self.core.options.uids.of_creator(caller.uid).0,
            gid: if setgid { meta.gid } else { self.core.options.gids.of_creator(caller.gid).0 },
            access_acl: None,
            default_acl: None,
            literal: new == New::File && name.as_bytes().starts_with(marks::DOT_WH),
        };
        if let Some(default) = meta.default_acl.as_ref().filter(|_| !is_link)
            && let Some(inherited) = acl::inherit(default, mode.bits & 0o7777)
        {
            plan.mode = inherited.mode;
            plan.access_acl = inherited.access;
            plan.default_acl = (new == New::Dir).then(|| default.clone());
        }
        if new == New::Dir && setgid {
            plan.mode |= libc::S_ISGID;
        }
        Ok(plan)
    }

    /// Whether the object can be made at its place at once: the daemon's own identity gives it the
    /// right owner.
    fn is_direct(&self, plan: &Plan<'_>, meta: &DirMeta) -> bool {
        let (uid, gid) = self.core.own;
        let gid = if meta.mode & libc::S_ISGID != 0 { meta.gid } else { gid };
        let recorded = self.core.stack.upper_opt().is_some_and(|u| u.permissions().is_some());
        !plan.literal && !recorded && (plan.uid, plan.gid) == (uid, gid)
    }
}

/// Makes an object at its place. The file system applies a default ACL by itself, to the mode
/// without umask.
fn make_directly(
    upper: &UpperLayer,
    dir: &Arc<OwnedFd>,
    name: &OsStr,
    plan: &Plan<'_>,
    mode: Mode,
) -> Result<(Stat, Option<Arc<OwnedFd>>)> {
    let has_acl = plan.access_acl.is_some() || plan.default_acl.is_some();
    let bits = if has_acl { mode.bits & 0o7777 } else { plan.mode };
    match plan.new {
        New::File => {
            let fd = upper.create(dir, name, bits)?;
            return Ok((sys::stat::stat_fd(&fd)?, Some(Arc::new(fd))));
        }
        New::Dir => upper.mkdir(dir, name, bits)?,
        New::Symlink(target) => upper.symlink(target, dir, name)?,
        New::Node(kind, rdev) => upper.mknod(dir, name, kind | bits, rdev)?,
    }
    Ok((sys::stat::stat_at_unsynced(dir, name)?, None))
}

/// Makes an object out of sight and puts it at its place when it is complete.
fn make_staged(
    upper: &UpperLayer,
    dir: &Arc<OwnedFd>,
    name: &OsStr,
    plan: &Plan<'_>,
    over: Over,
) -> Result<(Stat, Option<Arc<OwnedFd>>)> {
    let staged = match plan.new {
        New::File => Staged::file(upper)?,
        New::Dir => Staged::directory(upper)?,
        New::Symlink(target) => Staged::symlink(upper, target)?,
        New::Node(kind, rdev) => Staged::node(upper, kind | plan.mode, rdev)?,
    };
    dress(upper, &staged, plan)?;
    if plan.new == New::Dir && over == Over::Whiteout {
        upper.set_opaque(&staged.spot())?;
    }
    let file = staged.publish(dir, name, over)?;
    // Only now, as a nameless file has no links.
    let stat = match &file {
        Some(fd) => upper.stat(&Spot::Fd(Arc::clone(fd)))?,
        None => upper.stat(&Spot::At(Arc::clone(dir), name.into()))?,
    };
    Ok((stat, file))
}

/// Gives an object that nobody sees its owner, mode and attributes.
fn dress(upper: &UpperLayer, staged: &Staged<'_>, plan: &Plan<'_>) -> Result<()> {
    let spot = staged.spot();
    let now = upper.stat(&spot)?;
    if upper.permissions().is_some() || (now.uid, now.gid) != (plan.uid, plan.gid) {
        upper.chown(&spot, Some(plan.uid), Some(plan.gid))?;
    }
    if plan.new.kind() != libc::S_IFLNK {
        upper.chmod(&spot, plan.mode)?;
    }
    if let Some(acl) = &plan.access_acl {
        upper.set_xattr(&spot, OsStr::new(acl::ACCESS), acl, 0)?;
    }
    if let Some(acl) = &plan.default_acl {
        upper.set_xattr(&spot, OsStr::new(acl::DEFAULT), acl, 0)?;
    }
    if plan.literal {
        upper.set_mark(&spot, "literal", b"y")?;
    }
    Ok(())
}
