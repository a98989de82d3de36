//! One name through the stack: found, whited out, opaque, redirected.

use std::borrow::Cow;
use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use sys::stat::Stat;
use sys::{Errno, Result, xattr};

use super::redirect::{self, Arrival};
use super::{Found, Lookup, listing, number_of};
use crate::inode::{Core, InUpper, Inode, Lowers, Seen, Slots, index};
use crate::layer::marks::{self, Links, Marks, Opaque};
use crate::layer::{LowerRef, Owners, Spot};

/// After so many lookups of single names a directory is listed once, which answers all further ones.
const PROBES_BEFORE_LISTING: u32 = 8;
/// A directory with more names than this is listed only for readers of it.
const LISTING_FOR_LOOKUPS: usize = 4096;

/// What one layer has at a name.
#[derive(Debug)]
pub(super) enum Probe {
    Absent,
    Whiteout,
    Object(Box<(Stat, Marks)>),
}

/// What stands at a name, for those who want to change it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// What users see.
    pub seen: Seen,
    /// The upper has an object there (no whiteout).
    pub in_upper: bool,
    /// Without the upper a lower layer would show something.
    pub below: bool,
}

/// Which layers are worth a look.
enum Where {
    /// All.
    Anywhere,
    /// The upper if the flag is set, and these lowers of the directory.
    Only(bool, Slots),
    /// None: the name doesn't exist.
    Nowhere,
}

/// Finds what users see at a name of a directory; `None` is a name that doesn't exist.
pub fn find(core: &Core, parent: &Arc<Inode>, name: &OsStr) -> Lookup {
    if name.len() > 255 {
        return Err(Errno::ENAMETOOLONG);
    }
    match listed(core, parent, name)? {
        Where::Nowhere => Ok(None),
        Where::Only(upper, lowers) => walk(core, parent, name, upper, Some(&lowers)),
        Where::Anywhere => {
            let upper = parent.place.read().has_upper();
            walk(core, parent, name, upper, None)
        }
    }
}

/// Finds what stands at a name of a directory, hidden things included.
pub fn standing(core: &Core, parent: &Arc<Inode>, name: &OsStr) -> Result<Standing> {
    if name.len() > 255 {
        return Err(Errno::ENAMETOOLONG);
    }
    let dir = core.dir(parent)?;
    let gone = Standing { seen: Seen::Gone, in_upper: false, below: false };
    if let Some(l) = dir.listing.read().as_ref() {
        return Ok(l.get(name).map_or(gone, |e| Standing {
            seen: e.seen,
            in_upper: e.in_upper,
            below: e.below,
        }));
    }
    let (has_upper, lowers) = {
        let place = parent.place.read();
        (place.has_upper(), place.lower_refs()?)
    };
    let below = is_below(core, parent, &lowers, name)?;
    if has_upper {
        let fd = core.upper_dir(parent)?;
        match probe(&fd, name, look_upper(core, !lowers.is_empty()))? {
            Probe::Absent => {}
            Probe::Whiteout => {
                return Ok(Standing { seen: Seen::Whiteout, in_upper: false, below });
            }
            Probe::Object(_) => {
                return Ok(Standing { seen: Seen::Present, in_upper: true, below });
            }
        }
    }
    let seen = if below { Seen::Present } else { Seen::Gone };
    Ok(Standing { seen, in_upper: false, below })
}

fn look_upper(core: &Core, more: bool) -> Look<'_> {
    let owners = core.stack.upper_opt().and_then(|u| u.permissions()).into();
    Look { is_upper: true, more, marked: true, xattr_whiteouts: false, owners }
}

/// Whether the lowers of a directory show something at a name.
fn is_below(core: &Core, parent: &Arc<Inode>, lowers: &[LowerRef], name: &OsStr) -> Result<bool> {
    for (i, at) in lowers.iter().enumerate() {
        if at.barrier {
            continue;
        }
        let fd = core.lower_dir(parent, i)?;
        let more = i + 1 < lowers.len();
        let look = Look {
            is_upper: false,
            more,
            marked: more,
            xattr_whiteouts: at.xattr_whiteouts,
            owners: Owners::default(),
        };
        match probe(&fd, name, look)? {
            Probe::Absent => {}
            Probe::Whiteout => return Ok(false),
            Probe::Object(_) => return Ok(true),
        }
    }
    Ok(false)
}

