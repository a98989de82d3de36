//! Shared mappings of files, for reading.

use std::os::fd::{AsFd, AsRawFd};
use std::ptr::NonNull;

use crate::{Errno, Result};

/// A shared mapping of the beginning of a file, read-only, gone when it is dropped.
#[derive(Debug)]
pub struct Mapping {
    start: NonNull<u8>,
    len: usize,
}

// SAFETY: the mapping belongs to the process and not to a thread, and is never written through.
unsafe impl Send for Mapping {}
// SAFETY: all that a shared reference allows is to read single bytes.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Maps the first `len` bytes of a file that is open for reading.
    pub fn new(fd: impl AsFd, len: usize) -> Result<Mapping> {
        // SAFETY: without MAP_FIXED the kernel chooses addresses that nothing uses.
        let start = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                len,
                libc::PROT_READ,
                libc::MAP_SHARED,
                fd.as_fd().as_raw_fd(),
                0,
            )
        };
        if start == libc::MAP_FAILED {
            return Err(Errno::last());
        }
        let start = NonNull::new(start.cast()).ok_or(Errno::EINVAL)?;
        Ok(Mapping { start, len })
    }

    /// Returns the byte at `at` as it is now, `None` outside of the mapping. As with every mapping,
    /// the process gets SIGBUS where the file has become shorter.
    pub fn byte(&self, at: usize) -> Option<u8> {
        if at >= self.len {
            return None;
        }
        // SAFETY: `at` is inside of the mapping.
        let byte = unsafe { self.start.add(at) };
        // SAFETY: the mapping is readable as long as `self` lives; others may change the byte at any
        // time, so it is read once, as volatile, and never borrowed.
        Some(unsafe { byte.read_volatile() })
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: these are the address and the length that mmap gave, and no reference to a byte of
        // it was ever given out.
        let r = unsafe { libc::munmap(self.start.as_ptr().cast(), self.len) };
        debug_assert_eq!(r, 0, "unmapping what was mapped can't fail");
    }
}
