//! Whether an upper and its work directory are sound, and how to mend what isn't.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sys::stat::Stat;
use sys::{Errno, getdents, xattr};

use super::error::{OfflineError, Result};
use super::lock;
use super::raw::{self, Raw, Whiteout, join};
use super::view::View;
use crate::inode::Inode;
use crate::layer::marks::{self, Links, Marks, Opaque, Prefix};
use crate::layer::{LowerLayer, tree};

/// Directories of a work directory.
const WORK: &str = "work";
const INDEX: &str = "index";
/// Mark of a volatile mount.
const INCOMPAT: &str = "incompat";

/// What is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FindingKind {
    /// A directory says that its lower part is elsewhere, and there is none.
    DanglingRedirect,
    /// A file has only metadata, and no layer has its data.
    MissingData,
    /// A copy says what it is a copy of, and no layer has that.
    DanglingOrigin,
    /// A whiteout that hides nothing.
    UselessWhiteout,
    /// The number of links that users would see can't be right.
    WrongLinks,
    /// A mount that was killed left something in the work directory.
    WorkLeftover,
    /// An entry of the index whose file has no name any more, or whose lower file is gone.
    OrphanIndex,
    /// A volatile mount may have left the upper incomplete.
    WasVolatile,
}

impl FindingKind {
    /// Returns its name in lists.
    pub fn name(self) -> &'static str {
        match self {
            FindingKind::DanglingRedirect => "dangling-redirect",
            FindingKind::MissingData => "missing-data",
            FindingKind::DanglingOrigin => "dangling-origin",
            FindingKind::UselessWhiteout => "useless-whiteout",
            FindingKind::WrongLinks => "wrong-links",
            FindingKind::WorkLeftover => "work-leftover",
            FindingKind::OrphanIndex => "orphan-index",
            FindingKind::WasVolatile => "was-volatile",
        }
    }
}

/// Something that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What it is.
    pub kind: FindingKind,
    /// Where: absolute in the union, or below the work directory.
    pub path: PathBuf,
    /// More about it.
    pub detail: String,
    /// It is right now.
    pub mended: bool,
}

/// What is checked.
#[derive(Clone, Debug)]
pub struct Layers<'a> {
    /// The upper.
    pub upper: &'a Path,
    /// Its work directory; without it what is in there is not looked at, and nothing is locked.
    pub work: Option<&'a Path>,
    /// The layers below, the topmost first; without them only the upper itself is checked.
    pub lowers: &'a [PathBuf],
}

/// Whether what is wrong is mended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repair {
    /// It is only reported.
    No,
    /// It is mended where that loses nothing.
    Yes,
}

/// Checks the layers. Nothing that users see changes by a repair, but for what was broken.
///
/// # Errors
/// They are mounted, or can't be read.
pub fn fsck(layers: &Layers<'_>, repair: Repair) -> Result<Vec<Finding>> {
    if repair == Repair::Yes && layers.work.is_none() {
        let what = "--repair needs the work directory too, whose lock keeps mounts away: give it by --work";
        return Err(OfflineError::Words(what.into()));
    }
    let _unmounted = lock::ensure(layers.upper, layers.work)?;
    super::deep::run(|| walk(layers, repair))
}

fn walk(layers: &Layers<'_>, repair: Repair) -> Result<Vec<Finding>> {
    let fail = |e| OfflineError::At("open upper", layers.upper.into(), e);
    let upper = LowerLayer::open(layers.upper).map_err(fail)?;
    let below = View::open(layers.lowers.iter().map(PathBuf::as_path))?;
    let merged = View::open(
        std::iter::once(layers.upper).chain(layers.lowers.iter().map(PathBuf::as_path)),
    )?;
    let mut check = Check {
        has_lowers: !layers.lowers.is_empty(),
        below,
        merged,
        repair,
        found: Vec::new(),
        linked: HashMap::new(),
    };
    let fd = Arc::clone(upper.root());
    let marks = Marks::read(xattr::of(&fd)).map_err(fail)?;
    let lower = check.below.root().map_err(fail)?;
    let seen = check.merged.root().map_err(fail)?;
    let dir = Dir {
        fd,
        path: Vec::new(),
        opaque: marks.opaque == Opaque::Yes,
        lower: Some(lower),
        seen: Some(seen),
    };
    check.directory(&dir, &marks)?;
    check.links()?;
    if let Some(work) = layers.work {
        check.work(work)?;
    }
    Ok(check.found)
}

struct Check {
    has_lowers: bool,
    below: View,
    merged: View,
    repair: Repair,
    found: Vec<Finding>,
    /// Files with a mark about links, by number: their names.
    linked: HashMap<u64, Linked>,
}

struct Linked {
    at: (Arc<OwnedFd>, OsString),
    path: Vec<u8>,
    stat: Stat,
    links: Links,
    names: u32,
}

struct Dir {
    fd: Arc<OwnedFd>,
    path: Vec<u8>,
    opaque: bool,
    /// What is merged below it.
    lower: Option<Arc<Inode>>,
    /// What users see there.
    seen: Option<Arc<Inode>>,
}

