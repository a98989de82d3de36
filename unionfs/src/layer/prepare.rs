//! Opens and checks upper and work directory before the mount, with errors for people.

use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

use nix::fcntl::{Flock, FlockArg, OFlag, open};
use nix::sys::stat::Mode;
use sys::{Errno, getdents};

use super::Permissions;
use super::tree::empty_dir;
use super::upper::{Parts, Wishes};
use crate::error::StartError;

/// Directory below the work directory in which things are made (the kernel's name).
const WORK: &str = "work";
/// Directory below the work directory with one link per copied-up hard link (the kernel's name).
const INDEX: &str = "index";

/// Mark of a volatile mount below the staging directory (the kernel's names).
const VOLATILE: &str = "incompat/volatile";

/// How long a daemon that is about to end is waited for.
const PATIENCE: Duration = Duration::from_secs(2);
/// How often it is looked for.
const PAUSE: Duration = Duration::from_millis(4);

/// Opens both directories, and empties what an earlier mount left in the work directory.
///
/// # Errors
/// A [`StartError`] that names the option, the path and what to do.
pub fn open_upper(
    upper: &Path,
    work: &Path,
    index: bool,
    volatile: bool,
    permissions: Option<Permissions>,
    wishes: Wishes,
) -> Result<Parts, StartError> {
    let root = open_dir("upperdir", upper)?;
    let base = open_dir("workdir", work)?;
    let stat = |opt, path: &Path, fd: &OwnedFd| {
        sys::stat::stat_fd(fd).map_err(|e| StartError::path(opt, path, e))
    };
    let (u, w) = (stat("upperdir", upper, &root)?, stat("workdir", work, &base)?);
    if u.dev != w.dev || u.mnt_id != w.mnt_id {
        return Err(StartError::Apart(upper.into(), work.into()));
    }
    if nested(upper, work) || nested(work, upper) {
        return Err(StartError::Nested(upper.into(), work.into()));
    }
    check_content(work, &base)?;
    let lock = lock(base).ok_or_else(|| StartError::InUse(work.into()))?;
    let staging = subdir(work, &lock, WORK)?;
    if sys::stat::stat_at(&staging, OsStr::new(VOLATILE)).is_ok() {
        return Err(StartError::WasVolatile(work.join(WORK).join(VOLATILE)));
    }
    empty_dir(&*lock, OsStr::new(WORK)).map_err(|e| StartError::path("workdir", work, e))?;
    if volatile {
        mark_volatile(&staging).map_err(|e| StartError::path("workdir", work, e))?;
    }
    let index = if index { Some(subdir(work, &lock, INDEX)?) } else { None };
    let permissions =
        record_root(&root, permissions).map_err(|e| StartError::path("upperdir", upper, e))?;
    let path = upper.into();
    Ok(Parts { permissions, wishes, root, path, dev: u.dev, work: staging, index, lock })
}

/// Finds out whether the upper keeps owners and modes in an attribute, or makes it begin to.
fn record_root(root: &OwnedFd, chosen: Option<Permissions>) -> sys::Result<Option<Permissions>> {
    let target = sys::xattr::of(root);
    match (Permissions::of_layer(target)?, chosen) {
        (None, Some(chosen)) => {
            chosen.record(target, &sys::stat::stat_fd(root)?)?;
            Ok(Some(chosen))
        }
        (found, _) => Ok(found),
    }
}

/// Leaves the mark that the upper may be incomplete after a crash, as overlayfs does.
fn mark_volatile(staging: &OwnedFd) -> sys::Result<()> {
    let mut path = std::path::PathBuf::new();
    for part in Path::new(VOLATILE) {
        path.push(part);
        sys::name::mkdir(staging, path.as_os_str(), 0o700)?;
    }
    Ok(())
}

/// Takes the lock of a work directory. The daemon of a mount that was just unmounted may still have
/// it for a moment, as umount(8) doesn't wait for it.
fn lock(mut dir: OwnedFd) -> Option<Flock<OwnedFd>> {
    for _ in 0..PATIENCE.as_millis() / PAUSE.as_millis() {
        match Flock::lock(dir, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => return Some(lock),
            Err((back, _)) => dir = back,
        }
        std::thread::sleep(PAUSE);
    }
    None
}

/// Whether another daemon has the lock of a work directory now; false where that can't be asked.
pub fn is_in_use(work: &Path) -> bool {
    let asked =
        open_dir("workdir", work).map(|dir| Flock::lock(dir, FlockArg::LockExclusiveNonblock));
    matches!(asked, Ok(Err((_, Errno::EWOULDBLOCK))))
}

fn open_dir(option: &'static str, path: &Path) -> Result<OwnedFd, StartError> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    open(path, flags, Mode::empty()).map_err(|e| StartError::path(option, path, e))
}

/// Whether `inner` lies in `outer` (or is it).
fn nested(inner: &Path, outer: &Path) -> bool {
    match (inner.canonicalize(), outer.canonicalize()) {
        (Ok(inner), Ok(outer)) => inner.starts_with(outer),
        _ => false,
    }
}

/// Refuses a work directory that holds anything but what a union makes in it.
fn check_content(path: &Path, work: &OwnedFd) -> Result<(), StartError> {
    let mut stranger = None;
    getdents::for_each(work, |e| {
        if e.name != WORK && e.name != INDEX {
            stranger = Some(e.name.to_os_string());
        }
        Ok(())
    })
    .map_err(|e| StartError::path("workdir", path, e))?;
    match stranger {
        Some(name) => Err(StartError::NotEmpty(path.into(), name)),
        None => Ok(()),
    }
}

fn subdir(work: &Path, base: &OwnedFd, name: &'static str) -> Result<OwnedFd, StartError> {
    let fail = |e| StartError::path("workdir", &work.join(name), e);
    match sys::name::mkdir(base, OsStr::new(name), 0o700) {
        Err(e) if e != Errno::EEXIST => return Err(fail(e)),
        _ => {}
    }
    let flags = libc::O_RDONLY | libc::O_DIRECTORY | libc::O_NOFOLLOW;
    match sys::openat::open_at(base, OsStr::new(name), flags, 0) {
        // An overlayfs mount by the kernel leaves it with mode 000.
        Err(Errno::EACCES) => {
            sys::name::chmod_at(base, OsStr::new(name), 0o700).map_err(fail)?;
            sys::openat::open_at(base, OsStr::new(name), flags, 0).map_err(fail)
        }
        r => r.map_err(fail),
    }
}
