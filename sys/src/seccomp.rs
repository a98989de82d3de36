//! Filters of system calls, and calls that another process answers (seccomp(2), seccomp_unotify(2)).

use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

use crate::{Errno, Result};

/// One instruction of classic BPF (`struct sock_filter`).
pub type Instruction = libc::sock_filter;

/// Codes of instructions (`linux/bpf_common.h`) that filters are made of.
pub mod op {
    /// Load a word of `struct seccomp_data`.
    pub const LOAD: u16 = 0x20;
    /// Keep some bits.
    pub const AND: u16 = 0x54;
    /// Go on further down.
    pub const JA: u16 = 0x05;
    /// Branch where equal.
    pub const JEQ: u16 = 0x15;
    /// Branch where greater.
    pub const JGT: u16 = 0x25;
    /// Branch where greater or equal.
    pub const JGE: u16 = 0x35;
    /// End with an action.
    pub const RET: u16 = 0x06;
}

/// Architectures (`AUDIT_ARCH_*` of `linux/audit.h`).
pub mod arch {
    /// 64-bit x86.
    pub const X86_64: u32 = 0xc000_003e;
    /// 32-bit x86.
    pub const I386: u32 = 0x4000_0003;
    /// 64-bit ARM.
    pub const AARCH64: u32 = 0xc000_00b7;
    /// 32-bit ARM.
    pub const ARM: u32 = 0x4000_0028;
}

/// Puts the calling thread, and all that it starts, under a filter.
///
/// # Errors
/// `EACCES`: neither `no_new_privs` nor `CAP_SYS_ADMIN`. `EINVAL`: not a valid program, or the kernel
/// has no filters.
pub fn set_filter(program: &[Instruction]) -> Result<()> {
    set(program, 0).map(drop)
}

/// Flags of filters (`SECCOMP_FILTER_FLAG_*` of seccomp(2)).
pub mod flag {
    /// Actions other than "allow" are logged.
    pub const LOG: u64 = 1 << 1;
    /// Speculation is not held back for it.
    pub const SPEC_ALLOW: u64 = 1 << 2;
    /// A call that was received for an answer is only ended by signals that kill.
    pub const WAIT_KILLABLE: u64 = 1 << 5;
}

/// As [`set_filter`], with [`flag`]s.
pub fn set_filter_with_flags(program: &[Instruction], flags: u64) -> Result<()> {
    set(program, flags as libc::c_ulong).map(drop)
}

/// As [`set_filter`], with [`flag`]s; returns where calls whose action is "notify" are to be answered.
///
/// # Errors
/// Also `EBUSY`: another filter of the thread has a listener.
pub fn set_filter_with_flags_and_listener(program: &[Instruction], flags: u64) -> Result<OwnedFd> {
    let fd = set(program, flags as libc::c_ulong | libc::SECCOMP_FILTER_FLAG_NEW_LISTENER)?;
    // SAFETY: the call succeeded, so this is a new descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// As [`set_filter`]; returns where calls whose action is "notify" are to be answered.
///
/// # Errors
/// Also `EBUSY`: another filter of the thread has a listener.
pub fn set_filter_with_listener(program: &[Instruction]) -> Result<OwnedFd> {
    let new_listener = libc::SECCOMP_FILTER_FLAG_NEW_LISTENER;
    // A signal that comes while the answer is waited for doesn't repeat the call (Linux 5.19).
    let wait_killable = 1 << 5;
    let fd = match set(program, new_listener | wait_killable) {
        Err(Errno::EINVAL) => set(program, new_listener)?,
        r => r?,
    };
    // SAFETY: the call succeeded, so this is a new descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn set(program: &[Instruction], flags: libc::c_ulong) -> Result<i32> {
    let len = u16::try_from(program.len()).map_err(|_| Errno::EINVAL)?;
    let program = libc::sock_fprog { len, filter: program.as_ptr().cast_mut() };
    // SAFETY: `program` names `len` instructions that outlive the call, which only reads them.
    let r =
        unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &program) };
    Errno::result(r).map(|fd| fd as i32)
}

/// Whether the kernel can hand calls to another process (`SECCOMP_GET_ACTION_AVAIL`).
pub fn can_notify() -> bool {
    let action: u32 = libc::SECCOMP_RET_USER_NOTIF;
    // SAFETY: the kernel reads one word, which outlives the call.
    let r = unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_GET_ACTION_AVAIL, 0, &action) };
    r == 0
}

/// A call that waits for its answer.
#[derive(Clone, Copy, Debug)]
pub struct Call {
    /// Names the call in answers.
    pub id: u64,
    /// The calling thread, in the pid namespace of the listener.
    pub pid: u32,
    /// Architecture ([`arch`]).
    pub arch: u32,
    /// Number of the call.
    pub number: i32,
    /// Its arguments.
    pub args: [u64; 6],
}

const fn iowr(number: u64, size: usize) -> libc::c_ulong {
    // `_IOWR('!', number, size)` of `asm-generic/ioctl.h`.
    ((3 << 30) | ((size as u64) << 16) | ((b'!' as u64) << 8) | number) as libc::c_ulong
}

/// Takes the next call.
///
/// # Errors
/// `ENOENT`: its thread was killed meanwhile.
pub fn receive(listener: impl AsFd) -> Result<Call> {
    // SAFETY: a plain struct of integers, for which all zeroes is valid, and which the kernel wants
    // zeroed.
    let mut call: libc::seccomp_notif = unsafe { std::mem::zeroed() };
    let request = iowr(0, size_of::<libc::seccomp_notif>());
    // SAFETY: the kernel fills a whole `seccomp_notif`.
    Errno::result(unsafe { libc::ioctl(listener.as_fd().as_raw_fd(), request as _, &mut call) })?;
    let data = call.data;
    Ok(Call { id: call.id, pid: call.pid, arch: data.arch, number: data.nr, args: data.args })
}

/// What becomes of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It returns this.
    Value(i64),
    /// It fails.
    Fail(Errno),
    /// The kernel makes it.
    Continue,
}

/// Answers a call.
///
/// # Errors
/// `ENOENT`: its thread was killed meanwhile.
pub fn answer(listener: impl AsFd, id: u64, answer: Answer) -> Result<()> {
    let mut response = libc::seccomp_notif_resp { id, val: 0, error: 0, flags: 0 };
    match answer {
        Answer::Value(value) => response.val = value,
        Answer::Fail(e) => response.error = -(e as i32),
        Answer::Continue => response.flags = libc::SECCOMP_USER_NOTIF_FLAG_CONTINUE as u32,
    }
    let request = iowr(1, size_of::<libc::seccomp_notif_resp>());
    // SAFETY: the kernel reads a whole `seccomp_notif_resp`.
    let r = unsafe { libc::ioctl(listener.as_fd().as_raw_fd(), request as _, &mut response) };
    Errno::result(r).map(drop)
}

/// Whether a call still waits, so that its thread's number is still its.
pub fn is_valid(listener: impl AsFd, id: u64) -> bool {
    // `_IOW('!', 2, __u64)`.
    let request = (1u64 << 30) | (8 << 16) | ((b'!' as u64) << 8) | 2;
    // SAFETY: the kernel reads one number, which outlives the call.
    let r = unsafe { libc::ioctl(listener.as_fd().as_raw_fd(), request as _, &id) };
    r == 0
}
