//! Finds out by trying what the upper's file system accepts: each mark is made, looked at again and
//! removed, as some file systems take a call and lose its effect.

use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use sys::{Errno, xattr};

use super::marks::{Prefix, Whiteouts};
use super::spot::Spot;
use super::tree::remove_tree;
use super::upper::{Dialect, Wishes};
use crate::error::best_effort;

/// Name of the objects that are made and removed.
const PROBE: &str = "#probe";
/// Where a probe is renamed to.
const PROBE_TO: &str = "#probe-to";

/// Tries everything in an empty work directory.
pub(super) fn dialect(work: &OwnedFd, wishes: Wishes) -> Dialect {
    let whiteouts = if !wishes.dot_whiteouts && device_whiteouts(work) {
        Whiteouts::Device { rename: rename_whiteouts(work) }
    } else {
        Whiteouts::DotWh
    };
    let found = Dialect { whiteouts, prefix: prefix(work, wishes), tmpfile: tmpfile(work) };
    for name in [PROBE, PROBE_TO] {
        best_effort("remove a probe", remove_tree(work, OsStr::new(name)));
    }
    found
}

fn device_whiteouts(work: &OwnedFd) -> bool {
    let name = OsStr::new(PROBE);
    let made = sys::name::mknod(work, name, libc::S_IFCHR, 0);
    let seen = made.and_then(|()| sys::stat::stat_at_unsynced(work, name));
    let works = seen.is_ok_and(|s| s.is_whiteout_device());
    best_effort("remove a probe", remove_tree(work, name));
    works
}

fn rename_whiteouts(work: &OwnedFd) -> bool {
    let (from, to) = (OsStr::new(PROBE), OsStr::new(PROBE_TO));
    let tried = sys::name::mkdir(work, from, 0o700)
        .and_then(|()| sys::name::rename(work, from, work, to, libc::RENAME_WHITEOUT))
        .and_then(|()| sys::stat::stat_at_unsynced(work, from));
    let works = tried.is_ok_and(|s| s.is_whiteout_device())
        && sys::stat::stat_at_unsynced(work, to).is_ok_and(|s| s.is_dir());
    best_effort("remove a probe", remove_tree(work, from));
    best_effort("remove a probe", remove_tree(work, to));
    works
}

fn prefix(work: &OwnedFd, wishes: Wishes) -> Option<Prefix> {
    let name = OsStr::new(PROBE);
    let dir = sys::name::mkdir(work, name, 0o700)
        .and_then(|()| sys::openat::open_at(work, name, libc::O_PATH | libc::O_DIRECTORY, 0));
    let spot = Spot::Fd(Arc::new(dir.ok()?));
    let works = |prefix: &Prefix| {
        let mark = prefix.name("opaque");
        xattr::set(spot.xattrs(), &mark, b"y", 0).is_ok()
            && xattr::get(spot.xattrs(), &mark).is_ok_and(|v| v.as_deref() == Some(b"y"))
    };
    let trusted = (!wishes.user_marks).then_some(Prefix::Trusted);
    let found = trusted.into_iter().chain([Prefix::User]).find(works);
    best_effort("remove a probe", remove_tree(work, name));
    found
}

fn tmpfile(work: &OwnedFd) -> bool {
    let flags = libc::O_TMPFILE | libc::O_RDWR;
    let made = sys::openat::open_at(work, OsStr::new("."), flags, 0o600);
    let linked = made.and_then(|fd| sys::name::link_fd(fd, work, OsStr::new(PROBE)));
    !matches!(linked, Err(e) if e != Errno::EEXIST)
}