/// Asks the listing, and makes one where it will pay.
fn listed(core: &Core, parent: &Arc<Inode>, name: &OsStr) -> Result<Where> {
    let dir = core.dir(parent)?;
    let ask = |l: &crate::inode::Listing| match l.get(name) {
        Some(e) if e.seen == Seen::Present => Where::Only(e.in_upper, e.lowers),
        _ => Where::Nowhere,
    };
    if let Some(l) = dir.listing.read().as_ref() {
        return Ok(ask(l));
    }
    if dir.probes.fetch_add(1, Ordering::Relaxed) == PROBES_BEFORE_LISTING
        && let Some(l) = listing::ensure(core, parent, Some(LISTING_FOR_LOOKUPS))?
    {
        return Ok(ask(&l));
    }
    Ok(Where::Anywhere)
}

/// Where in a lower layer an object is.
enum Below<'a> {
    /// An entry of one of the directory's lowers.
    Child {
        slot: u16,
        dir: &'a LowerRef,
        /// It has the name that was looked for, not one that a redirect gave.
        is_natural: bool,
    },
    /// Elsewhere.
    Path(LowerRef),
}

impl Below<'_> {
    fn layer(&self) -> u16 {
        match self {
            Below::Child { dir, .. } => dir.layer,
            Below::Path(at) => at.layer,
        }
    }

    fn into_ref(self, name: &OsStr) -> LowerRef {
        match self {
            Below::Child { dir, .. } => dir.child_ref(name),
            Below::Path(at) => at,
        }
    }
}

/// What was gathered on the way down.
struct Walk<'a> {
    core: &'a Core,
    top: Option<(Stat, Marks)>,
    upper: InUpper,
    /// A complete object that is no directory, in this lower of the directory.
    child: Option<u16>,
    lowers: Vec<LowerRef>,
    /// Number of the topmost lower directory, which is a merged directory's.
    lower_number: Option<u64>,
    metacopy: bool,
    redirect: Option<OsString>,
    /// The first layer that an absolute redirect is followed in.
    next_layer: u16,
    done: bool,
}

fn walk(
    core: &Core,
    parent: &Arc<Inode>,
    name: &OsStr,
    look_in_upper: bool,
    only: Option<&Slots>,
) -> Lookup {
    let lowers = parent.place.read().lower_refs()?;
    let mut walk = Walk {
        core,
        top: None,
        upper: InUpper::No,
        child: None,
        lowers: Vec::new(),
        lower_number: None,
        metacopy: false,
        redirect: None,
        next_layer: 0,
        done: false,
    };
    if look_in_upper {
        let fd = core.upper_dir(parent)?;
        let more = only.map_or(!lowers.is_empty(), |o| !o.is_empty());
        match probe(&fd, name, look_upper(core, more))? {
            Probe::Absent => {}
            Probe::Whiteout => return Ok(None),
            Probe::Object(o) => {
                walk.upper = InUpper::Named(o.0.ino);
                walk.take(*o, None, &fd, name, more)?;
            }
        }
    }
    walk.through_lowers(parent, &lowers, name, only)?;
    walk.finish(&lowers, name)
}

