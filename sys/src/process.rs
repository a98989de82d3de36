//! Processes: forking and cloning, pidfds, inherited descriptors, the effective capabilities.

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

/// Namespaces and relations of a process that [`clone`] makes (`CLONE_*` of `linux/sched.h`).
pub mod clone_flags {
    /// A new time namespace for children to come; only `unshare(2)` takes it with offsets.
    pub const NEWTIME: u64 = 0x80;
    /// The child's parent is the caller's parent.
    pub const PARENT: u64 = 0x8000;
    /// A new mount namespace.
    pub const NEWNS: u64 = 0x0002_0000;
    /// A new cgroup namespace.
    pub const NEWCGROUP: u64 = 0x0200_0000;
    /// A new UTS namespace.
    pub const NEWUTS: u64 = 0x0400_0000;
    /// A new IPC namespace.
    pub const NEWIPC: u64 = 0x0800_0000;
    /// A new user namespace.
    pub const NEWUSER: u64 = 0x1000_0000;
    /// A new pid namespace, in which the child is process 1.
    pub const NEWPID: u64 = 0x2000_0000;
    /// A new network namespace.
    pub const NEWNET: u64 = 0x4000_0000;
}

/// `struct clone_args` of `linux/sched.h` in its third version (Linux 5.7).
#[repr(C)]
#[derive(Default)]
struct CloneArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

/// Forks a process that has one thread, into new namespaces ([`clone_flags`]), by `clone3(2)`.
///
/// # Errors
/// `EBUSY`: the process has several threads. `EPERM`: no privilege for these namespaces (in a user
/// namespace of one's own they need none). `ENOSPC`, `EUSERS`: a limit on namespaces is reached.
pub fn clone(flags: u64) -> Result<Fork> {
    clone3(CloneArgs { flags, ..CloneArgs::default() })
}

/// As [`clone`], with the child in a cgroup of v2 from its first moment (Linux 5.7): cheaper than
/// moving it there.
///
/// # Errors
/// Also what joining that cgroup may give: `EACCES`, `EBUSY`, `EOPNOTSUPP`; `EINVAL` or `E2BIG` on
/// older kernels.
pub fn clone_into_cgroup(flags: u64, cgroup: impl AsFd) -> Result<Fork> {
    /// `CLONE_INTO_CGROUP` of `linux/sched.h`.
    const INTO_CGROUP: u64 = 0x2_0000_0000;
    let cgroup = cgroup.as_fd().as_raw_fd() as u64;
    clone3(CloneArgs { flags: flags | INTO_CGROUP, cgroup, ..CloneArgs::default() })
}

fn clone3(mut args: CloneArgs) -> Result<Fork> {
    if thread_count() > 1 {
        return Err(Errno::EBUSY);
    }
    // With CLONE_PARENT the signal is inherited, and naming one is refused.
    let inherited = args.flags & clone_flags::PARENT != 0;
    args.exit_signal = if inherited { 0 } else { libc::SIGCHLD as u64 };
    // SAFETY: `args` has the layout and size that are passed; without CLONE_VM and without a stack
    // the child goes on on a copy of this memory, as after fork; there is one thread, so no lock
    // can be held by a thread that the child lacks.
    let r = unsafe { libc::syscall(libc::SYS_clone3, &mut args, size_of::<CloneArgs>()) };
    match Errno::result(r)? {
        0 => Ok(Fork::Child),
        pid => Ok(Fork::Parent(pid as i32)),
    }
}

/// Returns a descriptor of the process `pid` (`pidfd_open(2)`), close-on-exec.
///
/// # Preconditions
/// `pid` is a child of the caller that was not waited for, else the number may be another's.
pub fn pidfd_open(pid: i32) -> Result<OwnedFd> {
    // SAFETY: pidfd_open takes no pointer.
    let fd = Errno::result(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) })?;
    // SAFETY: the call succeeded, so this is a new descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// Sends a signal to the process behind a pidfd (`pidfd_send_signal(2)`).
///
/// # Errors
/// `ESRCH`: it has ended and was waited for.
pub fn pidfd_send_signal(pidfd: impl AsFd, signal: i32) -> Result<()> {
    let none = std::ptr::null::<libc::c_void>();
    // SAFETY: a null `siginfo` asks for the one that kill(2) sends.
    let r = unsafe {
        libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_fd().as_raw_fd(), signal, none, 0)
    };
    Errno::result(r).map(drop)
}

