//! The data of a regular file: its holes stay holes, and long runs of zeroes become some.

use std::io::Read;
use std::os::fd::OwnedFd;

use super::Target;
use crate::error::{Context, Result};
use crate::image::archive::{Entries, Entry};

/// Bytes that are moved at once.
pub(super) const BUFFER: usize = 128 * 1024;
/// Zeroes that are looked for: blocks of this size take no room.
const HOLE: usize = 32 * 1024;

/// Writes what the archive has of a file.
pub(super) fn write<R: Read>(
    entry: &Entry,
    data: &mut Entries<R>,
    out: &OwnedFd,
    buffer: &mut [u8],
    at: &Target<'_>,
) -> Result<()> {
    let whole = [(0, entry.size)];
    let parts = entry.map.as_ref().map_or(&whole[..], |m| &m.parts);
    let mut written = 0;
    for &(offset, length) in parts {
        written = written.max(part(data, out, (offset, length), buffer, at)?);
    }
    if written < entry.size {
        sys::name::truncate(out, entry.size).map_err(|e| at.fail("set the size of", e))?;
    }
    Ok(())
}

/// Writes one part, and returns where the last byte that is no hole ends.
fn part<R: Read>(
    data: &mut Entries<R>,
    out: &OwnedFd,
    (mut offset, mut length): (u64, u64),
    buffer: &mut [u8],
    at: &Target<'_>,
) -> Result<u64> {
    let mut end = 0;
    while length > 0 {
        let most = buffer.len().min(usize::try_from(length).unwrap_or(usize::MAX));
        let chunk = buffer.get_mut(..most).unwrap_or_default();
        data.read_exact(chunk).step_at("read archive: data of", at.path.shown())?;
        for block in chunk.chunks(HOLE) {
            if block.len() < HOLE || !is_zero(block) {
                write_all(out, block, offset).map_err(|e| at.fail("write", e))?;
                end = offset + block.len() as u64;
            }
            offset += block.len() as u64;
        }
        length -= most as u64;
    }
    Ok(end)
}

fn write_all(out: &OwnedFd, mut data: &[u8], mut offset: u64) -> sys::Result<()> {
    while !data.is_empty() {
        let n = sys::copy::write_at(out, data, offset)?;
        data = data.get(n..).unwrap_or_default();
        offset += n as u64;
    }
    Ok(())
}

fn is_zero(block: &[u8]) -> bool {
    // Most blocks differ at once; what compares the rest is the library's vectorised memcmp.
    let first = block.first() == Some(&0);
    first && block.get(1..).is_some_and(|rest| block.get(..rest.len()) == Some(rest))
}
