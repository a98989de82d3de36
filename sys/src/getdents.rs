//! Directory entries with type and inode number, by `getdents64(2)`.

use std::ffi::OsStr;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::ffi::OsStrExt;

use crate::{Errno, Result};

/// Bytes read at once: large enough that most directories need two calls.
const BUFFER: usize = 32 * 1024;
/// Offset of the name in `struct linux_dirent64`.
const NAME: usize = 19;

/// One entry as the kernel gives it; `kind` is a `DT_*` constant and may be `DT_UNKNOWN`.
#[derive(Clone, Copy, Debug)]
pub struct Entry<'a> {
    /// Name without slash; never `.` or `..`.
    pub name: &'a OsStr,
    /// Inode number as the directory records it (under a mount point: the covered one's).
    pub ino: u64,
    /// `DT_*` type.
    pub kind: u8,
}

/// Calls `each` for every entry of the directory `dir` but `.` and `..`, from the start.
///
/// # Preconditions
/// `dir` is open for reading (not `O_PATH`), and nobody else reads from the same description.
pub fn for_each(dir: impl AsFd, mut each: impl FnMut(Entry<'_>) -> Result<()>) -> Result<()> {
    let fd = dir.as_fd().as_raw_fd();
    // SAFETY: lseek takes no pointer.
    Errno::result(unsafe { libc::lseek(fd, 0, libc::SEEK_SET) })?;
    let mut buf = vec![0u8; BUFFER];
    loop {
        // SAFETY: the buffer is writable for its whole length, which is passed, and outlives the call.
        let n = unsafe { libc::syscall(libc::SYS_getdents64, fd, buf.as_mut_ptr(), buf.len()) };
        let n = Errno::result(n)? as usize;
        if n == 0 {
            return Ok(());
        }
        let mut rest = buf.get(..n).ok_or(Errno::EIO)?;
        while !rest.is_empty() {
            let (entry, len) = parse(rest).ok_or(Errno::EIO)?;
            if entry.name != "." && entry.name != ".." {
                each(entry)?;
            }
            rest = rest.get(len..).ok_or(Errno::EIO)?;
        }
    }
}

/// Takes the first record of a buffer apart: the entry, and how long the record is.
fn parse(buf: &[u8]) -> Option<(Entry<'_>, usize)> {
    let ino = u64::from_ne_bytes(buf.get(0..8)?.try_into().ok()?);
    let len = usize::from(u16::from_ne_bytes(buf.get(16..18)?.try_into().ok()?));
    let kind = *buf.get(18)?;
    let name = buf.get(NAME..len)?;
    let end = name.iter().position(|&b| b == 0)?;
    Some((Entry { name: OsStr::from_bytes(name.get(..end)?), ino, kind }, len.max(NAME + 1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_names_types_and_inodes() {
        let dir = std::env::temp_dir().join(format!("getdents-{}", std::process::id()));
        std::fs::create_dir(&dir).unwrap();
        std::fs::create_dir(dir.join("sub")).unwrap();
        std::fs::write(dir.join("file"), b"x").unwrap();
        let mut seen = Vec::new();
        for_each(std::fs::File::open(&dir).unwrap(), |e| {
            seen.push((e.name.to_owned(), e.kind, e.ino));
            Ok(())
        })
        .unwrap();
        seen.sort();
        let kinds: Vec<_> = seen.iter().map(|e| (e.0.to_str().unwrap(), e.1)).collect();
        assert_eq!(kinds, [("file", libc::DT_REG), ("sub", libc::DT_DIR)]);
        assert!(seen.iter().all(|e| e.2 > 0));
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
