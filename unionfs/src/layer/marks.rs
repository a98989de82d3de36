//! The on-disk dialects: whiteouts and marks of directories and copied-up files, as the kernel's
//! overlayfs (fs/overlayfs/overlayfs.h), fuse-overlayfs and AUFS-style layers write them.
//!
//! All are read in every layer; what is written is the best that the upper was proved to accept.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use sys::{Errno, Result, xattr};

use super::permissions::is_recorded;

/// Start of the names of AUFS-style whiteouts, which OCI layers use as well.
pub(crate) const DOT_WH: &[u8] = b".wh.";
/// AUFS-style mark: the directory that holds it hides all lower ones.
pub(crate) const DOT_WH_OPAQUE: &str = ".wh..wh..opq";
/// fuse-overlayfs's own opaque mark.
const FUSE_OVERLAYFS_OPAQUE: &[u8] = b"user.fuseoverlayfs.opaque";

/// Which attribute namespace our marks live in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Prefix {
    /// `trusted.overlay.`, for a daemon with `CAP_SYS_ADMIN` in the initial user namespace.
    Trusted,
    /// `user.overlay.`, the kernel's `userxattr` mode.
    User,
}

impl Prefix {
    /// Returns the start of the names, with its final dot.
    pub fn as_str(self) -> &'static str {
        match self {
            Prefix::Trusted => "trusted.overlay.",
            Prefix::User => "user.overlay.",
        }
    }

    /// Returns the full name of a mark.
    pub fn name(self, mark: &str) -> OsString {
        OsString::from(format!("{}{mark}", self.as_str()))
    }
}

/// How deletions are written to the upper.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whiteouts {
    /// Character device 0:0; `rename` says whether `RENAME_WHITEOUT` makes one too.
    Device {
        /// `renameat2(RENAME_WHITEOUT)` works.
        rename: bool,
    },
    /// A regular file `.wh.NAME`.
    DotWh,
}

/// Whether a directory hides what lower layers hold at its path.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Opaque {
    /// It merges.
    #[default]
    No,
    /// It hides them.
    Yes,
    /// It merges, and its whiteouts may be zero-size files with an `overlay.whiteout` attribute.
    Whiteouts,
}

/// How many links a copied-up hard link has: relative to what one of its objects says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Links {
    /// To the upper's number (`U+1`).
    Upper(i32),
    /// To the lower's (`L-1`).
    Lower(i32),
}

/// The marks of one object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Marks {
    /// `overlay.opaque`.
    pub opaque: Opaque,
    /// `overlay.redirect`: where lower layers hold this object: absolute from the layer's root, or a
    /// name in the same directory.
    pub redirect: Option<OsString>,
    /// `overlay.metacopy`: the data is in a lower layer.
    pub metacopy: bool,
    /// `overlay.whiteout`: this zero-size file is a whiteout, if its directory says so.
    pub whiteout: bool,
    /// `overlay.literal` (ours): a file whose name looks like a whiteout but is none.
    pub literal: bool,
    /// `overlay.number` (ours): the inode number that the object had in its lower layer.
    pub number: Option<u64>,
    /// `overlay.nlink`: how many links users see.
    pub nlink: Option<Links>,
    /// `overlay.origin`: the handle of the lower object that this is a copy of.
    pub origin: Option<Vec<u8>>,
    /// `overlay.impure`: children of this directory were copied up.
    pub impure: bool,
}

impl Marks {
    /// Reads all marks of an object with one system call where there is none, and one more for each
    /// that there is.
    pub fn read(at: xattr::Target<'_>) -> Result<Marks> {
        let mut found: [Option<OsString>; 12] = Default::default();
        let mut used = 0;
        xattr::for_each_name(at, |name| {
            if mark_of(name.as_bytes()).is_some()
                && let Some(slot) = found.get_mut(used)
            {
                *slot = Some(name.to_os_string());
                used += 1;
            }
        })?;
        let mut marks = Marks::default();
        for name in found.iter().flatten() {
            if let Some(value) = xattr::get(at, name)?
                && let Some(mark) = mark_of(name.as_bytes())
            {
                marks.set(mark, value);
            }
        }
        Ok(marks)
    }

    fn set(&mut self, mark: &[u8], value: Vec<u8>) {
        match mark {
            b"opaque" => {
                self.opaque = match value.as_slice() {
                    b"y" => Opaque::Yes,
                    b"x" => Opaque::Whiteouts,
                    _ => self.opaque,
                }
            }
            b"redirect" if !value.is_empty() => self.redirect = Some(OsString::from_vec(value)),
            b"metacopy" => self.metacopy = true,
            b"whiteout" => self.whiteout = true,
            b"literal" => self.literal = true,
            b"impure" => self.impure = true,
            b"nlink" => self.nlink = parse_nlink(&value),
            b"origin" => self.origin = Some(value),
            b"number" => self.number = value.try_into().ok().map(u64::from_le_bytes),
            _ => {}
        }
    }
}

/// Returns the mark that an attribute name stands for, if it is one that is read.
fn mark_of(name: &[u8]) -> Option<&[u8]> {
    if name == FUSE_OVERLAYFS_OPAQUE {
        return Some(b"opaque");
    }
    let mark = strip_private(name)?;
    let known: [&[u8]; 9] = [
        b"origin",
        b"opaque",
        b"redirect",
        b"metacopy",
        b"whiteout",
        b"literal",
        b"impure",
        b"number",
        b"nlink",
    ];
    known.contains(&mark).then_some(mark)
}

/// Reads `U+1` or `L-1`.
fn parse_nlink(value: &[u8]) -> Option<Links> {
    let (form, number) = std::str::from_utf8(value).ok()?.split_at_checked(1)?;
    let number = number.parse().ok()?;
    match form {
        "U" => Some(Links::Upper(number)),
        "L" => Some(Links::Lower(number)),
        _ => None,
    }
}

