//! POSIX ACLs in their attribute form (linux/posix_acl_xattr.h): what a new object inherits from
//! the default ACL of its directory, as posix_acl_create() of the kernel has it.

/// Attribute of the access ACL.
pub const ACCESS: &str = "system.posix_acl_access";
/// Attribute of the default ACL.
pub const DEFAULT: &str = "system.posix_acl_default";

const HEADER: usize = 4;
const ENTRY: usize = 8;
const USER_OBJ: u16 = 0x01;
const USER: u16 = 0x02;
const GROUP_OBJ: u16 = 0x04;
const GROUP: u16 = 0x08;
const MASK: u16 = 0x10;
const OTHER: u16 = 0x20;

/// What a new object gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inherited {
    /// Permission bits.
    pub mode: u32,
    /// Access ACL, where the bits can't express it.
    pub access: Option<Vec<u8>>,
}

/// Returns mode and access ACL of an object made with `mode` (no umask applied) in a directory with
/// the given default ACL; `None` for bytes that are no ACL.
pub fn inherit(default: &[u8], mode: u32) -> Option<Inherited> {
    let mut acl = default.to_vec();
    let entries = acl.get_mut(HEADER..)?;
    if entries.len() % ENTRY != 0 {
        return None;
    }
    let mut out = mode;
    let mut extended = false;
    let mut has_mask = false;
    for e in entries.chunks_exact_mut(ENTRY) {
        match tag(e) {
            USER_OBJ => out = narrow(e, out, 6),
            OTHER => out = narrow(e, out, 0),
            USER | GROUP => extended = true,
            MASK => {
                extended = true;
                has_mask = true;
                out = narrow(e, out, 3);
            }
            GROUP_OBJ => {}
            _ => return None,
        }
    }
    // Without a mask the group's entry is what the group bits stand for.
    if !has_mask {
        for e in entries.chunks_exact_mut(ENTRY).filter(|e| tag(e) == GROUP_OBJ) {
            out = narrow(e, out, 3);
        }
    }
    Some(Inherited { mode: out, access: extended.then_some(acl) })
}

fn tag(entry: &[u8]) -> u16 {
    entry.first().zip(entry.get(1)).map_or(0, |(&a, &b)| u16::from_le_bytes([a, b]))
}

/// Lets an entry grant no more than the mode bits at `shift`, and these no more than the entry.
fn narrow(entry: &mut [u8], mode: u32, shift: u32) -> u32 {
    let Some(perm) = entry.get_mut(2) else { return mode };
    *perm &= (mode >> shift) as u8 & 7;
    mode & !(7 << shift) | u32::from(*perm) << shift
}

#[cfg(test)]
mod tests {
    use super::*;

    fn acl(entries: &[(u16, u16, u32)]) -> Vec<u8> {
        let mut out = 2u32.to_le_bytes().to_vec();
        for &(tag, perm, id) in entries {
            out.extend_from_slice(&tag.to_le_bytes());
            out.extend_from_slice(&perm.to_le_bytes());
            out.extend_from_slice(&id.to_le_bytes());
        }
        out
    }

    const NONE: u32 = u32::MAX;

    #[test]
    fn plain_default_acl_only_narrows_the_mode() {
        let d = acl(&[(USER_OBJ, 7, NONE), (GROUP_OBJ, 5, NONE), (OTHER, 0, NONE)]);
        assert_eq!(inherit(&d, 0o666), Some(Inherited { mode: 0o640, access: None }));
    }

    #[test]
    fn a_mask_takes_the_place_of_the_group() {
        let d = acl(&[
            (USER_OBJ, 7, NONE),
            (USER, 7, 1000),
            (GROUP_OBJ, 5, NONE),
            (MASK, 7, NONE),
            (OTHER, 0, NONE),
        ]);
        let got = inherit(&d, 0o644).unwrap();
        assert_eq!(got.mode, 0o640);
        let expected = acl(&[
            (USER_OBJ, 6, NONE),
            (USER, 7, 1000),
            (GROUP_OBJ, 5, NONE),
            (MASK, 4, NONE),
            (OTHER, 0, NONE),
        ]);
        assert_eq!(got.access, Some(expected));
    }

    #[test]
    fn garbage_is_no_acl() {
        assert_eq!(inherit(&[1, 2, 3], 0o644), None);
        assert_eq!(inherit(&[2, 0, 0, 0, 1], 0o644), None);
    }
}