/// Marks every descriptor from `first` on close-on-exec (`close_range(2)`, Linux 5.11).
pub fn close_range_on_exec(first: u32) -> Result<()> {
    // SAFETY: the call only sets flags; no descriptor is closed under its owner.
    let r =
        unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) };
    Errno::result(r).map(drop)
}

/// Lets a descriptor survive `execve(2)`: clears its close-on-exec flag.
pub fn keep_on_exec(fd: impl AsFd) -> Result<()> {
    // SAFETY: F_SETFD takes no pointer.
    Errno::result(unsafe { libc::fcntl(fd.as_fd().as_raw_fd(), libc::F_SETFD, 0) }).map(drop)
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

/// Lets the number of the descriptor `at` stand for what `with` stands for (`dup3(2)`); what it stood for
/// is closed. The owner of `at` owns the new one.
pub fn replace_fd(with: impl AsFd, at: impl AsFd) -> Result<()> {
    let (with, at) = (with.as_fd().as_raw_fd(), at.as_fd().as_raw_fd());
    // SAFETY: dup3 takes no pointer. Both numbers are open while they are borrowed, and `at` stays
    // open under its owner, which closes it as before.
    Errno::result(unsafe { libc::dup3(with, at, libc::O_CLOEXEC) }).map(drop)
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

/// Whether the process is in the user namespace of the machine itself, where capabilities count most:
/// its map is the identity of all numbers (user_namespaces(7)).
pub fn is_in_first_user_namespace() -> bool {
    std::fs::read_to_string("/proc/thread-self/uid_map").is_ok_and(|map| {
        let mut words = map.split_whitespace();
        words.by_ref().take(3).eq(["0", "0", "4294967295"]) && words.next().is_none()
    })
}

fn effective_capabilities() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/thread-self/status").ok()?;
    let line = status.lines().find_map(|l| l.strip_prefix("CapEff:"))?;
    u64::from_str_radix(line.trim(), 16).ok()
}

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

/// Ignores a signal where it isn't blocked and waited for.
pub fn ignore_signal(signal: nix::sys::signal::Signal) -> Result<()> {
    use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, sigaction};
    let ignore = SigAction::new(SigHandler::SigIgn, SaFlags::empty(), SigSet::empty());
    // SAFETY: to ignore a signal runs no code of ours.
    unsafe { sigaction(signal, &ignore) }.map(drop)
}

/// Takes a signal that is blocked (`sigtimedwait(2)`), for which it waits so long, or `None`: until one
/// comes. Returns `None` where none came, or one that isn't in `set` was handled.
///
/// # Errors
/// `EINVAL`: it is a signal without a name, as those for real time are.
pub fn wait_for_signal(
    set: &nix::sys::signal::SigSet,
    patience: Option<std::time::Duration>,
) -> Result<Option<nix::sys::signal::Signal>> {
    let most = patience.map(nix::sys::time::TimeSpec::from_duration);
    let most = most.as_ref().map_or(std::ptr::null(), |t| std::ptr::from_ref(t.as_ref()));
    // SAFETY: both pointers lead to values that live during the call; a null one asks for no details.
    let r = unsafe { libc::sigtimedwait(set.as_ref(), std::ptr::null_mut(), most) };
    match Errno::result(r) {
        Ok(number) => nix::sys::signal::Signal::try_from(number).map(Some),
        Err(Errno::EAGAIN | Errno::EINTR) => Ok(None),
        Err(e) => Err(e),
    }
}

/// Forgets the signals that wait to be unblocked.
pub fn discard_pending_signals() -> Result<()> {
    use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
    let ignore = SigAction::new(SigHandler::SigIgn, SaFlags::empty(), SigSet::empty());
    for signal in Signal::iterator() {
        if signal == Signal::SIGKILL || signal == Signal::SIGSTOP || signal == Signal::SIGCHLD {
            continue;
        }
        // SAFETY: to ignore a signal runs no code of ours.
        unsafe { sigaction(signal, &ignore) }?;
    }
    Ok(())
}

/// Gives every signal that a handler or "ignore" was set for its default action again, and unblocks
/// all: what a program expects to start with. The Rust runtime ignores SIGPIPE, and `execve(2)`
/// keeps that.
pub fn reset_signals() -> Result<()> {
    use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
    let default = SigAction::new(SigHandler::SigDfl, SaFlags::empty(), SigSet::empty());
    for signal in Signal::iterator() {
        if signal == Signal::SIGKILL || signal == Signal::SIGSTOP {
            continue;
        }
        // SAFETY: the default action runs no code of ours.
        unsafe { sigaction(signal, &default) }?;
    }
    SigSet::empty().thread_set_mask()
}
