//! Starts `unionfs` and `procfs-shim`, which are this very program under another name.

use std::convert::Infallible;
use std::ffi::{CString, OsStr, OsString};
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;

use nix::fcntl::OFlag;
use nix::sys::prctl;
use nix::sys::signal::Signal;
use nix::unistd::{chdir, dup2_stdin, dup2_stdout, execve, getppid, pipe2, setsid};
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
    name: &'static str,
    args: Vec<OsString>,
    device: &OwnedFd,
    supervisor: i32,
) -> Result<Daemon> {
    match fork(name)? {
        Fork::Parent(pid) => Ok(Daemon { name, pid }),
        Fork::Child => become_daemon(name, supervisor, || exec(name, args, device)),
    }
}

/// Starts a daemon that can't begin yet. It has the namespaces that the caller has now.
pub(crate) fn start_waiting(
    name: &'static str,
    args: Vec<OsString>,
    device: &OwnedFd,
    supervisor: i32,
) -> Result<(Daemon, Waiting)> {
    let (read, write) = pipe2(OFlag::O_CLOEXEC).step("make a pipe")?;
    match fork(name)? {
        Fork::Parent(pid) => Ok((Daemon { name, pid }, Waiting { gate: write })),
        Fork::Child => {
            drop(write);
            become_daemon(name, supervisor, || {
                let mut argument = Vec::new();
                File::from(read).read_to_end(&mut argument).step("wait for the container")?;
                if argument.is_empty() {
                    // The start has failed elsewhere, which is told there.
                    std::process::exit(0);
                }
                let mut all = vec![OsStr::from_bytes(&argument).to_owned()];
                all.extend(args);
                exec(name, all, device)
            })
        }
    }
}

/// Forks a child of the supervisor, which outlives the caller.
fn fork(name: &str) -> Result<Fork> {
    sys::process::clone(clone_flags::PARENT).step_at("start", name)
}

fn become_daemon(name: &str, supervisor: i32, begin: impl FnOnce() -> Result<Infallible>) -> ! {
    let error = match detach(supervisor).and_then(|()| begin()) {
        Ok(never) => match never {},
        Err(e) => e,
    };
    say(format_args!("{name}: {error}"));
    std::process::exit(Exit::Ours as i32)
}

/// Ties a daemon to the supervisor, and unties it from the terminal.
fn detach(supervisor: i32) -> Result<()> {
    prctl::set_pdeathsig(Signal::SIGKILL).step("tie a daemon to the runner")?;
    // The supervisor may have ended before the line above.
    if getppid().as_raw() != supervisor {
        return Err(Error::new("start a daemon", "the runner has ended"));
    }
    // Signals of the terminal are for the program, not for what serves it.
    setsid().step("make a session").map(drop)
}

fn exec(name: &str, args: Vec<OsString>, device: &OwnedFd) -> Result<Infallible> {
    // A signal that came before our session is blocked still, and would end us.
    sys::process::discard_pending_signals().step("reset signals")?;
    sys::process::reset_signals().step("reset signals")?;
    let null = File::options().read(true).write(true).open("/dev/null");
    let null = null.step_at("open", "/dev/null")?;
    dup2_stdin(&null).step("redirect standard input")?;
    dup2_stdout(&null).step("redirect standard output")?;
    chdir("/").step_at("enter", "/")?;
    sys::process::keep_on_exec(device).step("hand over /dev/fuse")?;
    let c = |s: &OsStr| CString::new(s.as_bytes()).step("start a daemon");
    let mut argv = vec![c(OsStr::new(name))?];
    for arg in &args {
        argv.push(c(arg)?);
    }
    execve(c"/proc/self/exe", &argv, &[c"PATH=/usr/sbin:/usr/bin:/sbin:/bin"])
        .step_at("start", name)
}

impl From<std::ffi::NulError> for crate::error::Cause {
    fn from(_: std::ffi::NulError) -> crate::error::Cause {
        crate::error::Cause::Words("a name has a NUL byte".to_owned())
    }
}
