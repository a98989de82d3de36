//! FUSE messages through io_uring (`Documentation/filesystems/fuse/fuse-io-uring.rst`, Linux 6.14).
//!
//! The kernel has a queue for each processor and gives a message to that of the processor on which its
//! sender runs; answer and wait for the next message are one system call.

use std::os::fd::{AsRawFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::Arc;

use io_uring::{IoUring, cqueue, opcode, squeue, types};

use crate::{Errno, Result};

/// `FUSE_IO_URING_CMD_REGISTER`.
const REGISTER: u32 = 1;
/// `FUSE_IO_URING_CMD_COMMIT_AND_FETCH`.
const COMMIT_AND_FETCH: u32 = 2;
/// Where a submission has its `len`, which the kernel wants to be the number of parts.
const SQE_LEN: usize = 24;
/// Room of a part that has a fixed place, in bytes (`FUSE_URING_IN_OUT_HEADER_SZ`,
/// `FUSE_URING_OP_IN_OUT_SZ`).
pub const PART: usize = 128;

/// `struct fuse_uring_req_header`, and behind it what the kernel is told of the memory.
#[repr(C)]
struct Headers {
    in_out: [u8; PART],
    op_in: [u8; PART],
    entry: Entry,
    /// Headers and payload.
    parts: [libc::iovec; 2],
}

/// `struct fuse_uring_ent_in_out`.
#[repr(C)]
struct Entry {
    flags: u64,
    commit_id: u64,
    payload_size: u32,
    padding: u32,
    reserved: u64,
}

/// Where the rest of a message begins, behind its headers.
const PAYLOAD: usize = 4096;
const _: () = assert!(size_of::<Headers>() <= PAYLOAD);

type Ring = IoUring<squeue::Entry128, cqueue::Entry>;

/// A place for one message at a time, in the queue of one processor. All of its calls come from the
/// thread that made it.
pub struct Lane {
    ring: Ring,
    memory: Memory,
    device: Arc<OwnedFd>,
    queue: u16,
}

/// The message that a lane holds, and room for its answer in the same place.
#[derive(Debug)]
pub struct Held<'a> {
    /// `struct fuse_in_header`; for the answer `struct fuse_out_header`.
    pub header: &'a mut [u8; PART],
    /// The operation's own structure, as far as it has one.
    pub operation: &'a [u8; PART],
    /// What follows: names and data in the first `len` bytes. For the answer all that follows its
    /// header.
    pub payload: &'a mut [u8],
    /// Bytes of the payload that belong to the message.
    pub len: usize,
}

/// Anonymous memory, page by page there once it is written to.
struct Memory {
    start: NonNull<u8>,
    len: usize,
    /// The kernel may write to it.
    is_lent: bool,
}

impl Memory {
    fn new(len: usize) -> Result<Memory> {
        // SAFETY: without MAP_FIXED the kernel chooses addresses that nothing uses.
        let start = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                len,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
                -1,
                0,
            )
        };
        if start == libc::MAP_FAILED {
            return Err(Errno::last());
        }
        let start = NonNull::new(start.cast()).ok_or(Errno::EINVAL)?;
        Ok(Memory { start, len, is_lent: false })
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // The kernel ends a lane in its own time, and we don't hear of it: lent memory is left to it.
        if !self.is_lent {
            // SAFETY: `new` mapped it, and nobody borrows it any more. This can only fail for addresses
            // that aren't page aligned.
            unsafe { libc::munmap(self.start.as_ptr().cast(), self.len) };
        }
    }
}

/// Returns an error unless rings as [`Lane`] needs them may be made.
///
/// # Errors
/// `EPERM`: `kernel.io_uring_disabled` or a seccomp filter forbids it. `ENOSYS`: a kernel without.
/// `EINVAL`: one before Linux 6.1.
pub fn probe() -> Result<()> {
    ring().map(drop)
}

fn ring() -> Result<Ring> {
    let made = IoUring::builder().setup_single_issuer().setup_defer_taskrun().build(1);
    made.map_err(|e| errno(&e))
}

fn errno(e: &std::io::Error) -> Errno {
    Errno::from_raw(e.raw_os_error().unwrap_or(libc::EIO))
}