impl Walk<'_> {
    fn through_lowers(
        &mut self,
        parent: &Arc<Inode>,
        lowers: &[LowerRef],
        name: &OsStr,
        only: Option<&Slots>,
    ) -> Result<()> {
        let mut name = Cow::Borrowed(name);
        let mut only = only;
        let mut only_natural = true;
        for (i, at) in lowers.iter().enumerate() {
            if self.done {
                return Ok(());
            }
            match self.redirect.take() {
                Some(path) if path.as_bytes().first() == Some(&b'/') => {
                    return self.through_redirect(path);
                }
                Some(sibling) => {
                    name = Cow::Owned(sibling);
                    only = None;
                    only_natural = false;
                }
                None if at.barrier => continue,
                None if !self.metacopy && only.is_some_and(|o| !o.contains(i as u16)) => {
                    continue;
                }
                None => {}
            }
            let fd = self.core.lower_dir(parent, i)?;
            let below = Below::Child { slot: i as u16, dir: at, is_natural: only_natural };
            self.look(&fd, &name, below, i + 1 < lowers.len(), at.xattr_whiteouts)?;
        }
        match self.redirect.take() {
            Some(path) if !self.done && path.as_bytes().first() == Some(&b'/') => {
                self.through_redirect(path)
            }
            _ => Ok(()),
        }
    }

    /// Follows an absolute redirect through all layers below the one that holds it.
    fn through_redirect(&mut self, path: OsString) -> Result<()> {
        let mut path = path.as_bytes().strip_prefix(b"/").unwrap_or_default().to_vec();
        let stack = &self.core.stack;
        let count = if self.metacopy { stack.lowers().len() } else { stack.merging().len() } as u16;
        for layer in self.next_layer..count {
            if self.done {
                return Ok(());
            }
            // The object of the layer above was redirected itself.
            if let Some(next) = self.redirect.take() {
                match next.as_bytes().strip_prefix(b"/") {
                    Some(absolute) => path = absolute.to_vec(),
                    None => {
                        let dir = path.iter().rposition(|&b| b == b'/').map_or(0, |i| i + 1);
                        path.truncate(dir);
                        path.extend_from_slice(next.as_bytes());
                    }
                }
            }
            let here: Arc<[u8]> = path.as_slice().into();
            let descent = redirect::descend(self.core, layer, &mut path)?;
            match descent.arrival {
                Arrival::At(fd, name) => {
                    let below = Below::Path(LowerRef {
                        layer,
                        barrier: false,
                        xattr_whiteouts: false,
                        path: here,
                    });
                    self.look(&fd, &name, below, layer + 1 < count, false)?;
                }
                Arrival::Absent => {}
                Arrival::Hidden => self.done = true,
            }
            self.done |= descent.is_last;
        }
        Ok(())
    }

    fn look(
        &mut self,
        dir: &OwnedFd,
        name: &OsStr,
        below: Below<'_>,
        more: bool,
        xattr_whiteouts: bool,
    ) -> Result<()> {
        let owners = self.core.stack.lower(below.layer())?.owners();
        // An absolute redirect leads to any layer below, also where the directory has no part.
        let marked = usize::from(below.layer()) + 1 < self.core.stack.lowers().len();
        let look = Look { is_upper: false, more, marked, xattr_whiteouts, owners };
        match probe(dir, name, look)? {
            Probe::Absent => Ok(()),
            Probe::Whiteout => {
                self.done = true;
                Ok(())
            }
            Probe::Object(o) => self.take(*o, Some(below), dir, name, more),
        }
    }

    /// Takes an object that a layer has: decides whether it belongs to what was found above it, and
    /// whether the layers below matter.
    fn take(
        &mut self,
        (stat, marks): (Stat, Marks),
        lower: Option<Below<'_>>,
        dir: &OwnedFd,
        name: &OsStr,
        more: bool,
    ) -> Result<()> {
        let is_first = self.top.is_none();
        let belongs =
            is_first || self.metacopy && stat.is_file() || !self.metacopy && stat.is_dir();
        if !belongs {
            self.done = true;
            return Ok(());
        }
        let is_lower = lower.is_some();
        if let Some(below) = lower {
            self.next_layer = below.layer() + 1;
            let is_simple = is_first && !stat.is_dir() && !stat.mount_root && !marks.metacopy;
            match below {
                Below::Child { slot, is_natural: true, .. } if is_simple => self.child = Some(slot),
                below => {
                    let mut at = below.into_ref(name);
                    at.barrier = stat.mount_root;
                    at.xattr_whiteouts = marks.opaque == Opaque::Whiteouts;
                    self.lowers.push(at);
                }
            }
        }
        if is_lower && stat.is_dir() && self.lower_number.is_none() {
            self.lower_number = Some(number_of(self.core, &stat));
        }
        if stat.is_dir() {
            let redirected = marks.redirect.is_some() && marks.opaque != Opaque::Yes;
            self.done = !redirected && (!more || hides_below(&stat, &marks, dir, name)?);
        } else {
            self.metacopy = stat.is_file() && marks.metacopy;
            self.done = !self.metacopy;
        }
        self.redirect = marks.redirect.clone().or(self.redirect.take());
        if is_first {
            self.top = Some((stat, marks));
        }
        Ok(())
    }

    fn finish(self, parents: &[LowerRef], name: &OsStr) -> Lookup {
        let Some((stat, marks)) = self.top else { return Ok(None) };
        let is_dir = stat.is_dir();
        // The data of a metacopy was looked for and is in no layer.
        if self.metacopy {
            log::warn!("metacopy of inode {} has no data in any lower layer", stat.ino);
            return Err(Errno::EIO);
        }
        let mut metacopy = !is_dir && marks.metacopy;
        let copy = Copy::of(self.core, &stat, &marks);
        let mut nlink_diff = copy.nlink_diff;
        let mut upper = self.upper;
        let mut number = match (&upper, self.lower_number) {
            (_, Some(n)) => n,
            (InUpper::No, None) => number_of(self.core, &stat),
            _ => copy.number,
        };
        let named_in_upper = !matches!(upper, InUpper::No);
        let mut stat = stat;
        let lowers = match self.child {
            Some(slot) => Lowers::Child(slot),
            None if self.lowers.is_empty() => Lowers::No,
            None => Lowers::Refs(self.lowers.into()),
        };
        // Most files have one name, and none in the index.
        let first = match &lowers {
            _ if named_in_upper || !stat.is_file() || stat.nlink < 2 => None,
            Lowers::No => None,
            Lowers::Child(slot) => {
                parents.get(usize::from(*slot)).map(|p| Cow::Owned(p.child_ref(name)))
            }
            Lowers::Refs(refs) => refs.first().map(Cow::Borrowed),
        };
        if let Some(at) = &first
            && let Some(found) = index::find(self.core, at)?
            && let InUpper::Pinned(_, fd) = &found
        {
            // The names of one lower file stay one file.
            stat = self.core.stack.upper()?.stat(&Spot::Fd(Arc::clone(fd)))?;
            let marks = Marks::read(xattr::of(fd))?;
            let copy = Copy::of(self.core, &stat, &marks);
            nlink_diff = copy.nlink_diff;
            // As for the name under which it was copied up, which may not know the lower's number.
            number = copy.number;
            metacopy = marks.metacopy;
            upper = found;
        }
        if number <= 1 {
            number = number_of(self.core, &stat);
        }
        Ok(Some(Found {
            stat,
            upper,
            named_in_upper,
            lowers,
            metacopy,
            nlink_diff,
            number,
            impure: is_dir && marks.impure,
        }))
    }
}

