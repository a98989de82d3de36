//! Owner, mode, attributes and times of what is unpacked.

use std::ffi::{OsStr, OsString};
use std::os::fd::AsFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use nix::errno::Errno;
use sys::name::SetTime;
use sys::stat::Time;
use sys::xattr;

use super::path::Clean;
use super::{Owners, Rules, Target};
use crate::error::{Error, Result};
use crate::image::archive::{Entry, Kind};

/// Longest name of an attribute.
const NAME_MAX: usize = 255;

/// The attributes of an entry, sorted out.
#[derive(Debug, Default)]
pub(super) struct Attributes {
    /// To be set, by the name on disk.
    set: Vec<(OsString, Vec<u8>)>,
    /// A directory hides everything below it.
    pub(super) is_opaque: bool,
    /// A file of size 0 is a whiteout.
    pub(super) is_whiteout: bool,
    /// Can't be set by this user.
    left_out: u64,
}

/// What was done beyond the request.
pub(super) struct Kept {
    pub(super) squashed: bool,
    pub(super) left_out: u64,
}

impl Attributes {
    /// Sorts out what an archive wants: marks of unions mean something here, and must not be taken
    /// over unseen.
    pub(super) fn of(entry: &Entry, path: &Clean, rules: Rules) -> Result<Attributes> {
        let mut out = Attributes::default();
        for (name, value) in &entry.xattrs {
            let refuse = |what: String| Err(Error::new("unpack layer", what).at(path.shown()));
            let shown = String::from_utf8_lossy(name).into_owned();
            if name.is_empty() || name.len() > NAME_MAX || name.contains(&0) {
                return refuse(format!("an attribute has a name of {} bytes", name.len()));
            }
            if value.len() > xattr::SIZE_MAX {
                return refuse(format!(
                    "attribute {shown} has {} bytes, at most {} are possible",
                    value.len(),
                    xattr::SIZE_MAX
                ));
            }
            match mark(name) {
                Some(b"opaque") if entry.kind == Kind::Dir => out.is_opaque |= value == b"y",
                Some(b"whiteout") => out.is_whiteout = true,
                Some(b"redirect" | b"metacopy") => {
                    return refuse(format!(
                        "attribute {shown} refers to a file of another layer: such layers can't be images"
                    ));
                }
                Some(_) => {}
                None => out.sort(name, value, rules),
            }
        }
        Ok(out)
    }

    fn sort(&mut self, name: &[u8], value: &[u8], rules: Rules) {
        let wanted = name.starts_with(b"user.")
            || name == b"security.capability"
            || name == b"system.posix_acl_access"
            || name == b"system.posix_acl_default";
        // Where other unions keep owners and modes of their own.
        let is_record = name.starts_with(b"user.containers.override_");
        if wanted && !is_record {
            self.set.push((OsString::from_vec(name.to_vec()), value.to_vec()));
        } else if name.starts_with(b"trusted.") {
            if rules.privileged {
                self.set.push((OsString::from_vec(name.to_vec()), value.to_vec()));
            } else {
                self.left_out += 1;
            }
        }
    }
}

/// Returns the mark of a union that a name is.
fn mark(name: &[u8]) -> Option<&[u8]> {
    let prefixes: [&[u8]; 3] = [b"trusted.overlay.", b"user.overlay.", b"user.fuseoverlayfs."];
    prefixes.iter().find_map(|p| name.strip_prefix(*p))
}

/// Sets everything but the times.
pub(super) fn apply(
    entry: &Entry,
    attributes: &Attributes,
    rules: Rules,
    at: &Target<'_>,
) -> Result<Kept> {
    let mut kept = Kept { squashed: false, left_out: attributes.left_out };
    let id = |id: u64| u32::try_from(id).ok().filter(|&id| id != u32::MAX);
    let (Some(uid), Some(gid)) = (id(entry.uid), id(entry.gid)) else {
        let what = format!("owner {}:{} is no user and group", entry.uid, entry.gid);
        return Err(Error::new("unpack layer", what).at(at.path.shown()));
    };
    match rules.owners {
        Owners::RootOnly => kept.squashed = (uid, gid) != (0, 0),
        Owners::Mapped => {
            sys::name::chown_at(&at.dir, at.name, Some(uid), Some(gid)).map_err(|e| {
                let hint = "the user needs more subordinate ids in /etc/subuid and /etc/subgid";
                let step = format!("give to {uid}:{gid}");
                Error::new(step, e).at(at.path.shown()).hint_if(Errno::EINVAL, hint)
            })?;
        }
    }
    if entry.kind != Kind::Symlink {
        // After the owner, whose change clears the set-id bits.
        chmod(at, entry.mode).map_err(|e| at.fail("chmod", e))?;
    }
    for (name, value) in &attributes.set {
        kept.left_out += u64::from(!set(at, name, value)?);
    }
    Ok(kept)
}

fn chmod(at: &Target<'_>, mode: u32) -> sys::Result<()> {
    if at.name.is_empty() {
        return sys::name::chmod_fd(&at.dir, mode);
    }
    sys::name::chmod_at(&at.dir, at.name, mode)
}

/// Sets an attribute; false where this file system, type or user can't have it.
fn set(at: &Target<'_>, name: &OsStr, value: &[u8]) -> Result<bool> {
    let target = if at.name.is_empty() {
        xattr::of(&at.dir)
    } else {
        xattr::Target::At(at.dir.as_fd(), at.name)
    };
    match xattr::set(target, name, value, 0) {
        Ok(()) => Ok(true),
        Err(Errno::EOPNOTSUPP | Errno::EPERM | Errno::EACCES) => Ok(false),
        Err(e @ (Errno::ENOSPC | Errno::E2BIG | Errno::ERANGE)) => {
            let name = String::from_utf8_lossy(name.as_bytes());
            let step = format!("set attribute {name} of {} bytes", value.len());
            Err(at.fail(&step, e))
        }
        Err(e) => Err(at.fail("set an attribute of", e)),
    }
}

/// Sets both times to that of the last change.
pub(super) fn set_mtime(at: &Target<'_>, time: Time) -> Result<()> {
    let time = SetTime::At(time);
    sys::name::utimens_at(&at.dir, at.name, time, time).map_err(|e| at.fail("set the time of", e))
}
