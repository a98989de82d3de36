//! Rename in its cases: move, replace, exchange; EXDEV for directories with a lower part.

use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use sys::Errno;

use super::Union;
use crate::copyup::{Need, ensure_name, ensure_upper, make_impure};
use crate::error::{Result, best_effort};
use crate::inode::{Ino, Inode, Name, Place, Seen};
use crate::layer::marks::Whiteouts;
use crate::layer::tree::remove_tree;
use crate::layer::{Over, Spot, marks};
use crate::resolve::{self, Standing};

/// Both ends of a rename.
#[derive(Clone, Copy, Debug)]
pub struct Names<'a> {
    /// Directory and name that are left.
    pub from: (Ino, &'a OsStr),
    /// Directory and name that are taken.
    pub to: (Ino, &'a OsStr),
}

/// One end: the directory, its upper descriptor, the name and what stands there.
struct End<'a> {
    parent: Arc<Inode>,
    dir: Arc<OwnedFd>,
    name: &'a OsStr,
    standing: Standing,
}

impl Union {
    /// Renames with the flags of `renameat2(2)`.
    ///
    /// # Errors
    /// `EXDEV`: a directory that has a lower part; callers copy and delete then. `EINVAL`: an unknown
    /// flag. `EEXIST`, `ENOTEMPTY`, `ENOTDIR`, `EISDIR` as rename(2).
    pub fn rename(&self, names: Names<'_>, flags: u32) -> Result<()> {
        if flags & !(libc::RENAME_NOREPLACE | libc::RENAME_EXCHANGE) != 0 {
            return Err(Errno::EINVAL);
        }
        let _order = self.renames.write();
        let from_parent = self.core.inode(names.from.0)?;
        let to_parent = self.core.inode(names.to.0)?;
        let moved = self.victim(&from_parent, names.from.1)?;
        let replaced = resolve::hold(&self.core, &to_parent, names.to.1)?;
        let done = self.rename_known(names, flags, &moved, replaced.as_ref());
        self.core.table.forget(moved.id, 1);
        if let Some(r) = replaced {
            self.core.table.forget(r.id, 1);
        }
        done
    }

    fn rename_known(
        &self,
        names: Names<'_>,
        flags: u32,
        moved: &Arc<Inode>,
        replaced: Option<&Arc<Inode>>,
    ) -> Result<()> {
        let exchange = flags & libc::RENAME_EXCHANGE != 0;
        match replaced {
            Some(_) if flags & libc::RENAME_NOREPLACE != 0 => return Err(Errno::EEXIST),
            None if exchange => return Err(Errno::ENOENT),
            Some(r) if !exchange => check_kinds(moved, r)?,
            _ => {}
        }
        // Two names of one file: nothing happens (rename(2)).
        if replaced.is_some_and(|r| Arc::ptr_eq(r, moved)) {
            return Ok(());
        }
        let others = replaced.filter(|_| exchange);
        for dir in [Some(moved), others].into_iter().flatten().filter(|i| i.is_dir()) {
            // A name of the upper can't say where the lower part is, unless by a redirect.
            let place = dir.place.read();
            if place.has_lowers() && !self.may_redirect(&place) {
                return Err(Errno::EXDEV);
            }
        }
        if let Some(r) = replaced.filter(|_| !exchange) {
            if r.is_dir() {
                self.check_empty(r)?;
            }
            self.keep_link_count(r)?;
        }
        let from = self.end(names.from)?;
        let to = self.end(names.to)?;
        ensure_name(&self.core, moved, &from.parent, from.name)?;
        let from =
            End { standing: resolve::standing(&self.core, &from.parent, from.name)?, ..from };
        match (exchange, replaced) {
            (true, Some(other)) => self.exchange(from, to, moved, other),
            _ => self.move_over(from, to, moved, replaced),
        }
    }

