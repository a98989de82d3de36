//! Owner, attributes, mode and times of a copy, in the order that loses nothing.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use sys::name::SetTime;
use sys::stat::Stat;
use sys::{Errno, Result, xattr};

use crate::inode::Core;
use crate::layer::idmap::DiskId;
use crate::layer::{Spot, UpperLayer, marks};

/// Makes a copy look like the lower object it was made of, and returns the copy's own inode number.
///
/// Owner first, as chown(2) clears suid, sgid and capabilities; then the mode; then attributes, as
/// an ACL carries the mode's group bits; times last, as the others change them.
pub fn apply(
    core: &Core,
    upper: &UpperLayer,
    to: &Spot,
    from: &Stat,
    attributes: Option<xattr::Target<'_>>,
) -> Result<u64> {
    let now = upper.stat(to)?;
    let uid = core.options.uids.copied(DiskId(from.uid)).0;
    let gid = core.options.gids.copied(DiskId(from.gid)).0;
    if (now.uid, now.gid) != (uid, gid) {
        upper.chown(to, Some(uid), Some(gid))?;
    }
    if !from.is_symlink() {
        upper.chmod(to, from.mode & 0o7777)?;
    }
    if let Some(attributes) = attributes {
        copy_xattrs(upper, to, attributes)?;
    }
    upper.utimens(to, SetTime::At(from.atime), SetTime::At(from.mtime))?;
    Ok(now.ino)
}

fn copy_xattrs(upper: &UpperLayer, to: &Spot, from: xattr::Target<'_>) -> Result<()> {
    let mut names = Vec::new();
    xattr::for_each_name(from, |n| {
        if !marks::is_private(n) {
            names.push(n.to_os_string());
        }
    })?;
    for name in names {
        let Some(value) = xattr::get(from, &name)? else { continue };
        match upper.set_xattr(to, &name, &value, 0) {
            Err(e) if may_be_lost(&name, e) => {
                log::warn!("copy-up: {name:?} can't be kept: {}", e.desc());
            }
            r => r?,
        }
    }
    Ok(())
}

/// Whether an attribute that the upper refuses may be left out: one that it has no notion of, unless
/// it takes rights away; or a security label that only more privileged writers may set.
fn may_be_lost(name: &OsStr, e: Errno) -> bool {
    let name = name.as_bytes();
    match e {
        Errno::EOPNOTSUPP => !name.starts_with(b"system.posix_acl_"),
        Errno::EPERM | Errno::EACCES | Errno::EINVAL => name.starts_with(b"security."),
        _ => false,
    }
}
