//! The way to the target of an absolute redirect in one layer, part by part: whiteouts, opaque
//! directories and further redirects on the way count, as in ovl_lookup_layer() of the kernel.

use std::ffi::{OsStr, OsString};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;

use sys::Result;

use super::name::{Look, Probe, hides_below, probe};
use crate::inode::Core;
use crate::layer::marks::Opaque;

/// Where the way ends in one layer.
pub(super) enum Arrival {
    /// The directory that should hold the target, and the target's name.
    At(Arc<OwnedFd>, OsString),
    /// This layer hasn't got it; those below may.
    Absent,
    /// This layer hides it, so those below don't matter.
    Hidden,
}

/// Result of [`descend`].
pub(super) struct Descent {
    pub(super) arrival: Arrival,
    /// Something on the way hides the layers below, whatever this one has.
    pub(super) is_last: bool,
}

/// Goes to the parent of `path` in a layer. A redirect on the way changes `path` for the layers below.
pub(super) fn descend(core: &Core, layer: u16, path: &mut Vec<u8>) -> Result<Descent> {
    let lower = core.stack.lower(layer)?;
    let mut dir = Arc::clone(lower.root());
    let mut is_last = false;
    let mut next_path = None;
    let parts: Vec<Vec<u8>> = path.split(|&b| b == b'/').map(<[u8]>::to_vec).collect();
    let Some((last, way)) = parts.split_last() else {
        return Ok(Descent { arrival: Arrival::Absent, is_last });
    };
    for (i, part) in way.iter().enumerate() {
        let name = OsStr::from_bytes(part);
        let look = Look {
            is_upper: false,
            more: true,
            marked: true,
            xattr_whiteouts: false,
            owners: lower.owners(),
        };
        let (stat, marks) = match probe(&dir, name, look)? {
            Probe::Absent => return Ok(Descent { arrival: Arrival::Absent, is_last }),
            Probe::Object(o) if o.0.is_dir() && !o.0.mount_root => *o,
            Probe::Whiteout | Probe::Object(_) => {
                return Ok(Descent { arrival: Arrival::Hidden, is_last });
            }
        };
        is_last |= hides_below(&stat, &marks, &dir, name)?;
        if let Some(redirect) = marks.redirect.filter(|_| marks.opaque != Opaque::Yes) {
            next_path = Some(rewritten(&parts, i, redirect.as_bytes()));
        }
        let flags = libc::O_PATH | libc::O_DIRECTORY | libc::O_NOFOLLOW;
        let confine = sys::openat::Confine::BeneathNoSymlinks;
        dir = Arc::new(sys::openat::open_confined(&dir, name, flags, 0, confine)?);
    }
    let arrival = Arrival::At(dir, OsStr::from_bytes(last).to_os_string());
    if let Some(next) = next_path {
        *path = next;
    }
    Ok(Descent { arrival, is_last })
}

/// Returns the path with everything up to part `i` replaced by where a redirect leads.
fn rewritten(parts: &[Vec<u8>], i: usize, redirect: &[u8]) -> Vec<u8> {
    let mut out: Vec<&[u8]> = Vec::new();
    match redirect.strip_prefix(b"/") {
        Some(absolute) => out.push(absolute),
        None => {
            out.extend(parts.iter().take(i).map(Vec::as_slice));
            out.push(redirect);
        }
    }
    out.extend(parts.iter().skip(i + 1).map(Vec::as_slice));
    out.join(&b'/')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirects_on_the_way_change_the_rest_of_it() {
        let parts: Vec<Vec<u8>> = ["a", "b", "c"].map(|p| p.as_bytes().to_vec()).into();
        assert_eq!(rewritten(&parts, 0, b"/x/y"), b"x/y/b/c");
        assert_eq!(rewritten(&parts, 1, b"z"), b"a/z/c");
    }
}
