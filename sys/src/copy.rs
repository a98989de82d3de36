//! File content: reflink, `copy_file_range`, holes, `fallocate`, positional reads and writes, flags.

use std::os::fd::{AsFd, AsRawFd};

use crate::{Errno, Result};

/// Makes `dst` share all blocks of `src` (`FICLONE`).
///
/// # Errors
/// `EOPNOTSUPP`, `EXDEV`, `EINVAL`, `ENOTTY`: not here; copy instead.
pub fn reflink(src: impl AsFd, dst: impl AsFd) -> Result<()> {
    // SAFETY: FICLONE takes a descriptor number by value and touches no memory of ours.
    let r = unsafe { libc::ioctl(dst.as_fd().as_raw_fd(), libc::FICLONE, src.as_fd().as_raw_fd()) };
    Errno::result(r).map(drop)
}

/// Copies up to `len` bytes between offsets inside the kernel and returns how many it did.
pub fn copy_range(
    src: impl AsFd,
    mut from: i64,
    dst: impl AsFd,
    mut to: i64,
    len: usize,
) -> Result<usize> {
    // SAFETY: both offsets are valid for reads and writes and outlive the call.
    let n = unsafe {
        libc::copy_file_range(
            src.as_fd().as_raw_fd(),
            &mut from,
            dst.as_fd().as_raw_fd(),
            &mut to,
            len,
            0,
        )
    };
    Errno::result(n).map(|n| n as usize)
}

/// Returns the next offset at or after `offset` where `whence` (`SEEK_DATA`, `SEEK_HOLE`) holds.
///
/// # Errors
/// `ENXIO`: there is no such place before the end of the file.
pub fn seek(fd: impl AsFd, offset: i64, whence: i32) -> Result<i64> {
    // SAFETY: lseek takes no pointer.
    Errno::result(unsafe { libc::lseek(fd.as_fd().as_raw_fd(), offset, whence) })
}

/// `fallocate(2)` with any mode.
pub fn fallocate(fd: impl AsFd, mode: i32, offset: i64, len: i64) -> Result<()> {
    loop {
        // SAFETY: fallocate takes no pointer.
        let r = unsafe { libc::fallocate(fd.as_fd().as_raw_fd(), mode, offset, len) };
        match Errno::result(r) {
            Err(Errno::EINTR) => continue,
            r => return r.map(drop),
        }
    }
}

/// Reads at `offset` until `buf` is full or the file ends; returns the bytes read.
pub fn read_at(fd: impl AsFd, buf: &mut [u8], offset: u64) -> Result<usize> {
    let mut done = 0;
    while let Some(rest) = buf.get_mut(done..).filter(|r| !r.is_empty()) {
        // SAFETY: `rest` is writable for its whole length, which is passed.
        let n = unsafe {
            libc::pread64(
                fd.as_fd().as_raw_fd(),
                rest.as_mut_ptr().cast(),
                rest.len(),
                (offset + done as u64) as i64,
            )
        };
        match Errno::result(n) {
            Ok(0) => break,
            Ok(n) => done += n as usize,
            Err(Errno::EINTR) => continue,
            Err(_) if done > 0 => break,
            Err(e) => return Err(e),
        }
    }
    Ok(done)
}

/// Reads at `offset` what is in memory (`RWF_NOWAIT`, preadv2(2)); returns the bytes read, fewer at
/// the end of the file or where a disk would have to be waited for.
///
/// # Errors
/// `EAGAIN`: nothing is in memory. `EOPNOTSUPP`: the file system doesn't tell.
pub fn read_cached(fd: impl AsFd, buf: &mut [u8], offset: u64) -> Result<usize> {
    let part = libc::iovec { iov_base: buf.as_mut_ptr().cast(), iov_len: buf.len() };
    // SAFETY: the vector has one part, which is writable for its whole length.
    let n =
        unsafe { libc::preadv2(fd.as_fd().as_raw_fd(), &part, 1, offset as i64, libc::RWF_NOWAIT) };
    Errno::result(n).map(|n| n as usize)
}