impl Check {
    /// Notes something, after mending it if that is wanted.
    fn note(
        &mut self,
        kind: FindingKind,
        path: &[u8],
        detail: &str,
        mend: Option<&mut dyn FnMut() -> sys::Result<()>>,
    ) -> Result<()> {
        let mut mended = false;
        if let (Repair::Yes, Some(mend)) = (self.repair, mend) {
            mend().map_err(OfflineError::at("mend", path))?;
            mended = true;
        }
        let absolute = [b"/", path].concat();
        let path = PathBuf::from(OsString::from_vec(absolute));
        self.found.push(Finding { kind, path, detail: detail.to_owned(), mended });
        Ok(())
    }

    fn directory(&mut self, dir: &Dir, own: &Marks) -> Result<()> {
        super::deep::check(&dir.path)?;
        let fail = |step| OfflineError::at(step, &dir.path);
        let raw = raw::read(&dir.fd, own, None).map_err(fail("read"))?;
        let opaque = dir.opaque || raw.opaque_file;
        for (name, raw) in &raw.entries {
            let path = join(&dir.path, name);
            let lower = match &dir.lower {
                Some(lower) if !opaque => {
                    self.below.child(lower, name).map_err(OfflineError::at("look up", &path))?
                }
                _ => None,
            };
            if let Some(whiteout) = raw.whiteout
                && self.has_lowers
                && lower.is_none()
            {
                let detail = if opaque {
                    "its directory hides everything anyway"
                } else {
                    "no layer below has the name"
                };
                let mut mend = || remove_whiteout(&dir.fd, name, whiteout);
                self.note(FindingKind::UselessWhiteout, &path, detail, Some(&mut mend))?;
            }
            if raw.object.is_some() {
                let lower = lower.map(|l| l.inode);
                self.object(dir, name, raw, path, lower)?;
            }
        }
        Ok(())
    }

    fn object(
        &mut self,
        dir: &Dir,
        name: &OsStr,
        raw: &Raw,
        path: Vec<u8>,
        lower: Option<Arc<Inode>>,
    ) -> Result<()> {
        let Some((stat, marks)) = &raw.object else { return Ok(()) };
        let fail = |step| OfflineError::at(step, &path);
        let at = xattr::Target::At(dir.fd.as_fd(), name);
        if let Some(origin) = &marks.origin
            && self.has_lowers
            && self.below.knows(origin) == Some(false)
        {
            let mut mend = || remove_mark(at, "origin");
            self.note(
                FindingKind::DanglingOrigin,
                &path,
                "the lower object is gone",
                Some(&mut mend),
            )?;
        }
        if !stat.is_dir() {
            return self.file(dir, name, (stat, marks), path);
        }
        let mut lower = lower.filter(|l| l.is_dir());
        let mut opaque = marks.opaque == Opaque::Yes || raw.whiteout.is_some();
        if let Some(redirect) = marks.redirect.as_ref().filter(|_| !opaque && self.has_lowers) {
            lower = self.target(dir, redirect).map_err(fail("follow the redirect of"))?;
            if lower.is_none() {
                let detail =
                    format!("it leads to {}, which no layer has", redirect.to_string_lossy());
                let mut mend = || {
                    let prefix = prefix_of(at, "redirect")?;
                    xattr::set(at, &prefix.name("opaque"), b"y", 0)?;
                    remove_mark(at, "redirect")
                };
                self.note(FindingKind::DanglingRedirect, &path, &detail, Some(&mut mend))?;
                opaque = true;
            }
        }
        let fd = Arc::new(raw::enter(&dir.fd, name).map_err(fail("open"))?);
        let seen = match &dir.seen {
            Some(seen) => self.merged.child(seen, name).map_err(fail("look up"))?.map(|s| s.inode),
            None => None,
        };
        self.directory(&Dir { fd, path, opaque, lower: lower.filter(|_| !opaque), seen }, marks)
    }

    /// Returns the lower directory that a redirect leads to.
    fn target(&self, dir: &Dir, redirect: &OsStr) -> sys::Result<Option<Arc<Inode>>> {
        let (mut at, rest) = match redirect.as_bytes().strip_prefix(b"/") {
            Some(absolute) => (Some(self.below.root()?), absolute),
            None => (dir.lower.clone(), redirect.as_bytes()),
        };
        for part in rest.split(|&b| b == b'/').filter(|p| !p.is_empty()) {
            let Some(here) = at.filter(|d| d.is_dir()) else { return Ok(None) };
            at = self.below.child(&here, OsStr::from_bytes(part))?.map(|c| c.inode);
        }
        Ok(at.filter(|d| d.is_dir()))
    }

    fn file(
        &mut self,
        dir: &Dir,
        name: &OsStr,
        (stat, marks): (&Stat, &Marks),
        path: Vec<u8>,
    ) -> Result<()> {
        if marks.metacopy && self.has_lowers {
            let found = match &dir.seen {
                Some(seen) => self.merged.child(seen, name),
                None => Ok(None),
            };
            if !matches!(found, Ok(Some(_))) {
                let detail = "it has only metadata, and no layer below has the data";
                self.note(FindingKind::MissingData, &path, detail, None)?;
            }
        }
        let Some(links) = marks.nlink else { return Ok(()) };
        let at = (Arc::clone(&dir.fd), name.to_os_string());
        let linked = Linked { at, path, stat: *stat, links, names: 0 };
        self.linked.entry(stat.ino).or_insert(linked).names += 1;
        Ok(())
    }

