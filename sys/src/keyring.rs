//! Keyrings (keyrings(7)).

use std::ffi::CStr;

use crate::{Errno, Result};

/// `KEYCTL_JOIN_SESSION_KEYRING` of keyctl(2).
const JOIN_SESSION_KEYRING: libc::c_int = 1;

/// Gives the calling process a new session keyring of this name, in place of the one that it inherited.
///
/// # Errors
/// `ENOSYS`: the kernel has no keyrings. `EPERM`, `EACCES`: a filter of system calls or the owner of a
/// keyring of that name forbids it. `EDQUOT`: the user has as many keys as it may have.
pub fn join_session(name: &CStr) -> Result<()> {
    // SAFETY: the name is NUL-terminated and outlives the call.
    let r = unsafe { libc::syscall(libc::SYS_keyctl, JOIN_SESSION_KEYRING, name.as_ptr()) };
    Errno::result(r).map(drop)
}