    fn end<'a>(&self, (parent, name): (Ino, &'a OsStr)) -> Result<End<'a>> {
        let parent = self.core.inode(parent)?;
        ensure_upper(&self.core, &parent, Need::Data)?;
        let dir = self.core.upper_dir(&parent)?;
        let standing = resolve::standing(&self.core, &parent, name)?;
        if standing.seen == Seen::Whiteout {
            self.core.stack.upper()?.adopt_whiteout(&dir, name)?;
        }
        Ok(End { parent, dir, name, standing })
    }

    fn exchange(
        &self,
        from: End<'_>,
        to: End<'_>,
        moved: &Arc<Inode>,
        other: &Arc<Inode>,
    ) -> Result<()> {
        ensure_name(&self.core, other, &to.parent, to.name)?;
        let to = End { standing: resolve::standing(&self.core, &to.parent, to.name)?, ..to };
        let upper = self.core.stack.upper()?;
        self.prepare_for(moved, &from, &to)?;
        self.prepare_for(other, &to, &from)?;
        // One may be the directory of the other's first name, which is a hard link then: this asks it.
        moved.place.write().settle()?;
        other.place.write().settle()?;
        // In the order of their numbers, as another thread may hold one and want the other.
        let (first, second) = if moved.id < other.id { (moved, other) } else { (other, moved) };
        let mut a = first.place.write();
        let mut b = second.place.write();
        upper.rename((&from.dir, from.name), (&to.dir, to.name), libc::RENAME_EXCHANGE)?;
        let (m, o) = if moved.id < other.id { (&mut *a, &mut *b) } else { (&mut *b, &mut *a) };
        let left = replace_name(m, &from, &to);
        let right = replace_name(o, &to, &from);
        drop((a, b));
        left.into_iter().chain(right).for_each(|n| self.core.release(n));
        self.list_present(&to.parent, to.name, moved, to.standing.below)?;
        self.list_present(&from.parent, from.name, other, from.standing.below)
    }

    fn move_over(
        &self,
        from: End<'_>,
        to: End<'_>,
        moved: &Arc<Inode>,
        replaced: Option<&Arc<Inode>>,
    ) -> Result<()> {
        self.prepare_for(moved, &from, &to)?;
        let gone = match replaced {
            Some(r) => {
                let mut place = r.place.write();
                place.settle()?;
                self.count_down(r, &mut place, to.standing)?;
                self.pin(r, &mut place, &to.parent, to.name)?;
                self.move_locked(&from, &to, moved)?;
                if !to.standing.in_upper {
                    place.count_removed();
                }
                place.take_name(&to.parent, to.name)
            }
            None => {
                self.move_locked(&from, &to, moved)?;
                None
            }
        };
        if let Some(gone) = gone {
            self.core.release(gone);
        }
        self.unlist(&from.parent, from.name, from.standing)?;
        self.list_present(&to.parent, to.name, moved, to.standing.below)
    }

    /// Moves on disk and renames the inode. The replaced object's place is locked, if there is one.
    fn move_locked(&self, from: &End<'_>, to: &End<'_>, moved: &Arc<Inode>) -> Result<()> {
        let mut place = moved.place.write();
        place.settle()?;
        self.move_on_disk(from, to, moved.is_dir())?;
        let left = replace_name(&mut place, from, to);
        drop(place);
        left.into_iter().for_each(|n| self.core.release(n));
        Ok(())
    }

    /// Moves an object of the upper so that each name changes in one step, and leaves a whiteout
    /// where a lower would show through.
    fn move_on_disk(&self, from: &End<'_>, to: &End<'_>, is_dir: bool) -> Result<()> {
        let upper = self.core.stack.upper()?;
        let (source, target) = ((&from.dir, from.name), (&to.dir, to.name));
        let leaves_whiteout = from.standing.below;
        let takes_something = to.standing.in_upper || to.standing.seen == Seen::Whiteout;
        let Whiteouts::Device { rename } = upper.dialect().whiteouts else {
            return self.move_with_dot_wh(from, to, is_dir);
        };
        // What is in a directory's way (an emptied one, or a whiteout) changes places with it: a
        // directory can't be renamed over it.
        if is_dir && takes_something {
            upper.rename(source, target, libc::RENAME_EXCHANGE)?;
            return self.clear_exchanged(from, to);
        }
        if leaves_whiteout && rename {
            return upper.rename(source, target, libc::RENAME_WHITEOUT);
        }
        if leaves_whiteout {
            let temp = upper.temp_name();
            upper.mknod(upper.work(), &temp, libc::S_IFCHR, 0)?;
            // A crash after this step shows both names with one content, and loses none.
            upper.link(&Spot::At(Arc::clone(&from.dir), from.name.into()), &to.dir, to.name)?;
            return upper.rename((upper.work(), &temp), source, 0);
        }
        upper.rename(source, target, 0)
    }

    /// After an exchange, what stood in the way is at the old name: it becomes the whiteout that is
    /// needed there, or goes.
    fn clear_exchanged(&self, from: &End<'_>, to: &End<'_>) -> Result<()> {
        let upper = self.core.stack.upper()?;
        let was_whiteout = !to.standing.in_upper;
        match (was_whiteout, from.standing.below) {
            (true, true) => Ok(()),
            (true, false) => upper.unlink(&from.dir, from.name),
            (false, true) => upper.replace_by_whiteout(&from.dir, from.name, true),
            (false, false) => upper.remove_dir(&from.dir, from.name),
        }
    }

    /// The same where whiteouts are `.wh.` files beside the names.
    fn move_with_dot_wh(&self, from: &End<'_>, to: &End<'_>, is_dir: bool) -> Result<()> {
        let upper = self.core.stack.upper()?;
        if from.standing.below {
            // It hides lower layers only, so the old name stays visible until it is moved.
            upper.whiteout(&from.dir, from.name)?;
        }
        if is_dir && to.standing.in_upper {
            let temp = upper.temp_name();
            upper.rename((&to.dir, to.name), (upper.work(), &temp), 0)?;
            best_effort("remove a replaced directory", remove_tree(upper.work(), &temp));
        }
        upper.rename((&from.dir, from.name), (&to.dir, to.name), 0)?;
        let over = match to.standing.seen {
            Seen::Whiteout => Over::Whiteout,
            _ => Over::Nothing,
        };
        upper.drop_dot_wh(&to.dir, to.name, over)
    }

    /// Marks an object for its new name before it has it: a directory that comes to lie over
    /// something hides it; a directory that gets a copied-up child becomes impure; a file that looks
    /// like a whiteout is marked as being none.
    fn prepare_for(&self, moved: &Arc<Inode>, from: &End<'_>, to: &End<'_>) -> Result<()> {
        let upper = self.core.stack.upper()?;
        let object = Spot::At(Arc::clone(&from.dir), from.name.into());
        if moved.is_dir() {
            let lower = moved.place.read().refs().first().map(|l| Arc::clone(&l.path));
            if let Some(path) = lower {
                return self.redirect(&object, &path);
            }
            if to.standing.below {
                upper.set_opaque(&object)?;
            }
            return Ok(());
        }
        if moved.kind() == libc::S_IFREG && marks::dot_wh_hides(to.name).is_some() {
            upper.set_mark(&object, "literal", b"y")?;
        }
        self.redirect_metacopy(moved)?;
        if self.core.is_copy(moved, &moved.place.read()) {
            make_impure(&self.core, &to.parent, &to.dir)?;
        }
        Ok(())
    }

    /// Whether a directory with a lower part can be renamed.
    fn may_redirect(&self, place: &Place) -> bool {
        let marks = self.core.stack.upper_opt().is_some_and(|u| u.dialect().prefix.is_some());
        self.core.options.redirects && marks && place.refs().iter().all(|l| !l.barrier)
    }

    /// Notes on an object of the upper where lower layers hold its lower part: the path of the topmost
    /// one, which layers below it hold too or redirect further.
    fn redirect(&self, object: &Spot, lower: &[u8]) -> Result<()> {
        let path = [b"/", lower].concat();
        self.core.stack.upper()?.set_mark(object, "redirect", &path)
    }

    /// A copy without data that gets another name needs to say where its data is.
    pub(super) fn redirect_metacopy(&self, inode: &Arc<Inode>) -> Result<()> {
        let place = inode.place.read();
        if !place.metacopy {
            return Ok(());
        }
        let lowers = place.lower_refs()?;
        let lower = lowers.first().ok_or(Errno::EIO)?;
        self.redirect(&self.core.upper_spot(inode, &place)?, &lower.path)
    }
}

/// A directory replaces only a directory, and nothing else one.
fn check_kinds(moved: &Inode, replaced: &Inode) -> Result<()> {
    match (moved.is_dir(), replaced.is_dir()) {
        (true, false) => Err(Errno::ENOTDIR),
        (false, true) => Err(Errno::EISDIR),
        _ => Ok(()),
    }
}

/// Gives an object its new name, and returns the old one.
fn replace_name(place: &mut Place, from: &End<'_>, to: &End<'_>) -> Option<Name> {
    let old = place.take_name(&from.parent, from.name);
    place.push_name(Name::new(&to.parent, to.name, true));
    old
}