/// What the marks of an object of the upper say about what it is a copy of.
struct Copy {
    number: u64,
    nlink_diff: Option<i32>,
}

impl Copy {
    fn of(core: &Core, stat: &Stat, marks: &Marks) -> Copy {
        let told = marks.number.or_else(|| index::number_in(core, marks.origin.as_deref()?));
        // Where neither mark tells the number, or the links are told by the lower's, it has to be found.
        let needs_lower = told.is_none() || matches!(marks.nlink, Some(Links::Lower(_)));
        let origin = marks.origin.as_ref().filter(|_| needs_lower);
        let lower = origin.and_then(|o| index::lower_of(core, o));
        let found = lower.as_ref().map(|l| number_of(core, l));
        let nlink_diff = match (marks.nlink, &lower) {
            (Some(Links::Upper(n)), _) => Some(n),
            (Some(Links::Lower(n)), Some(l)) => Some(l.nlink as i32 + n - stat.nlink as i32),
            _ => None,
        };
        let number = told
            .or_else(|| core.unmarked.get(&stat.ino).map(|n| *n))
            .or(found)
            .unwrap_or_else(|| number_of(core, stat));
        Copy { number, nlink_diff }
    }
}

/// Whether a directory hides what is below it in further layers.
pub(super) fn hides_below(stat: &Stat, marks: &Marks, dir: &OwnedFd, name: &OsStr) -> Result<bool> {
    if marks.opaque == Opaque::Yes {
        return Ok(true);
    }
    if stat.mount_root {
        return Ok(false);
    }
    let mut sentinel = name.to_os_string();
    sentinel.push("/");
    sentinel.push(marks::DOT_WH_OPAQUE);
    let exists = |n: &OsStr| match sys::stat::stat_at_unsynced(dir, n) {
        Ok(_) => Ok(true),
        Err(Errno::ENOENT | Errno::ENAMETOOLONG | Errno::EACCES) => Ok(false),
        Err(e) => Err(e),
    };
    if exists(&sentinel)? {
        return Ok(true);
    }
    // An AUFS-style layer that removed a directory and made it anew has both.
    match marks::dot_wh(name) {
        Ok(whiteout) => exists(&whiteout),
        Err(_) => Ok(false),
    }
}

