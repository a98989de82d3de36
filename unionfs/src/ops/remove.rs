//! Removal, and the whiteout that is left behind. No data is ever copied up for it.

use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use sys::Errno;

use super::Union;
use crate::copyup::{Need, add_nlink_diff, ensure_upper};
use crate::error::Result;
use crate::inode::{InUpper, Ino, Inode, Place, Seen, Slots};
use crate::resolve::{self, Standing, listing};

impl Union {
    /// Removes the name of a non-directory.
    pub fn unlink(&self, parent: Ino, name: &OsStr) -> Result<()> {
        let parent = self.core.inode(parent)?;
        let victim = self.victim(&parent, name)?;
        let done = if victim.is_dir() {
            Err(Errno::EISDIR)
        } else {
            self.take_away(&parent, name, &victim)
        };
        self.core.table.forget(victim.id, 1);
        done
    }

    /// Removes an empty directory.
    ///
    /// # Errors
    /// `ENOTEMPTY`.
    pub fn rmdir(&self, parent: Ino, name: &OsStr) -> Result<()> {
        let parent = self.core.inode(parent)?;
        let victim = self.victim(&parent, name)?;
        let done = self.check_empty(&victim).and_then(|()| self.take_away(&parent, name, &victim));
        self.core.table.forget(victim.id, 1);
        done
    }

    /// Returns the object at a name, known for as long as the caller needs it.
    pub(super) fn victim(&self, parent: &Arc<Inode>, name: &OsStr) -> Result<Arc<Inode>> {
        resolve::hold(&self.core, parent, name)?.ok_or(Errno::ENOENT)
    }

    /// Fails unless users see an empty directory.
    pub(super) fn check_empty(&self, dir: &Arc<Inode>) -> Result<()> {
        match listing::ensure(&self.core, dir, None)? {
            Some(l) if l.present() > 0 => Err(Errno::ENOTEMPTY),
            _ => Ok(()),
        }
    }

    fn take_away(&self, parent: &Arc<Inode>, name: &OsStr, victim: &Arc<Inode>) -> Result<()> {
        let upper = self.core.stack.upper()?;
        ensure_upper(&self.core, parent, Need::Data)?;
        let dir = self.core.upper_dir(parent)?;
        self.keep_link_count(victim)?;
        let standing = resolve::standing(&self.core, parent, name)?;
        let gone = {
            let mut place = victim.place.write();
            place.settle()?;
            self.count_down(victim, &mut place, standing)?;
            self.pin(victim, &mut place, parent, name)?;
            match (standing.in_upper, standing.below) {
                (true, true) => upper.replace_by_whiteout(&dir, name, victim.is_dir())?,
                (true, false) if victim.is_dir() => upper.remove_dir(&dir, name)?,
                (true, false) => upper.unlink(&dir, name)?,
                (false, _) => upper.whiteout(&dir, name)?,
            }
            if !standing.in_upper {
                place.count_removed();
            }
            place.take_name(parent, name)
        };
        if let Some(gone) = gone {
            self.core.release(gone);
        }
        self.unlist(parent, name, standing)
    }

    /// Before a lower file with several names loses one: the number of links is kept with its copy,
    /// as overlayfs with an index does.
    pub(super) fn keep_link_count(&self, victim: &Arc<Inode>) -> Result<()> {
        let has_index = self.core.stack.upper_opt().is_some_and(|u| u.index().is_some());
        if !has_index || victim.kind() != libc::S_IFREG || victim.place.read().has_upper() {
            return Ok(());
        }
        if self.core.stat(victim)?.nlink > 1 {
            ensure_upper(&self.core, victim, Need::Metadata)?;
        }
        Ok(())
    }

    /// Before a name goes: a copied-up hard link whose name only a lower has loses a link that the
    /// upper doesn't count; the last name takes the index entry with it.
    pub(super) fn count_down(
        &self,
        victim: &Arc<Inode>,
        place: &mut Place,
        standing: Standing,
    ) -> Result<()> {
        if !place.has_upper() || place.nlink_diff().is_none() {
            return Ok(());
        }
        let upper = self.core.stack.upper()?;
        let object = self.core.upper_spot(victim, place)?;
        let stat = object.stat()?;
        if self.core.shown(victim, place, stat).nlink == 1 {
            let mark = upper.dialect().prefix.map(|p| p.name("origin"));
            let origin = match &mark {
                Some(mark) => sys::xattr::get(object.xattrs(), mark)?,
                None => None,
            };
            if let (Some(origin), Some(index)) = (origin, upper.index()) {
                let entry = crate::layer::origin::index_name(&origin);
                match upper.unlink(index, OsStr::new(&entry)) {
                    Ok(()) => add_nlink_diff(upper, place, &object, 1)?,
                    Err(Errno::ENOENT) => {}
                    Err(e) => return Err(e),
                }
            }
        }
        if !standing.in_upper {
            add_nlink_diff(upper, place, &object, -1)?;
        }
        Ok(())
    }

    /// Notes in the listing that a name is gone.
    pub(super) fn unlist(&self, parent: &Arc<Inode>, name: &OsStr, before: Standing) -> Result<()> {
        self.relist(parent, |l| {
            l.update(name, |e| {
                e.seen = if before.below { Seen::Whiteout } else { Seen::Gone };
                e.in_upper = false;
                e.lowers = Slots::default();
            });
        })?;
        Ok(())
    }

    /// Keeps hold of an object of the upper that is about to lose its last known name there: users
    /// may have it open.
    pub(super) fn pin(
        &self,
        inode: &Arc<Inode>,
        place: &mut Place,
        parent: &Inode,
        name: &OsStr,
    ) -> Result<()> {
        let InUpper::Named(number) = place.upper() else { return Ok(()) };
        if place.names().any(|n| n.in_upper && !n.is(parent, name)) {
            return Ok(());
        }
        // The upper may give its number to a new object once this one is gone.
        self.core.unmarked.remove(&number);
        let open = inode.file.lock().as_ref().filter(|f| f.writable).map(|f| Arc::clone(&f.fd));
        let fd: Arc<OwnedFd> = match open {
            Some(fd) => fd,
            None => Arc::new(self.core.upper_spot(inode, place)?.open(libc::O_PATH)?),
        };
        place.set_upper(&InUpper::Pinned(number, fd));
        Ok(())
    }
}