    /// Checks what is said about links, once all names of each file were seen.
    fn links(&mut self) -> Result<()> {
        let mut all: Vec<Linked> = std::mem::take(&mut self.linked).into_values().collect();
        all.sort_by(|a, b| a.path.cmp(&b.path));
        for linked in all {
            let Links::Upper(more) = linked.links else { continue };
            let shown = i64::from(linked.stat.nlink) + i64::from(more);
            if shown >= i64::from(linked.names) {
                continue;
            }
            let detail =
                format!("users would see {shown} links of a file with {} names", linked.names);
            let (dir, name) = &linked.at;
            let at = xattr::Target::At(dir.as_fd(), name);
            let right = i64::from(linked.names) - i64::from(linked.stat.nlink);
            let mut mend = || {
                let mark = prefix_of(at, "nlink")?.name("nlink");
                xattr::set(at, &mark, format!("U{right:+}").as_bytes(), 0)
            };
            self.note(FindingKind::WrongLinks, &linked.path, &detail, Some(&mut mend))?;
        }
        Ok(())
    }

    fn work(&mut self, work: &Path) -> Result<()> {
        let fail = |e| OfflineError::At("read work directory", work.into(), e);
        let flags = libc::O_RDONLY | libc::O_DIRECTORY;
        let base =
            sys::openat::open_at(nix::fcntl::AT_FDCWD, work.as_os_str(), flags, 0).map_err(fail)?;
        if let Some((dir, names)) = list(&base, WORK).map_err(fail)? {
            for name in names {
                let path = join(WORK.as_bytes(), &name);
                if name == INCOMPAT {
                    let detail = "a volatile mount may have left the upper incomplete: remove this by hand to use it all the same";
                    self.note(FindingKind::WasVolatile, &path, detail, None)?;
                    continue;
                }
                let mut mend = || tree::remove_tree(&dir, &name);
                self.note(
                    FindingKind::WorkLeftover,
                    &path,
                    "of a mount that was killed",
                    Some(&mut mend),
                )?;
            }
        }
        let Some((dir, names)) = list(&base, INDEX).map_err(fail)? else { return Ok(()) };
        for name in names {
            let stat = sys::stat::stat_at(&dir, &name).map_err(fail)?;
            if !stat.is_file() {
                continue;
            }
            let is_known = decoded(&name).and_then(|origin| self.below.knows(&origin));
            let detail = match is_known {
                _ if stat.nlink < 2 => "its file has no other name",
                Some(false) if self.has_lowers => "the lower file is gone",
                _ => continue,
            };
            let mut mend = || sys::name::unlink(&dir, &name);
            self.note(
                FindingKind::OrphanIndex,
                &join(INDEX.as_bytes(), &name),
                detail,
                Some(&mut mend),
            )?;
        }
        Ok(())
    }
}

/// Returns the handle that an index entry is called by.
fn decoded(name: &OsStr) -> Option<Vec<u8>> {
    let text = name.to_str().filter(|t| t.len() % 2 == 0)?;
    let byte = |at: usize| u8::from_str_radix(text.get(at..at + 2)?, 16).ok();
    (0..text.len()).step_by(2).map(byte).collect()
}

fn list(base: &OwnedFd, name: &str) -> sys::Result<Option<(OwnedFd, Vec<OsString>)>> {
    let flags = libc::O_RDONLY | libc::O_DIRECTORY | libc::O_NOFOLLOW;
    let dir = match sys::openat::open_at(base, OsStr::new(name), flags, 0) {
        Err(Errno::ENOENT) => return Ok(None),
        r => r?,
    };
    let mut names = Vec::new();
    getdents::for_each(&dir, |e| {
        names.push(e.name.to_os_string());
        Ok(())
    })?;
    names.sort_unstable();
    Ok(Some((dir, names)))
}

fn remove_whiteout(dir: &OwnedFd, name: &OsStr, whiteout: Whiteout) -> sys::Result<()> {
    match whiteout {
        Whiteout::Device | Whiteout::Attribute => sys::name::unlink(dir, name),
        Whiteout::DotWh => sys::name::unlink(dir, &marks::dot_wh(name)?),
    }
}

/// Returns in which namespace an object has a mark.
fn prefix_of(at: xattr::Target<'_>, mark: &str) -> sys::Result<Prefix> {
    for prefix in [Prefix::Trusted, Prefix::User] {
        if matches!(xattr::get(at, &prefix.name(mark)), Ok(Some(_))) {
            return Ok(prefix);
        }
    }
    Err(Errno::ENODATA)
}

fn remove_mark(at: xattr::Target<'_>, mark: &str) -> sys::Result<()> {
    xattr::remove(at, &prefix_of(at, mark)?.name(mark))
}
