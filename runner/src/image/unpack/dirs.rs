//! The directories above an entry: opened part by part, kept open for the next entry, and made where
//! the archive didn't name them.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::os::fd::OwnedFd;
use std::sync::Arc;

use nix::errno::Errno;
use nix::libc;
use sys::name::SetTime;
use sys::stat::Time;

use super::marks::Marks;
use super::path::Clean;
use crate::error::{Context, Error, Result};

/// Mode of a directory that the archive didn't name.
const IMPLIED_MODE: u32 = 0o755;

pub(super) struct Dirs {
    root: Arc<OwnedFd>,
    marks: Marks,
    /// Names and descriptors from below the root down to the last entry's directory.
    open: Vec<(OsString, Arc<OwnedFd>)>,
    /// Times are set last, as every entry that is made changes its directory's.
    times: BTreeMap<Vec<OsString>, Time>,
}

impl Dirs {
    pub(super) fn new(root: Arc<OwnedFd>, marks: Marks) -> Dirs {
        Dirs { root, marks, open: Vec::new(), times: BTreeMap::new() }
    }

    /// Opens the directory that an entry goes to.
    pub(super) fn open(&mut self, parents: &[OsString], path: &Clean) -> Result<Arc<OwnedFd>> {
        let same = self.open.iter().zip(parents).take_while(|((name, _), p)| name == *p).count();
        self.open.truncate(same);
        for name in parents.iter().skip(same) {
            let above = self.last();
            let dir = self.enter(&above, name, path)?;
            self.open.push((name.clone(), Arc::new(dir)));
        }
        Ok(self.last())
    }

    fn last(&self) -> Arc<OwnedFd> {
        Arc::clone(self.open.last().map_or(&self.root, |(_, fd)| fd))
    }

    fn enter(&self, above: &OwnedFd, name: &OsStr, path: &Clean) -> Result<OwnedFd> {
        let flags = libc::O_RDONLY | libc::O_DIRECTORY | libc::O_NOFOLLOW;
        let open = || sys::openat::open_at(above, name, flags, 0);
        let made = match open() {
            Ok(fd) => return Ok(fd),
            Err(Errno::ENOENT) => self.make(above, name, false),
            Err(Errno::ENOTDIR | Errno::ELOOP) => {
                let stat = sys::stat::stat_at(above, name).step_at("look at", path.shown())?;
                if !stat.is_whiteout_device() {
                    let what = if stat.is_symlink() { "a symlink" } else { "no directory" };
                    let name = name.to_string_lossy();
                    let what =
                        format!("{name:?} above it is {what}: refused as it could lead outside");
                    return Err(Error::new("unpack layer", what).at(path.shown()));
                }
                // Removed from the layers below, and then made anew.
                sys::name::unlink(above, name).and_then(|()| self.make(above, name, true))
            }
            Err(e) => Err(e),
        };
        made.and_then(|()| open()).step_at("make the directory above", path.shown())
    }

    fn make(&self, above: &OwnedFd, name: &OsStr, opaque: bool) -> sys::Result<()> {
        sys::name::mkdir(above, name, IMPLIED_MODE)?;
        // Whatever the umask says.
        sys::name::chmod_at(above, name, IMPLIED_MODE)?;
        if opaque {
            self.marks.make_opaque(&super::open_dir(above, name)?)?;
        }
        Ok(())
    }

    /// Forgets a directory that is about to go, with all below it.
    pub(super) fn forget(&mut self, path: &Clean) {
        let parts = path.parts();
        self.open.truncate(parts.len().saturating_sub(1));
        self.times.retain(|dir, _| !dir.starts_with(parts));
    }

    /// Notes the time that a directory shall have in the end.
    pub(super) fn time_later(&mut self, path: &Clean, time: Time) {
        self.times.insert(path.parts().to_vec(), time);
    }

    /// Sets the noted times.
    pub(super) fn set_times(&mut self) -> Result<()> {
        for (parts, time) in std::mem::take(&mut self.times) {
            let shown = parts.join(OsStr::new("/"));
            let path = Clean::new(b".")?;
            let dir = self.open(&parts, &path)?;
            let at = SetTime::At(time);
            sys::name::utimens_at(&dir, OsStr::new(""), at, at)
                .step_at("set the time of", shown)?;
        }
        Ok(())
    }
}
