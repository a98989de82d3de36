//! A writer of archives in the pax format (pax(1)): what the header of ustar can't say goes to an
//! extended header, so names of any length and bytes, nanoseconds, attributes and holes are kept.

use std::io::{self, Read, Write};

use sys::stat::Time;
use tar::{EntryType, Header};

const BLOCK: usize = 512;
/// Longest name that the header of ustar takes without a split.
const NAME_MAX: usize = 100;
/// Largest number in its fields of 8 characters, and in those of 12.
const SHORT_MAX: u64 = 0o7_777_777;
const LONG_MAX: u64 = 0o77_777_777_777;

/// One entry, without its data.
#[derive(Clone, Debug)]
pub(super) struct Entry<'a> {
    pub(super) path: &'a [u8],
    pub(super) kind: EntryType,
    pub(super) link: &'a [u8],
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) mtime: Time,
    pub(super) size: u64,
    pub(super) device: (u32, u32),
    pub(super) xattrs: &'a [(Vec<u8>, Vec<u8>)],
    /// The parts of a sparse file that are stored.
    pub(super) parts: Option<&'a [(u64, u64)]>,
}

/// Writes an archive.
pub(super) struct Writer<W: Write> {
    out: W,
    buffer: Vec<u8>,
}

impl<W: Write> Writer<W> {
    pub(super) fn new(out: W) -> Writer<W> {
        Writer { out, buffer: vec![0; 128 * 1024] }
    }

    /// Writes the header of an entry, and for a sparse file its map. `size` bytes of data (for a
    /// sparse file: those of its parts) must follow, and then [`Writer::pad`].
    pub(super) fn header(&mut self, entry: &Entry<'_>) -> io::Result<()> {
        let mut pax = Vec::new();
        let map = entry.parts.map(map_of);
        let stored = match (entry.parts, &map) {
            (Some(parts), Some(map)) => {
                parts.iter().map(|(_, n)| n).sum::<u64>() + map.len() as u64
            }
            _ => entry.size,
        };
        extend(&mut pax, entry, stored);
        if !pax.is_empty() {
            let mut header = ustar(b"././@PaxHeader", EntryType::XHeader);
            header.set_size(pax.len() as u64);
            header.set_mode(0o644);
            header.set_cksum();
            self.out.write_all(header.as_bytes())?;
            self.out.write_all(&pax)?;
            self.pad(pax.len() as u64)?;
        }
        let mut header = ustar(entry.path, entry.kind);
        let link = entry.link.get(..entry.link.len().min(NAME_MAX)).unwrap_or_default();
        if let Some(field) = header.as_old_mut().linkname.get_mut(..link.len()) {
            field.copy_from_slice(link);
        }
        header.set_mode(entry.mode & 0o7777);
        header.set_uid(u64::from(entry.uid).min(SHORT_MAX));
        header.set_gid(u64::from(entry.gid).min(SHORT_MAX));
        header.set_mtime(u64::try_from(entry.mtime.sec).unwrap_or(0).min(LONG_MAX));
        header.set_size(if stored > LONG_MAX { 0 } else { stored });
        header.set_device_major(entry.device.0)?;
        header.set_device_minor(entry.device.1)?;
        header.set_cksum();
        self.out.write_all(header.as_bytes())?;
        match map {
            Some(map) => self.out.write_all(&map),
            None => Ok(()),
        }
    }

    /// Writes `size` bytes of data.
    ///
    /// # Errors
    /// `UnexpectedEof`: there are fewer, as the file changed.
    pub(super) fn data(&mut self, from: &mut impl Read, size: u64) -> io::Result<()> {
        let mut left = size;
        while left > 0 {
            let most = self.buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            let part = self.buffer.get_mut(..most).unwrap_or_default();
            from.read_exact(part)?;
            self.out.write_all(part)?;
            left -= most as u64;
        }
        Ok(())
    }

    /// Fills the last block of `size` bytes of data.
    pub(super) fn pad(&mut self, size: u64) -> io::Result<()> {
        let over = (size % BLOCK as u64) as usize;
        let zeroes = [0u8; BLOCK];
        match zeroes.get(over..) {
            Some(rest) if over > 0 => self.out.write_all(rest),
            _ => Ok(()),
        }
    }