/// How one layer is looked at.
#[derive(Clone, Copy)]
pub(super) struct Look<'a> {
    pub(super) is_upper: bool,
    /// There are layers below with which it may merge.
    pub(super) more: bool,
    /// There are layers below to which a mark may lead.
    pub(super) marked: bool,
    pub(super) xattr_whiteouts: bool,
    pub(super) owners: Owners<'a>,
}

/// Looks at a name in one layer. Marks are read in the upper, and in lowers that have others below
/// (`marked`): those of the bottom one can't mean anything.
pub(super) fn probe(dir: &OwnedFd, name: &OsStr, look: Look<'_>) -> Result<Probe> {
    let Look { is_upper, more, marked, xattr_whiteouts, owners } = look;
    let mut stat = match sys::stat::stat_at_unsynced(dir, name) {
        Ok(stat) => stat,
        Err(Errno::ENOENT) if more => return dot_whiteout(dir, name),
        Err(Errno::ENOENT) => return Ok(Probe::Absent),
        Err(e) => return Err(e),
    };
    if stat.is_whiteout_device() {
        return Ok(Probe::Whiteout);
    }
    let looks_like_whiteout = stat.is_file() && name.as_bytes().starts_with(marks::DOT_WH);
    let wants_marks = looks_like_whiteout
        || is_upper
        || marked && (stat.is_file() || stat.is_dir()) && !stat.mount_root;
    let marks = if wants_marks {
        Marks::read(xattr::Target::At(dir.as_fd(), name))?
    } else {
        Marks::default()
    };
    if looks_like_whiteout && !marks.literal {
        return Ok(Probe::Absent);
    }
    if xattr_whiteouts && marks.whiteout && stat.is_file() && stat.size == 0 {
        return Ok(Probe::Whiteout);
    }
    owners.apply(xattr::Target::At(dir.as_fd(), name), &mut stat)?;
    Ok(Probe::Object(Box::new((stat, marks))))
}

/// Whether a layer that has nothing at a name has an AUFS-style whiteout for it.
fn dot_whiteout(dir: &OwnedFd, name: &OsStr) -> Result<Probe> {
    let Ok(whiteout) = marks::dot_wh(name) else { return Ok(Probe::Absent) };
    match sys::stat::stat_at_unsynced(dir, &whiteout) {
        Ok(s) if s.is_file() => {
            let literal = Marks::read(xattr::Target::At(dir.as_fd(), &whiteout))?.literal;
            Ok(if literal { Probe::Absent } else { Probe::Whiteout })
        }
        Ok(_) | Err(Errno::ENOENT) => Ok(Probe::Absent),
        Err(e) => Err(e),
    }
}