fn strip_private(name: &[u8]) -> Option<&[u8]> {
    name.strip_prefix(b"trusted.overlay.").or_else(|| name.strip_prefix(b"user.overlay."))
}

/// Whether an attribute is a mark of some union, in any dialect, that a copy must not carry over.
pub fn is_private(name: &OsStr) -> bool {
    let name = name.as_bytes();
    strip_private(name).is_some()
        || name.starts_with(b"user.fuseoverlayfs.")
        || is_recorded(name) && !name.starts_with(KEPT_SECURITY.as_bytes())
}

/// Translates between the attribute names that users see and those on disk: names that look like
/// our marks are escaped, as the kernel does for nested overlays (`overlay.overlay.X`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Escape {
    /// Where our marks are.
    pub prefix: Prefix,
    /// Attributes in `security.` are kept as unprivileged ones.
    pub security: bool,
}

/// Where fuse-overlayfs keeps `security.X` without privileges.
const KEPT_SECURITY: &str = "user.containers.override_security.";

impl Escape {
    /// Returns the name on disk of what a user calls `name`.
    pub fn to_disk(self, name: &OsStr) -> OsString {
        if let Some(rest) = name.as_bytes().strip_prefix(b"security.").filter(|_| self.security) {
            let mut out = OsString::from(KEPT_SECURITY);
            out.push(OsStr::from_bytes(rest));
            return out;
        }
        let prefix = self.prefix.as_str();
        match name.as_bytes().strip_prefix(prefix.as_bytes()) {
            Some(rest) => {
                let mut out = OsString::from(format!("{prefix}overlay."));
                out.push(OsStr::from_bytes(rest));
                out
            }
            None => name.to_os_string(),
        }
    }

    /// Whether an attribute is kept under another name, though layers of others may have it under its own:
    /// containers/storage unpacks `security.capability` so.
    pub fn keeps(self, name: &OsStr) -> bool {
        self.security && name.as_bytes().starts_with(b"security.")
    }

    /// Returns what users call the attribute `name` on disk, or `None` for our own marks.
    pub fn to_user(self, name: &OsStr) -> Option<OsString> {
        if let Some(rest) = name.as_bytes().strip_prefix(KEPT_SECURITY.as_bytes()) {
            let mut out = OsString::from("security.");
            out.push(OsStr::from_bytes(rest));
            return self.security.then_some(out);
        }
        let prefix = self.prefix.as_str();
        let Some(rest) = name.as_bytes().strip_prefix(prefix.as_bytes()) else {
            let bytes = name.as_bytes();
            let hidden = bytes.starts_with(b"user.fuseoverlayfs.") || is_recorded(bytes);
            return (!hidden).then(|| name.into());
        };
        let rest = rest.strip_prefix(b"overlay.")?;
        let mut out = OsString::from(prefix);
        out.push(OsStr::from_bytes(rest));
        Some(out)
    }
}

/// Returns the name that an AUFS-style whiteout `.wh.NAME` hides.
pub fn dot_wh_hides(name: &OsStr) -> Option<&OsStr> {
    let rest = name.as_bytes().strip_prefix(DOT_WH)?;
    (!rest.is_empty()).then(|| OsStr::from_bytes(rest))
}

/// Returns the AUFS-style whiteout of a name, or `ENAMETOOLONG` where it would not fit.
pub fn dot_wh(name: &OsStr) -> Result<OsString> {
    if name.len() + DOT_WH.len() > 255 {
        return Err(Errno::ENAMETOOLONG);
    }
    let mut out = OsString::from_vec(DOT_WH.to_vec());
    out.push(name);
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn private_names_are_escaped_as_the_kernel_does() {
        let e = Escape { prefix: Prefix::Trusted, security: false };
        assert_eq!(
            e.to_disk(OsStr::new("trusted.overlay.opaque")),
            "trusted.overlay.overlay.opaque"
        );
        assert_eq!(e.to_disk(OsStr::new("user.x")), "user.x");
        assert_eq!(
            e.to_user(OsStr::new("trusted.overlay.overlay.opaque")).unwrap(),
            "trusted.overlay.opaque"
        );
        assert_eq!(e.to_user(OsStr::new("trusted.overlay.opaque")), None);
        assert_eq!(e.to_user(OsStr::new("user.x")).unwrap(), "user.x");
        assert_eq!(e.to_user(OsStr::new("user.containers.override_stat")), None);
        let e = Escape { security: true, ..e };
        let kept = e.to_disk(OsStr::new("security.x"));
        assert_eq!(kept, "user.containers.override_security.x");
        assert_eq!(e.to_user(&kept).unwrap(), "security.x");
    }

    #[test]
    fn marks_are_known_in_both_namespaces() {
        assert_eq!(mark_of(b"trusted.overlay.opaque"), Some(&b"opaque"[..]));
        assert_eq!(mark_of(b"user.overlay.metacopy"), Some(&b"metacopy"[..]));
        assert_eq!(mark_of(b"user.fuseoverlayfs.opaque"), Some(&b"opaque"[..]));
        assert_eq!(mark_of(b"user.overlay.other"), None);
        assert_eq!(mark_of(b"user.opaque"), None);
    }

    #[test]
    fn whiteout_names_of_255_bytes_do_not_fit() {
        assert_eq!(dot_wh(OsStr::new(&"x".repeat(252))), Err(Errno::ENAMETOOLONG));
        assert_eq!(dot_wh(OsStr::new("a")).unwrap(), ".wh.a");
        assert_eq!(dot_wh_hides(OsStr::new(".wh.a")).unwrap(), "a");
        assert_eq!(dot_wh_hides(OsStr::new(".wh.")), None);
    }
}