/// Writes at `offset` until `buf` is written; returns the bytes written, fewer only where an error
/// stopped it after a part.
pub fn write_at(fd: impl AsFd, buf: &[u8], offset: u64) -> Result<usize> {
    let mut done = 0;
    while let Some(rest) = buf.get(done..).filter(|r| !r.is_empty()) {
        // SAFETY: `rest` is readable for its whole length, which is passed.
        let n = unsafe {
            libc::pwrite64(
                fd.as_fd().as_raw_fd(),
                rest.as_ptr().cast(),
                rest.len(),
                (offset + done as u64) as i64,
            )
        };
        match Errno::result(n) {
            Ok(n) => done += n as usize,
            Err(Errno::EINTR) => continue,
            Err(_) if done > 0 => break,
            Err(e) => return Err(e),
        }
    }
    Ok(done)
}

/// Flushes the file system that holds `fd` (`syncfs(2)`).
pub fn syncfs(fd: impl AsFd) -> Result<()> {
    // SAFETY: syncfs takes no pointer.
    Errno::result(unsafe { libc::syncfs(fd.as_fd().as_raw_fd()) }).map(drop)
}

/// Bytes of `struct fsxattr` (linux/fs.h).
pub const FSXATTR: usize = 28;
/// `FS_IOC_FSGETXATTR`: `_IOR('X', 31, struct fsxattr)`.
pub const FS_IOC_FSGETXATTR: u32 = 0x801c_581f;
/// `FS_IOC_FSSETXATTR`: `_IOW('X', 32, struct fsxattr)`.
pub const FS_IOC_FSSETXATTR: u32 = 0x401c_5820;

/// Returns the extended flags and project of a file (`struct fsxattr`).
pub fn fsxattr(fd: impl AsFd) -> Result<[u8; FSXATTR]> {
    let mut out = [0u8; FSXATTR];
    let cmd = libc::c_ulong::from(FS_IOC_FSGETXATTR);
    // SAFETY: the kernel writes a `struct fsxattr`, whose size `out` has; it is copied bytewise.
    let r = unsafe { libc::ioctl(fd.as_fd().as_raw_fd(), cmd, out.as_mut_ptr()) };
    Errno::result(r).map(|_| out)
}

/// Sets the extended flags and project of a file.
pub fn set_fsxattr(fd: impl AsFd, value: &[u8; FSXATTR]) -> Result<()> {
    let cmd = libc::c_ulong::from(FS_IOC_FSSETXATTR);
    // SAFETY: the kernel reads a `struct fsxattr`, whose size `value` has; it is copied bytewise.
    let r = unsafe { libc::ioctl(fd.as_fd().as_raw_fd(), cmd, value.as_ptr()) };
    Errno::result(r).map(drop)
}

/// Has whoever serves a directory fill a buffer (a request that `_IOR` of ioctl(2) makes).
///
/// # Errors
/// `ENOTTY`: nobody there knows the request. `EINVAL`: the request is for another size.
pub fn ask(dir: impl AsFd, request: u32, buf: &mut [u8]) -> Result<()> {
    // `_IOC_SIZE`, which has 13 bits on all architectures, and 14 on most.
    if (request >> 16 & 0x1fff) as usize != buf.len() {
        return Err(Errno::EINVAL);
    }
    // SAFETY: a request of this kind has the kernel write as many bytes as its number says, which the
    // buffer has.
    let r = unsafe {
        libc::ioctl(dir.as_fd().as_raw_fd(), libc::c_ulong::from(request), buf.as_mut_ptr())
    };
    Errno::result(r).map(drop)
}

/// Returns the inode flags of a file (`FS_IOC_GETFLAGS`, chattr(1)).
pub fn file_flags(fd: impl AsFd) -> Result<u32> {
    let mut flags: libc::c_long = 0;
    // SAFETY: the kernel writes an int into `flags`, which has room for a long.
    let r = unsafe { libc::ioctl(fd.as_fd().as_raw_fd(), libc::FS_IOC_GETFLAGS, &mut flags) };
    Errno::result(r).map(|_| flags as u32)
}

/// Sets the inode flags of a file (`FS_IOC_SETFLAGS`).
pub fn set_file_flags(fd: impl AsFd, flags: u32) -> Result<()> {
    let flags = libc::c_long::from(flags);
    // SAFETY: the kernel reads an int from `flags`, which holds a long with the same low bytes.
    let r = unsafe { libc::ioctl(fd.as_fd().as_raw_fd(), libc::FS_IOC_SETFLAGS, &flags) };
    Errno::result(r).map(drop)
}
