//! Starts `unionfs` and `procfs-shim`, which are linked in: a daemon is a fork of the builder that goes on
//! as the daemon. It shares the program and what was relocated of it with all that were forked, and
//! `execve(2)`, which takes longer than all that a daemon does until it serves, isn't needed.

use std::ffi::{CStr, OsString};
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStringExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::prctl;
use nix::sys::signal::Signal;
use nix::unistd::{chdir, close, dup2_stdin, dup2_stdout, getppid, pipe2, setsid};
use sys::process::{Fork, clone_flags};

use crate::error::{Context, Error, Exit, Result, say};

/// A daemon that was started, as a child of the supervisor.
#[derive(Debug)]
pub(crate) struct Daemon {
    /// Its name.
    pub(crate) name: &'static str,
    /// Its pid.
    pub(crate) pid: i32,
}

/// What a daemon does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Program {
    /// Serves the merged root.
    Unionfs,
    /// Serves the container's own figures.
    Shim,
}

impl Program {
    /// Returns the name that people see.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Program::Unionfs => "unionfs",
            Program::Shim => super::shim::NAME,
        }
    }

    fn process_name(self) -> &'static CStr {
        match self {
            Program::Unionfs => c"unionfs",
            Program::Shim => c"procfs-shim",
        }
    }

    fn run(self, args: Vec<OsString>) -> ExitCode {
        let args = std::iter::once(self.name().into()).chain(args);
        match self {
            Program::Unionfs => unionfs::run(args),
            Program::Shim => procfs_shim::run(args),
        }
    }
}

/// A daemon that waits for one more argument before it begins.
#[derive(Debug)]
pub(crate) struct Waiting {
    gate: OwnedFd,
}

impl Waiting {
    /// Lets it begin; the argument goes before all others.
    pub(crate) fn go(self, argument: &str) -> Result<()> {
        File::from(self.gate).write_all(argument.as_bytes()).step("start a daemon")
    }
}

/// Starts a daemon that serves `device`.
pub(crate) fn start(
    program: Program,
    args: Vec<OsString>,
    device: &OwnedFd,
    supervisor: i32,
) -> Result<Daemon> {
    match fork(program)? {
        Fork::Parent(pid) => Ok(Daemon { name: program.name(), pid }),
        Fork::Child => become_daemon(program, || {
            prepare(program, supervisor, &[device.as_raw_fd()])?;
            Ok(args)
        }),
    }
}

/// Starts a daemon that can't begin yet. It has the namespaces that the caller has now.
pub(crate) fn start_waiting(
    program: Program,
    args: Vec<OsString>,
    device: &OwnedFd,
    supervisor: i32,
) -> Result<(Daemon, Waiting)> {
    let (read, write) = pipe2(OFlag::O_CLOEXEC).step("make a pipe")?;
    match fork(program)? {
        Fork::Parent(pid) => Ok((Daemon { name: program.name(), pid }, Waiting { gate: write })),
        Fork::Child => become_daemon(program, || {
            prepare(program, supervisor, &[device.as_raw_fd(), read.as_raw_fd()])?;
            let mut argument = Vec::new();
            File::from(read).read_to_end(&mut argument).step("wait for the container")?;
            if argument.is_empty() {
                // The start has failed elsewhere, which is told there.
                std::process::exit(0);
            }
            let mut all = vec![OsString::from_vec(argument)];
            all.extend(args);
            Ok(all)
        }),
    }
}

/// Forks a child of the supervisor, which outlives the caller.
fn fork(program: Program) -> Result<Fork> {
    sys::process::clone(clone_flags::PARENT).step_at("start", program.name())
}

fn become_daemon(program: Program, begin: impl FnOnce() -> Result<Vec<OsString>>) -> ! {
    let serve = || match begin() {
        Ok(args) => i32::from(program.run(args) != ExitCode::SUCCESS),
        Err(e) => {
            say(format_args!("{}: {e}", program.name()));
            Exit::Ours as i32
        }
    };
    // What the builder holds is the builder's to drop: nothing may unwind into it.
    let code = catch_unwind(AssertUnwindSafe(serve)).unwrap_or(Exit::Ours as i32);
    std::process::exit(code)
}

/// Makes a fork of the builder fit to be a daemon that has these descriptors, and the standard ones.
fn prepare(program: Program, supervisor: i32, keep: &[RawFd]) -> Result<()> {
    prctl::set_pdeathsig(Signal::SIGKILL).step("tie a daemon to the runner")?;
    // The supervisor may have ended before the line above.
    if getppid().as_raw() != supervisor {
        return Err(Error::new("start a daemon", "the runner has ended"));
    }
    // Signals of the terminal are for the program, not for what serves it.
    setsid().step("make a session")?;
    prctl::set_name(program.process_name()).step("name a daemon")?;
    // A signal that came before our session is blocked still, and would end us.
    sys::process::discard_pending_signals().step("reset signals")?;
    sys::process::reset_signals().step("reset signals")?;
    // As Rust's runtime has it: to write to a closed pipe is an error, and no end.
    sys::process::ignore_signal(Signal::SIGPIPE).step("reset signals")?;
    let null = File::options().read(true).write(true).open("/dev/null");
    let null = null.step_at("open", "/dev/null")?;
    dup2_stdin(&null).step("redirect standard input")?;
    dup2_stdout(&null).step("redirect standard output")?;
    drop(null);
    chdir("/").step_at("enter", "/")?;
    close_all_but(keep)
}

/// Closes what the builder has open: its sockets would stay open for as long as the daemon lives, and its
/// mounts. Their owners are in frames that this process never returns to.
fn close_all_but(keep: &[RawFd]) -> Result<()> {
    let list = "/proc/self/fd";
    let number = |e: std::io::Result<std::fs::DirEntry>| e.ok()?.file_name().to_str()?.parse().ok();
    let open: Vec<RawFd> =
        std::fs::read_dir(list).step_at("read directory", list)?.filter_map(number).collect();
    for fd in open.into_iter().filter(|fd| *fd > 2 && !keep.contains(fd)) {
        match close(fd) {
            // That of the list itself is closed already.
            Ok(()) | Err(Errno::EBADF) => {}
            Err(e) => return Err(Error::new("close a descriptor", e)),
        }
    }
    Ok(())
}

impl From<std::ffi::NulError> for crate::error::Cause {
    fn from(_: std::ffi::NulError) -> crate::error::Cause {
        crate::error::Cause::Words("a name has a NUL byte".to_owned())
    }
}
