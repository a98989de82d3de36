//! Network interfaces up, and the domain name.

use std::os::fd::{AsFd, AsRawFd};

use crate::{Errno, Result};

/// Sets the flags of the interface `lo` to up and running (`SIOCSIFFLAGS`), through any socket of
/// its network namespace.
///
/// # Errors
/// `EPERM`: no `CAP_NET_ADMIN` over the namespace.
pub fn loopback_up(socket: impl AsFd) -> Result<()> {
    // SAFETY: `ifreq` is a plain struct, for which all zeroes is a valid value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(b"lo") {
        *to = *from as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    // SAFETY: the kernel reads a whole `ifreq`.
    let r = unsafe { libc::ioctl(socket.as_fd().as_raw_fd(), libc::SIOCSIFFLAGS, &request) };
    Errno::result(r).map(drop)
}

/// Sets the NIS domain name of the caller's UTS namespace (`setdomainname(2)`).
///
/// # Errors
/// `EPERM`: no `CAP_SYS_ADMIN` over the namespace. `EINVAL`: longer than 64 bytes.
pub fn set_domain_name(name: &[u8]) -> Result<()> {
    // SAFETY: the kernel reads as many bytes as are passed.
    Errno::result(unsafe { libc::setdomainname(name.as_ptr().cast(), name.len()) }).map(drop)
}
