//! The requests of `/dev/fuse` (`linux/fuse.h`).

use std::os::fd::{AsFd, AsRawFd};

use crate::{Errno, Result};

/// `struct fuse_backing_map`.
#[repr(C)]
struct BackingMap {
    fd: i32,
    flags: u32,
    padding: u64,
}

/// `_IOW(229, number, size)` of `asm-generic/ioctl.h`.
const fn request(number: u32, size: usize) -> u32 {
    1 << 30 | (size as u32) << 16 | 229 << 8 | number
}

const FUSE_DEV_IOC_BACKING_OPEN: u32 = request(1, size_of::<BackingMap>());
const FUSE_DEV_IOC_BACKING_CLOSE: u32 = request(2, size_of::<u32>());

/// Registers a file that the kernel may read and write by itself, and returns its number, which is the
/// connection's (`FUSE_DEV_IOC_BACKING_OPEN`, Linux 6.9).
///
/// # Errors
/// `EPERM`: no `CAP_SYS_ADMIN` in the first user namespace, or passthrough wasn't agreed on. `ELOOP`:
/// the file's file system is stacked too deep.
pub fn open_backing(device: impl AsFd, file: impl AsFd) -> Result<i32> {
    let map = BackingMap { fd: file.as_fd().as_raw_fd(), flags: 0, padding: 0 };
    // SAFETY: the kernel reads a whole `fuse_backing_map`.
    Errno::result(unsafe {
        libc::ioctl(device.as_fd().as_raw_fd(), FUSE_DEV_IOC_BACKING_OPEN as _, &map)
    })
}

/// Takes a registered file back. Open files that use it go on.
///
/// # Errors
/// `ENOENT`: there is no such number.
pub fn close_backing(device: impl AsFd, id: i32) -> Result<()> {
    let id = id as u32;
    // SAFETY: the kernel reads one `u32`.
    Errno::result(unsafe {
        libc::ioctl(device.as_fd().as_raw_fd(), FUSE_DEV_IOC_BACKING_CLOSE as _, &id)
    })
    .map(drop)
}