impl Lane {
    /// Makes a lane with room for a payload of so many bytes, which the kernel doesn't know yet.
    ///
    /// # Errors
    /// Those of [`probe`]; `ENOMEM`, `EMFILE`.
    pub fn new(device: Arc<OwnedFd>, queue: u16, room: usize) -> Result<Lane> {
        let memory = Memory::new(PAYLOAD + room)?;
        let mut lane = Lane { ring: ring()?, memory, device, queue };
        let start = lane.memory.start.as_ptr();
        lane.headers().parts = [
            libc::iovec { iov_base: start.cast(), iov_len: std::mem::offset_of!(Headers, parts) },
            libc::iovec { iov_base: start.wrapping_add(PAYLOAD).cast(), iov_len: room },
        ];
        Ok(lane)
    }

    /// Tells the kernel of the lane, and waits for the first message.
    ///
    /// # Errors
    /// `ENOTCONN`, `ECONNABORTED`, `ENODEV`: the connection has ended. `EOPNOTSUPP`: the kernel wasn't
    /// asked for io_uring in the greeting. `EINVAL`: too little room, or no such queue.
    pub fn register(&mut self) -> Result<()> {
        let parts = self.headers().parts.as_ptr() as u64;
        let mut entry = self.command(REGISTER, 0).addr(Some(parts)).build();
        let len = (&raw mut entry).cast::<u8>().wrapping_add(SQE_LEN).cast::<u32>();
        // SAFETY: an entry is 128 bytes of plain data, and its `len` are four bytes at 24
        // (`struct io_uring_sqe`), which the crate has no setter for.
        unsafe { len.write_unaligned(2) };
        self.submit(&entry)
    }

    /// Sends the answer that was left in the lane, with so many bytes of payload, and waits for the
    /// next message.
    ///
    /// # Errors
    /// Those of [`Lane::register`]: no message will come any more.
    pub fn answer(&mut self, len: usize) -> Result<()> {
        let id = {
            let headers = self.headers();
            headers.entry.payload_size = len as u32;
            headers.entry.commit_id
        };
        let entry = self.command(COMMIT_AND_FETCH, id).build();
        self.submit(&entry)
    }

    /// Returns the message that came.
    pub fn held(&mut self) -> Held<'_> {
        let room = self.memory.len - PAYLOAD;
        let start = self.memory.start;
        let Headers { in_out, op_in, entry, .. } = self.headers();
        let len = (entry.payload_size as usize).min(room);
        let payload = start.as_ptr().wrapping_add(PAYLOAD);
        // SAFETY: the payload lies behind the headers in the same mapping, which lives as long as the
        // borrow of `self`; the kernel writes to it only while a call waits, which needs `&mut self`.
        let payload = unsafe { std::slice::from_raw_parts_mut(payload, room) };
        Held { header: in_out, operation: op_in, payload, len }
    }

    fn headers(&mut self) -> &mut Headers {
        // SAFETY: the mapping begins with them, at a page; all bit patterns are valid; the kernel
        // writes to them only while a call waits, which needs `&mut self`.
        unsafe { self.memory.start.cast().as_mut() }
    }

    fn command(&self, number: u32, commit_id: u64) -> opcode::UringCmd80 {
        // `struct fuse_uring_cmd_req`: flags, commit_id, qid.
        let mut command = [0; 80];
        command[8..16].copy_from_slice(&commit_id.to_ne_bytes());
        command[16..18].copy_from_slice(&self.queue.to_ne_bytes());
        opcode::UringCmd80::new(types::Fd(self.device.as_raw_fd()), number).cmd(command)
    }

    /// Gives a command to the kernel, and waits until a message has come for it.
    fn submit(&mut self, entry: &squeue::Entry128) -> Result<()> {
        self.memory.is_lent = true;
        // SAFETY: all memory that the command tells of lives until it has completed, or for ever.
        unsafe { self.ring.submission().push(entry) }.map_err(|_| Errno::EBUSY)?;
        let done = loop {
            if let Some(done) = self.ring.completion().next() {
                break done.result();
            }
            match self.ring.submit_and_wait(1) {
                Ok(_) => {}
                Err(e) if e.raw_os_error() == Some(libc::EINTR) => {}
                Err(e) => return Err(errno(&e)),
            }
        };
        self.memory.is_lent = false;
        if done < 0 { Err(Errno::from_raw(-done)) } else { Ok(()) }
    }
}
