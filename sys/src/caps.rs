//! The capability sets of the calling thread (capabilities(7)).

use crate::{Errno, Result};

/// `_LINUX_CAPABILITY_VERSION_3` of `linux/capability.h`: two words a set.
const VERSION: u32 = 0x2008_0522;

/// `struct __user_cap_header_struct`.
#[repr(C)]
struct Header {
    version: u32,
    pid: i32,
}

/// `struct __user_cap_data_struct`.
#[repr(C)]
#[derive(Clone, Copy)]
struct Data {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// Sets the effective and permitted sets to `keep` (bit n is capability n) and empties the
/// inheritable one (`capset(2)`).
///
/// # Errors
/// `EPERM`: a capability that the thread doesn't have.
pub fn set(keep: u64) -> Result<()> {
    let header = Header { version: VERSION, pid: 0 };
    let word = |w: u64| Data { effective: w as u32, permitted: w as u32, inheritable: 0 };
    let data = [word(keep & 0xffff_ffff), word(keep >> 32)];
    // SAFETY: header and data have the layout of version 3 (two words), and outlive the call.
    let r = unsafe { libc::syscall(libc::SYS_capset, &header, data.as_ptr()) };
    Errno::result(r).map(drop)
}

/// Returns the permitted set (`capget(2)`).
pub fn permitted() -> Result<u64> {
    let header = Header { version: VERSION, pid: 0 };
    let mut data = [Data { effective: 0, permitted: 0, inheritable: 0 }; 2];
    // SAFETY: header and data have the layout of version 3 (two words), and outlive the call.
    let r = unsafe { libc::syscall(libc::SYS_capget, &header, data.as_mut_ptr()) };
    Errno::result(r)?;
    let [low, high] = data;
    Ok(u64::from(low.permitted) | u64::from(high.permitted) << 32)
}

/// Takes a capability out of the bounding set (`PR_CAPBSET_DROP`): no program started later can
/// have it.
///
/// # Errors
/// `EINVAL`: the kernel knows no such capability. `EPERM`: no `CAP_SETPCAP`.
pub fn drop_bounding(cap: u32) -> Result<()> {
    // SAFETY: this prctl takes numbers only.
    Errno::result(unsafe { libc::prctl(libc::PR_CAPBSET_DROP, libc::c_ulong::from(cap), 0, 0, 0) })
        .map(drop)
}

/// Empties the ambient set (`PR_CAP_AMBIENT_CLEAR_ALL`).
pub fn clear_ambient() -> Result<()> {
    let all = libc::PR_CAP_AMBIENT_CLEAR_ALL as libc::c_ulong;
    // SAFETY: this prctl takes numbers only.
    Errno::result(unsafe { libc::prctl(libc::PR_CAP_AMBIENT, all, 0, 0, 0) }).map(drop)
}
