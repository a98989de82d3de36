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

/// Sets of a thread (bit n is capability n).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sets {
    /// What counts in permission checks.
    pub effective: u64,
    /// What may be made effective.
    pub permitted: u64,
    /// What programs whose files say so inherit.
    pub inheritable: u64,
}

/// Sets the effective and permitted sets to `keep` (bit n is capability n) and empties the
/// inheritable one (`capset(2)`).
///
/// # Errors
/// `EPERM`: a capability that the thread doesn't have.
pub fn set(keep: u64) -> Result<()> {
    set_each(Sets { effective: keep, permitted: keep, inheritable: 0 })
}

/// Sets each of the sets (`capset(2)`).
///
/// # Errors
/// `EPERM`: a capability that the thread doesn't have, or one to be inherited that the bounding set lacks.
pub fn set_each(sets: Sets) -> Result<()> {
    let header = Header { version: VERSION, pid: 0 };
    let word = |shift: u32| Data {
        effective: (sets.effective >> shift) as u32,
        permitted: (sets.permitted >> shift) as u32,
        inheritable: (sets.inheritable >> shift) as u32,
    };
    let data = [word(0), word(32)];
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

/// Adds a capability to the ambient set (`PR_CAP_AMBIENT_RAISE`).
///
/// # Errors
/// `EPERM`: it is not both permitted and inheritable. `EINVAL`: the kernel knows no such capability.
pub fn raise_ambient(cap: u32) -> Result<()> {
    let raise = libc::PR_CAP_AMBIENT_RAISE as libc::c_ulong;
    let cap = libc::c_ulong::from(cap);
    // SAFETY: this prctl takes numbers only.
    Errno::result(unsafe { libc::prctl(libc::PR_CAP_AMBIENT, raise, cap, 0, 0) }).map(drop)
}
