//! Programs of the kernel (bpf(2)) that say which devices the processes of a cgroup of v2 may use.

use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

use crate::{Errno, Result};

/// `BPF_PROG_LOAD` and `BPF_PROG_ATTACH` of `linux/bpf.h`.
const PROG_LOAD: libc::c_int = 5;
const PROG_ATTACH: libc::c_int = 8;
/// `BPF_PROG_TYPE_CGROUP_DEVICE`.
const CGROUP_DEVICE_PROGRAM: u32 = 15;
/// `BPF_CGROUP_DEVICE`.
const CGROUP_DEVICE: u32 = 6;
/// `BPF_F_ALLOW_MULTI`: those of cgroups above and below hold as well.
const ALLOW_MULTI: u32 = 2;

/// One instruction (`struct bpf_insn`).
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Instruction {
    /// Operation ([`op`]).
    pub code: u8,
    /// Registers: the destination in the low half, the source in the high one.
    pub registers: u8,
    /// Where a jump leads, or where in memory something is.
    pub offset: i16,
    /// A constant.
    pub constant: i32,
}

/// Operations that programs about devices are made of.
pub mod op {
    /// Load a word of memory.
    pub const LOAD: u8 = 0x61;
    /// Copy a register (32 bits).
    pub const COPY: u8 = 0xbc;
    /// And a constant (32 bits).
    pub const AND: u8 = 0x54;
    /// Shift right by a constant (32 bits).
    pub const SHIFT_RIGHT: u8 = 0x74;
    /// Set to a constant.
    pub const SET: u8 = 0xb7;
    /// Jump where a register is not a constant.
    pub const JUMP_UNLESS: u8 = 0x55;
    /// Jump where two registers differ.
    pub const JUMP_UNLESS_SAME: u8 = 0x5d;
    /// End with what is in register 0.
    pub const EXIT: u8 = 0x95;
}

/// The part of `union bpf_attr` that loading takes, in the kernel's first version of it.
#[repr(C)]
struct Load {
    kind: u32,
    count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
    kernel_version: u32,
    flags: u32,
}

/// The part of `union bpf_attr` that attaching takes.
#[repr(C)]
struct Attach {
    target: u32,
    program: u32,
    kind: u32,
    flags: u32,
}

/// Loads a program about devices, which gets a `struct bpf_cgroup_dev_ctx`.
///
/// # Errors
/// `EPERM`: no `CAP_BPF`. `EINVAL`, `EACCES`: the kernel doesn't take the program. `ENOSYS`: it takes none.
pub fn load_device_program(program: &[Instruction]) -> Result<OwnedFd> {
    let attr = Load {
        kind: CGROUP_DEVICE_PROGRAM,
        count: program.len() as u32,
        instructions: program.as_ptr() as u64,
        license: c"Apache-2.0".as_ptr() as u64,
        log_level: 0,
        log_size: 0,
        log: 0,
        kernel_version: 0,
        flags: 0,
    };
    // SAFETY: `attr` has the layout and size that are passed; it names `count` instructions and a
    // NUL-terminated string, which outlive the call and are only read.
    let fd = unsafe { libc::syscall(libc::SYS_bpf, PROG_LOAD, &attr, size_of::<Load>()) };
    let fd = Errno::result(fd)?;
    // SAFETY: the call succeeded, so this is a new descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// Puts the processes of a cgroup of v2 under a program about devices, for as long as the cgroup is there.
///
/// # Errors
/// `EPERM`: no `CAP_NET_ADMIN` or `CAP_BPF`, or a program above forbids others.
pub fn attach_device_program(program: impl AsFd, cgroup: impl AsFd) -> Result<()> {
    let attr = Attach {
        target: cgroup.as_fd().as_raw_fd() as u32,
        program: program.as_fd().as_raw_fd() as u32,
        kind: CGROUP_DEVICE,
        flags: ALLOW_MULTI,
    };
    // SAFETY: `attr` has the layout and size that are passed, and outlives the call.
    let r = unsafe { libc::syscall(libc::SYS_bpf, PROG_ATTACH, &attr, size_of::<Attach>()) };
    Errno::result(r).map(drop)
}
