//! The identity of a lower object that outlives its name: overlayfs's file handle (`struct ovl_fb`
//! in fs/overlayfs/overlayfs.h), which names index entries and fills `overlay.origin`.

use sys::handle::FileHandle;

/// `OVL_FH_MAGIC`.
const MAGIC: u8 = 0xfb;
/// Bytes before the file system's own identifier.
const HEADER: usize = 21;

/// Returns the handle as overlayfs writes it: version, magic, length, flags, type, UUID, identifier.
pub fn encode(handle: &FileHandle, uuid: &[u8; 16]) -> Option<Vec<u8>> {
    let len = u8::try_from(HEADER + handle.id.len()).ok()?;
    let kind = u8::try_from(handle.kind).ok()?;
    let endian = u8::from(cfg!(target_endian = "big"));
    let mut out = vec![0, MAGIC, len, endian, kind];
    out.extend_from_slice(uuid);
    out.extend_from_slice(&handle.id);
    Some(out)
}

/// Takes a handle apart that [`encode`] or the kernel made: UUID and handle. `None` for anything else,
/// such as another byte order or a newer version.
pub fn decode(encoded: &[u8]) -> Option<([u8; 16], FileHandle)> {
    let (header, id) = encoded.split_at_checked(HEADER)?;
    let &[version, magic, len, flags, kind, ref uuid @ ..] = header else { return None };
    let endian = u8::from(cfg!(target_endian = "big"));
    if version != 0 || magic != MAGIC || usize::from(len) != encoded.len() || flags & 1 != endian {
        return None;
    }
    let handle = FileHandle { kind: kind.into(), id: id.to_vec() };
    Some((uuid.try_into().ok()?, handle))
}

/// Returns the name of the index entry of a lower object: its handle in hexadecimal.
pub fn index_name(encoded: &[u8]) -> String {
    encoded.iter().map(|b| format!("{b:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn handles_have_the_kernels_layout() {
        let handle = FileHandle { kind: 1, id: vec![0xc, 0, 0, 0, 7, 0, 0, 0] };
        let got = encode(&handle, &[0xaa; 16]).unwrap();
        assert_eq!(got.len(), 29);
        assert_eq!(&got[..5], &[0, 0xfb, 29, 0, 1]);
        assert_eq!(decode(&got), Some(([0xaa; 16], handle)));
        assert_eq!(decode(&got[..28]), None);
        let name = index_name(&got);
        assert!(name.starts_with("00fb1d0001aaaa"), "{name}");
        assert!(name.ends_with("0c00000007000000"), "{name}");
    }
}
