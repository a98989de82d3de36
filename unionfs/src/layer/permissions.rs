//! Owner, mode and type of an object kept in an attribute instead of the inode, for upper layers on
//! which they can't be set: fuse-overlayfs's `xattr_permissions`, and containers/storage's
//! `force_mask`. The value is `UID:GID:MODE[:TYPE]`, the mode in octal.

use std::ffi::OsStr;

use sys::stat::Stat;
use sys::{Errno, Result, xattr};

/// The attributes that peers write, the one of `xattr_permissions=1` first, that of `=2` second.
const NAMES: [&str; 3] = [
    "security.fuseoverlayfs.override_stat",
    "user.containers.override_stat",
    "user.fuseoverlayfs.override_stat",
];

/// Permission bits that an object has in reality: everybody can read it, and the daemon write it.
pub const REAL_MODE: u32 = 0o755;

/// In which attribute a layer keeps owner, mode and type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Permissions(&'static str);

/// What an attribute says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Recorded {
    uid: u32,
    gid: u32,
    mode: u32,
    /// Type bits and device, where they differ from the inode's.
    kind: Option<(u32, u64)>,
}

impl Permissions {
    /// Returns the attribute of `xattr_permissions=1|2`.
    pub fn chosen(option: u8) -> Option<Permissions> {
        match option {
            1 => Some(Permissions(NAMES[0])),
            2 => Some(Permissions(NAMES[1])),
            _ => None,
        }
    }

    /// Finds out whether a layer keeps them in an attribute, by its root.
    pub fn of_layer(root: xattr::Target<'_>) -> Result<Option<Permissions>> {
        for name in NAMES {
            match xattr::get(root, OsStr::new(name)) {
                Ok(Some(_)) => return Ok(Some(Permissions(name))),
                Ok(None) | Err(Errno::EPERM | Errno::EACCES) => {}
                Err(e) => return Err(e),
            }
        }
        Ok(None)
    }

    /// Whether attributes in `security.` are kept under a name that needs no privilege, as
    /// fuse-overlayfs does with `xattr_permissions=2`.
    pub fn keeps_security(self) -> bool {
        self.0 == NAMES[1]
    }

    /// Puts what the attribute says into `stat`; an object without one stays as it is.
    pub fn apply(self, object: xattr::Target<'_>, stat: &mut Stat) -> Result<()> {
        let value = match xattr::get(object, OsStr::new(self.0)) {
            // User attributes can't be on symlinks and nodes.
            Err(Errno::EPERM | Errno::EACCES) => None,
            r => r?,
        };
        let Some(recorded) = value.as_deref().and_then(parse) else { return Ok(()) };
        (stat.uid, stat.gid) = (recorded.uid, recorded.gid);
        stat.mode = stat.kind() | recorded.mode;
        if let Some((kind, rdev)) = recorded.kind {
            stat.mode = kind | recorded.mode;
            stat.rdev = rdev;
        }
        Ok(())
    }

    /// Keeps owner and mode of `stat` with an object. Symlinks, which can't have the attribute, stay
    /// as they are.
    pub fn record(self, object: xattr::Target<'_>, stat: &Stat) -> Result<()> {
        let value = format!("{}:{}:0{:o}", stat.uid, stat.gid, stat.mode & 0o7777);
        match xattr::set(object, OsStr::new(self.0), value.as_bytes(), 0) {
            Err(Errno::EPERM) if stat.is_symlink() => Ok(()),
            r => r,
        }
    }
}

/// Whether an attribute is one of these, which users don't see.
pub fn is_recorded(name: &[u8]) -> bool {
    NAMES.iter().any(|n| n.as_bytes() == name) || name.starts_with(b"user.containers.override_")
}

fn parse(value: &[u8]) -> Option<Recorded> {
    let text = std::str::from_utf8(value).ok()?.trim_end_matches('\0');
    let mut parts = text.split(':');
    let uid = parts.next()?.parse().ok()?;
    let gid = parts.next()?.parse().ok()?;
    let mode = u32::from_str_radix(parts.next()?, 8).ok()? & 0o7777;
    let kind = match parts.next() {
        None => None,
        Some(kind) => parse_kind(kind, parts),
    };
    Some(Recorded { uid, gid, mode, kind })
}

/// Reads `file`, `dir`, `symlink`, `pipe`, `socket`, or `block` and `char` with their numbers, which
/// follow after a `-` or a `:`.
fn parse_kind<'a>(kind: &'a str, rest: impl Iterator<Item = &'a str>) -> Option<(u32, u64)> {
    let mut words = kind.split('-').chain(rest);
    let bits = match words.next()? {
        "file" => libc::S_IFREG,
        "dir" => libc::S_IFDIR,
        "symlink" => libc::S_IFLNK,
        "pipe" => libc::S_IFIFO,
        "socket" => libc::S_IFSOCK,
        name @ ("block" | "char") => {
            let major = words.next()?.parse().ok()?;
            let minor = words.next()?.parse().ok()?;
            let bits = if name == "block" { libc::S_IFBLK } else { libc::S_IFCHR };
            return Some((bits, libc::makedev(major, minor)));
        }
        _ => return None,
    };
    Some((bits, 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_all_versions_are_read() {
        let plain = Recorded { uid: 5, gid: 6, mode: 0o4755, kind: None };
        assert_eq!(parse(b"5:6:04755"), Some(plain));
        // fuse-overlayfs 1.10 writes the type bits into the mode.
        assert_eq!(parse(b"5:6:104755"), Some(plain));
        let dir = Recorded { mode: 0o700, kind: Some((libc::S_IFDIR, 0)), ..plain };
        assert_eq!(parse(b"5:6:0700:dir"), Some(dir));
        let device = Some((libc::S_IFCHR, libc::makedev(1, 3)));
        assert_eq!(parse(b"5:6:0600:char-1-3").unwrap().kind, device);
        assert_eq!(parse(b"5:6:0600:char:1:3").unwrap().kind, device);
    }

    #[test]
    fn garbage_says_nothing() {
        for value in ["", "5", "5:6", "5:6:9", "a:b:c", "5:6:-1"] {
            assert_eq!(parse(value.as_bytes()), None, "{value}");
        }
    }
}
