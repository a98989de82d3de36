//! One directory of one layer as it is on disk: objects, and the whiteouts of all dialects.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use sys::stat::Stat;
use sys::{Errno, Result, getdents, xattr};

use crate::layer::Permissions;
use crate::layer::marks::{self, Marks, Opaque};

/// What a layer has at one name; both, where a directory was removed and made anew.
#[derive(Clone, Debug, Default)]
pub(super) struct Raw {
    /// An object.
    pub(super) object: Option<(Stat, Marks)>,
    /// A whiteout, and which.
    pub(super) whiteout: Option<Whiteout>,
}

/// A whiteout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Whiteout {
    /// Character device 0:0.
    Device,
    /// Empty file with an attribute.
    Attribute,
    /// `.wh.NAME`.
    DotWh,
}

/// What a layer has in one directory.
#[derive(Debug, Default)]
pub(super) struct RawDir {
    /// By name, in order.
    pub(super) entries: BTreeMap<OsString, Raw>,
    /// It holds `.wh..wh..opq`.
    pub(super) opaque_file: bool,
}

/// Reads a directory; `marks` are its own.
pub(super) fn read(dir: &OwnedFd, own: &Marks, permissions: Option<Permissions>) -> Result<RawDir> {
    let readable = crate::inode::Core::readable(dir)?;
    let mut names: Vec<OsString> = Vec::new();
    getdents::for_each(readable, |e| {
        names.push(e.name.to_os_string());
        Ok(())
    })?;
    let mut out = RawDir::default();
    for name in names {
        let mut stat = match sys::stat::stat_at(dir, &name) {
            // Gone meanwhile.
            Err(Errno::ENOENT) => continue,
            r => r?,
        };
        if stat.is_whiteout_device() {
            out.entries.entry(name).or_default().whiteout = Some(Whiteout::Device);
            continue;
        }
        let at = xattr::Target::At(dir.as_fd(), &name);
        let marks = Marks::read(at)?;
        if stat.is_file() && !marks.literal {
            if name == marks::DOT_WH_OPAQUE {
                out.opaque_file = true;
                continue;
            }
            if let Some(hidden) = marks::dot_wh_hides(&name) {
                out.entries.entry(hidden.to_os_string()).or_default().whiteout =
                    Some(Whiteout::DotWh);
                continue;
            }
        }
        let by_attribute = own.opaque == Opaque::Whiteouts && marks.whiteout;
        if by_attribute && stat.is_file() && stat.size == 0 {
            out.entries.entry(name).or_default().whiteout = Some(Whiteout::Attribute);
            continue;
        }
        if let Some(p) = permissions {
            p.apply(at, &mut stat)?;
        }
        out.entries.entry(name).or_default().object = Some((stat, marks));
    }
    Ok(out)
}

/// Opens a directory of a layer as an address.
pub(super) fn enter(dir: &OwnedFd, name: &OsStr) -> Result<OwnedFd> {
    let flags = libc::O_PATH | libc::O_DIRECTORY | libc::O_NOFOLLOW;
    let confine = sys::openat::Confine::BeneathNoSymlinks;
    sys::openat::open_confined(dir, name, flags, 0, confine)
}

/// Returns the path of an entry of the directory at `above`.
pub(super) fn join(above: &[u8], name: &OsStr) -> Vec<u8> {
    if above.is_empty() {
        return name.as_bytes().to_vec();
    }
    [above, name.as_bytes()].join(&b'/')
}