    /// Writes the end, and returns what it was written to.
    pub(super) fn finish(mut self) -> io::Result<W> {
        self.out.write_all(&[0u8; 2 * BLOCK])?;
        self.out.flush()?;
        Ok(self.out)
    }
}

fn ustar(path: &[u8], kind: EntryType) -> Header {
    let mut header = Header::new_ustar();
    header.set_entry_type(kind);
    // Whatever doesn't fit is in the extended header.
    let short = path.get(..path.len().min(NAME_MAX)).unwrap_or_default();
    if let Some(field) = header.as_old_mut().name.get_mut(..short.len()) {
        field.copy_from_slice(short);
    }
    header
}

fn extend(pax: &mut Vec<u8>, entry: &Entry<'_>, stored: u64) {
    let plain = |text: &[u8]| text.len() <= NAME_MAX && text.is_ascii();
    if !plain(entry.path) {
        record(pax, b"path", entry.path);
    }
    if !plain(entry.link) {
        record(pax, b"linkpath", entry.link);
    }
    for (key, id) in [(&b"uid"[..], entry.uid), (b"gid", entry.gid)] {
        if u64::from(id) > SHORT_MAX {
            record(pax, key, id.to_string().as_bytes());
        }
    }
    if stored > LONG_MAX {
        record(pax, b"size", stored.to_string().as_bytes());
    }
    let Time { sec, nsec } = entry.mtime;
    if nsec != 0 || u64::try_from(sec).is_ok_and(|s| s > LONG_MAX) || sec < 0 {
        record(pax, b"mtime", seconds(entry.mtime).as_bytes());
    }
    for (name, value) in entry.xattrs {
        record(pax, &[b"SCHILY.xattr.", name.as_slice()].concat(), value);
    }
    if entry.parts.is_some() {
        record(pax, b"GNU.sparse.major", b"1");
        record(pax, b"GNU.sparse.minor", b"0");
        record(pax, b"GNU.sparse.name", entry.path);
        record(pax, b"GNU.sparse.realsize", entry.size.to_string().as_bytes());
    }
}

/// Writes a time as pax has it: a decimal number, which may be negative as a whole.
fn seconds(time: Time) -> String {
    let text = match (time.sec, time.nsec) {
        (sec, 0) => return sec.to_string(),
        (sec, nsec) if sec >= 0 => format!("{sec}.{nsec:09}"),
        (sec, nsec) => format!("-{}.{:09}", -(sec + 1), 1_000_000_000 - nsec),
    };
    text.trim_end_matches('0').to_owned()
}

/// Adds `LENGTH KEY=VALUE\n`, where the length counts itself.
fn record(pax: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while rest + length.to_string().len() != length {
        length = rest + length.to_string().len();
    }
    pax.extend_from_slice(length.to_string().as_bytes());
    pax.push(b' ');
    pax.extend_from_slice(key);
    pax.push(b'=');
    pax.extend_from_slice(value);
    pax.push(b'\n');
}

/// Returns the map that precedes the data of a sparse file (GNU's version 1.0), in whole blocks.
fn map_of(parts: &[(u64, u64)]) -> Vec<u8> {
    let mut text = format!("{}\n", parts.len());
    for (offset, length) in parts {
        text.push_str(&format!("{offset}\n{length}\n"));
    }
    let mut map = text.into_bytes();
    map.resize(map.len().next_multiple_of(BLOCK), 0);
    map
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_counts_its_own_length() {
        for n in [0, 1, 88, 89, 90, 91, 988, 989, 990, 991] {
            let mut pax = Vec::new();
            record(&mut pax, b"k", &vec![b'x'; n]);
            let text = String::from_utf8(pax).unwrap();
            let (length, _) = text.split_once(' ').unwrap();
            assert_eq!(length.parse::<usize>().unwrap(), text.len());
        }
    }

    #[test]
    fn times_before_1970_are_negative_as_a_whole() {
        assert_eq!(seconds(Time { sec: 1, nsec: 500_000_000 }), "1.5");
        assert_eq!(seconds(Time { sec: -2, nsec: 750_000_000 }), "-1.25");
        assert_eq!(seconds(Time { sec: -1, nsec: 500_000_000 }), "-0.5");
        assert_eq!(seconds(Time { sec: -7, nsec: 0 }), "-7");
    }
}
