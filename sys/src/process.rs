//! Processes: detaching a daemon, inherited descriptors, capabilities, signals.

use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};

use crate::{Errno, Result};

/// Which side of [`fork`] one is on.
#[derive(Debug)]
pub enum Fork {
    /// The caller; holds the child's pid.
    Parent(i32),
    /// The new process.
    Child,
}

/// Forks a process that has one thread.
///
/// # Errors
/// `EBUSY`: the process has several threads, whose locks the child would inherit held.
pub fn fork() -> Result<Fork> {
    if thread_count() > 1 {
        return Err(Errno::EBUSY);
    }
    // SAFETY: there is one thread, so no lock can be held by a thread that the child lacks.
    match Errno::result(unsafe { libc::fork() })? {
        0 => Ok(Fork::Child),
        pid => Ok(Fork::Parent(pid)),
    }
}

/// Returns the number of threads of this process (1 where /proc can't tell).
fn thread_count() -> usize {
    std::fs::read_dir("/proc/self/task").map_or(1, |d| d.count())
}

/// Takes ownership of a descriptor that was inherited under a known number, and marks it
/// close-on-exec. Call once a number.
///
/// # Errors
/// `EBADF`: no such descriptor is open. `EINVAL`: 0 to 2 stay the standard streams.
pub fn inherited_fd(fd: RawFd) -> Result<OwnedFd> {
    if fd <= 2 {
        return Err(Errno::EINVAL);
    }
    // SAFETY: fcntl with F_SETFD takes no pointer; a number that is not open gives EBADF.
    Errno::result(unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) })?;
    // SAFETY: the descriptor is open, as the call above proved, and came from outside this program,
    // which therefore has no other owner for it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Translates a process number of another pid namespace into the caller's own
/// (`NS_GET_TGID_FROM_PIDNS` of ioctl_nsfs(2), Linux 6.12).
///
/// # Errors
/// `ENOTTY`: the kernel doesn't know the call, or `namespace` is no pid namespace. `ESRCH`: no such
/// process, or not visible to the caller.
pub fn pid_from_namespace(namespace: impl AsFd, pid: i32) -> Result<i32> {
    let fd = namespace.as_fd().as_raw_fd();
    // SAFETY: the request takes its argument by value, so no memory is shared with the kernel.
    Errno::result(unsafe { libc::ioctl(fd, libc::NS_GET_TGID_FROM_PIDNS, pid) })
}

/// Whether the calling thread has a capability (`CAP_*` number of capabilities(7)) in its effective
/// set.
pub fn has_capability(cap: u32) -> bool {
    effective_capabilities().is_some_and(|set| set >> cap & 1 == 1)
}

fn effective_capabilities() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/thread-self/status").ok()?;
    let line = status.lines().find_map(|l| l.strip_prefix("CapEff:"))?;
    u64::from_str_radix(line.trim(), 16).ok()
}

/// `CAP_CHOWN` of capabilities(7).
pub const CAP_CHOWN: u32 = 0;
/// `CAP_DAC_OVERRIDE` of capabilities(7).
pub const CAP_DAC_OVERRIDE: u32 = 1;
/// `CAP_SYS_ADMIN` of capabilities(7).
pub const CAP_SYS_ADMIN: u32 = 21;

/// Raises the soft limit of open files to the hard one and returns it.
pub fn raise_nofile_limit() -> Result<u64> {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    Ok(hard)
}
