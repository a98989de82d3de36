//! Names in archives: refused where they could lead out of the layer.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use crate::error::{Error, Result};

/// Longest path below a layer's root.
pub(super) const PATH_MAX: usize = 4095;
/// Longest part of it.
const NAME_MAX: usize = 255;

/// A path that stays below the root: parts without `/`, `.`, `..` and NUL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Clean {
    parts: Vec<OsString>,
}

impl Clean {
    /// Checks a name.
    pub(super) fn new(raw: &[u8]) -> Result<Clean> {
        let bad = |what: &str| {
            let shown: String = String::from_utf8_lossy(raw).chars().take(120).collect();
            Err(Error::new("unpack layer", format!("{what}: refused as it could lead outside"))
                .at(shown.escape_debug().to_string()))
        };
        if raw.is_empty() {
            return bad("an entry without a name");
        }
        if raw.first() == Some(&b'/') {
            return bad("an absolute path");
        }
        if raw.len() > PATH_MAX || raw.contains(&0) {
            return bad("a path that is too long or holds a NUL");
        }
        let mut parts = Vec::new();
        for part in raw.split(|&b| b == b'/') {
            match part {
                b"" | b"." => {}
                b".." => return bad("a path with `..`"),
                p if p.len() > NAME_MAX => return bad("a name of more than 255 bytes"),
                p => parts.push(OsString::from_vec(p.to_vec())),
            }
        }
        Ok(Clean { parts })
    }

    /// Returns the parts.
    pub(super) fn parts(&self) -> &[OsString] {
        &self.parts
    }

    /// Returns the last name and the directories above it; `None` for the root.
    pub(super) fn split(&self) -> Option<(&OsStr, &[OsString])> {
        let (last, above) = self.parts.split_last()?;
        Some((last, above))
    }

    /// Returns it as people read it.
    pub(super) fn shown(&self) -> OsString {
        if self.parts.is_empty() {
            return OsString::from(".");
        }
        self.parts.join(OsStr::new("/"))
    }
}

/// Whether a name is an AUFS-style mark, and of what.
pub(super) fn dot_wh(name: &OsStr) -> Option<&OsStr> {
    name.as_bytes().strip_prefix(b".wh.").map(OsStr::from_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_that_stay_inside_are_taken_apart() {
        let parts = |p: &str| Clean::new(p.as_bytes()).unwrap().parts.len();
        assert_eq!((parts("./"), parts("a"), parts("./a//b/"), parts("a/./b")), (0, 1, 2, 2));
        assert_eq!(Clean::new(b"a/b").unwrap().shown(), "a/b");
    }

    #[test]
    fn paths_that_lead_out_are_refused() {
        let long = format!("a/{}", "x".repeat(256));
        for bad in ["", "/", "/etc", "..", "a/../../b", "a/..", "a\0b", &long] {
            assert!(Clean::new(bad.as_bytes()).is_err(), "{bad:?}");
        }
    }
}
