//! Whiteouts and opaque directories: which entries of an archive mean them, in either dialect, and
//! how they are written: as overlayfs has them where that is possible, else as AUFS had them.

use std::ffi::OsStr;
use std::os::fd::OwnedFd;

use nix::errno::Errno;
use nix::libc;
use sys::xattr;

use super::metadata::Attributes;
use super::path::dot_wh;
use crate::image::archive::{Entry, Kind};

/// Name of what is made and removed to try the file system.
const PROBE: &str = ".probe";
/// AUFS-style mark of an opaque directory.
const OPAQUE_FILE: &str = ".wh..wh..opq";

/// What an entry is for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Purpose<'a> {
    /// It is what it looks like.
    Object,
    /// Its directory hides everything below.
    Opaque,
    /// It hides this name in layers below.
    Whiteout(&'a OsStr),
    /// It is a whiteout of nothing.
    Broken,
    /// It is AUFS's own business (`.wh..wh.plnk`).
    Ignore,
}

/// Finds out what an entry called `name` is for.
pub(super) fn purpose<'a>(name: &'a OsStr, entry: &Entry, attributes: &Attributes) -> Purpose<'a> {
    if let Some(hidden) = dot_wh(name) {
        return match hidden.as_encoded_bytes() {
            b"" => Purpose::Broken,
            b".wh..opq" => Purpose::Opaque,
            h if h.starts_with(b".wh.") => Purpose::Ignore,
            b"." | b".." => Purpose::Broken,
            _ => Purpose::Whiteout(hidden),
        };
    }
    let device = entry.kind == Kind::Char && entry.device == (0, 0);
    let marked = entry.kind == Kind::File && entry.size == 0 && attributes.is_whiteout;
    if device || marked { Purpose::Whiteout(name) } else { Purpose::Object }
}

/// What a file system accepted when it was tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Marks {
    devices: bool,
    opaque: Option<&'static str>,
}

impl Marks {
    /// Tries an empty directory.
    pub(super) fn probe(root: &OwnedFd) -> sys::Result<Marks> {
        let name = OsStr::new(PROBE);
        let made = sys::name::mknod(root, name, libc::S_IFCHR, 0);
        let seen = made.and_then(|()| sys::stat::stat_at(root, name));
        let devices = seen.is_ok_and(|s| s.is_whiteout_device());
        unionfs::layer::tree::remove_tree(root, name)?;
        let accepted = |mark: &&str| {
            let mark = OsStr::new(mark);
            xattr::set(xattr::of(root), mark, b"y", 0).is_ok()
                && xattr::get(xattr::of(root), mark).is_ok_and(|v| v.as_deref() == Some(b"y"))
                && xattr::remove(xattr::of(root), mark).is_ok()
        };
        let opaque = ["trusted.overlay.opaque", "user.overlay.opaque"].into_iter().find(accepted);
        Ok(Marks { devices, opaque })
    }

    /// Hides a name in layers below, where this one has nothing.
    pub(super) fn whiteout(self, dir: &OwnedFd, name: &OsStr) -> sys::Result<()> {
        if self.devices {
            return sys::name::mknod(dir, name, libc::S_IFCHR, 0);
        }
        create(dir, &unionfs::layer::marks::dot_wh(name)?)
    }

    /// Makes a directory hide everything in layers below.
    pub(super) fn make_opaque(self, dir: &OwnedFd) -> sys::Result<()> {
        match self.opaque {
            Some(mark) => xattr::set(xattr::of(dir), OsStr::new(mark), b"y", 0),
            None => create(dir, OsStr::new(OPAQUE_FILE)),
        }
    }
}

fn create(dir: &OwnedFd, name: &OsStr) -> sys::Result<()> {
    let flags = libc::O_CREAT | libc::O_EXCL | libc::O_WRONLY | libc::O_NOFOLLOW;
    match sys::openat::open_at(dir, name, flags, 0o600) {
        Err(e) if e != Errno::EEXIST => Err(e),
        _ => Ok(()),
    }
}
