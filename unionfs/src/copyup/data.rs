//! The content of a file, copied with its holes.

use std::os::fd::AsFd;

use sys::copy::{copy_range, read_at, seek, write_at};
use sys::{Errno, Result};

/// Bytes that one call copies at the most: small enough that a signal is not held up for long.
const CHUNK: u64 = 64 << 20;
/// Buffer for file systems between which the kernel can't copy.
const BUFFER: usize = 1 << 20;

/// Copies `size` bytes of `src`, which may be known to have no holes, to the empty file `dst`.
pub fn copy(src: impl AsFd, dst: impl AsFd, size: u64, is_dense: bool) -> Result<()> {
    let mut at = 0;
    let mut written = 0;
    while at < size {
        let next = if is_dense { Some((0, size)) } else { next_data(&src, at, size)? };
        let Some((start, end)) = next else { break };
        written = copy_extent(&src, &dst, start, end)?;
        at = end;
    }
    // A hole at the end has no data to give the file its length.
    if written < size { sys::name::truncate(dst, size) } else { Ok(()) }
}

/// Returns the next range that holds data at or after `at`; `None` where only a hole is left.
fn next_data(src: impl AsFd, at: u64, size: u64) -> Result<Option<(u64, u64)>> {
    let start = match seek(&src, at as i64, libc::SEEK_DATA) {
        Ok(s) => s as u64,
        Err(Errno::ENXIO) => return Ok(None),
        // No notion of holes here.
        Err(Errno::EINVAL | Errno::EOPNOTSUPP) => return Ok(Some((at, size))),
        Err(e) => return Err(e),
    };
    if start >= size {
        return Ok(None);
    }
    let end = seek(&src, start as i64, libc::SEEK_HOLE)? as u64;
    Ok(Some((start, end.min(size))))
}

/// Copies a range and returns where that ended.
fn copy_extent(src: impl AsFd, dst: impl AsFd, start: u64, end: u64) -> Result<u64> {
    let mut at = start;
    while at < end {
        let want = (end - at).min(CHUNK) as usize;
        match copy_range(&src, at as i64, &dst, at as i64, want) {
            // The file became shorter than it was, which a lower must not.
            Ok(0) => return Ok(at),
            Ok(n) => at += n as u64,
            Err(Errno::EINTR) => {}
            Err(Errno::EXDEV | Errno::EINVAL | Errno::ENOSYS | Errno::EOPNOTSUPP) => {
                return copy_by_hand(src, dst, at, end);
            }
            Err(e) => return Err(e),
        }
    }
    Ok(at)
}

fn copy_by_hand(src: impl AsFd, dst: impl AsFd, start: u64, end: u64) -> Result<u64> {
    let mut buf = vec![0u8; BUFFER.min((end - start) as usize)];
    let mut at = start;
    while at < end {
        let want = buf.len().min((end - at) as usize);
        let part = buf.get_mut(..want).ok_or(Errno::EIO)?;
        let n = read_at(&src, part, at)?;
        if n == 0 {
            return Ok(at);
        }
        let part = part.get(..n).ok_or(Errno::EIO)?;
        let written = write_at(&dst, part, at)?;
        if written < n {
            // The next attempt gives the reason, which is a full file system in practice.
            let rest = part.get(written..).ok_or(Errno::EIO)?;
            if write_at(&dst, rest, at + written as u64)? < rest.len() {
                return Err(Errno::ENOSPC);
            }
        }
        at += n as u64;
    }
    Ok(at)
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::{Seek, SeekFrom, Write};
    use std::os::unix::fs::MetadataExt;

    use super::*;

    fn temp(name: &str) -> File {
        let path = std::env::temp_dir().join(format!("data-{}-{name}", std::process::id()));
        let f = File::options().read(true).write(true).create(true).truncate(true).open(&path);
        std::fs::remove_file(&path).unwrap();
        f.unwrap()
    }

    #[test]
    fn holes_stay_holes() {
        let (mut src, dst) = (temp("src"), temp("dst"));
        src.seek(SeekFrom::Start(1 << 20)).unwrap();
        src.write_all(b"middle").unwrap();
        src.set_len(64 << 20).unwrap();
        copy(&src, &dst, 64 << 20, false).unwrap();
        let mut buf = [0; 6];
        assert_eq!(read_at(&dst, &mut buf, 1 << 20), Ok(6));
        assert_eq!(&buf, b"middle");
        let meta = dst.metadata().unwrap();
        assert_eq!(meta.len(), 64 << 20);
        assert!(meta.blocks() * 512 < 4 << 20, "{} blocks", meta.blocks());
    }

    #[test]
    fn copying_by_hand_copies_all() {
        let (mut src, dst) = (temp("hsrc"), temp("hdst"));
        let data: Vec<u8> = (0..3 * BUFFER + 7).map(|i| (i % 251) as u8).collect();
        src.write_all(&data).unwrap();
        copy_by_hand(&src, &dst, 0, data.len() as u64).unwrap();
        let mut got = vec![0; data.len()];
        assert_eq!(read_at(&dst, &mut got, 0), Ok(data.len()));
        assert!(got == data);
    }
}
