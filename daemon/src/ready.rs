//! Detaches the daemon, and tells whoever waits that the mount is live.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{OwnedFd, RawFd};
use std::process::ExitCode;

use nix::errno::Errno;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;
use sys::process::Fork;

/// How the mount is announced.
#[derive(Debug)]
pub enum Ready {
    /// Nobody waits (`-f`).
    Foreground,
    /// A byte on this pipe; the parent of [`detach`] waits for it.
    Detached(OwnedFd),
    /// A byte on an inherited descriptor.
    Descriptor(OwnedFd),
}

/// Result of [`detach`]: which process one is.
#[derive(Debug)]
pub enum Detached {
    /// The process that was started; it should end with this code, which is the daemon's verdict.
    Parent(ExitCode),
    /// The daemon, in a session of its own.
    Daemon(Ready),
}

impl Ready {
    /// Makes the announcement go to an inherited descriptor.
    ///
    /// # Errors
    /// `EBADF`, `EINVAL`: it is not open, or a standard stream.
    pub fn descriptor(fd: RawFd) -> Result<Ready, Errno> {
        sys::process::inherited_fd(fd).map(Ready::Descriptor)
    }

    /// Says that the mount is live. A detached daemon leaves its caller's terminal and directory.
    ///
    /// # Errors
    /// The waiting process is gone, or /dev/null can't be opened.
    pub fn announce(self) -> io::Result<()> {
        match self {
            Ready::Foreground => Ok(()),
            Ready::Descriptor(fd) => File::from(fd).write_all(&[0]),
            Ready::Detached(fd) => {
                std::env::set_current_dir("/")?;
                let null = File::options().read(true).write(true).open("/dev/null")?;
                nix::unistd::dup2_stdin(&null)?;
                nix::unistd::dup2_stdout(&null)?;
                nix::unistd::dup2_stderr(&null)?;
                File::from(fd).write_all(&[0])
            }
        }
    }
}

/// Forks: the parent waits until the daemon is ready or has failed (having said why on standard
/// error), the daemon goes on in a session of its own.
///
/// # Preconditions
/// The process has one thread.
///
/// # Errors
/// A pipe or a process can't be made.
pub fn detach() -> Result<Detached, Errno> {
    let (read, write) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC)?;
    match sys::process::fork()? {
        Fork::Child => {
            drop(read);
            nix::unistd::setsid()?;
            Ok(Detached::Daemon(Ready::Detached(write)))
        }
        Fork::Parent(pid) => {
            drop(write);
            let mut byte = [0u8; 1];
            if matches!(File::from(read).read(&mut byte), Ok(1)) {
                return Ok(Detached::Parent(ExitCode::SUCCESS));
            }
            // It failed; by the time it has ended it has said why.
            let code = match waitpid(Pid::from_raw(pid), None)? {
                WaitStatus::Exited(_, code) => code as u8,
                _ => 1,
            };
            Ok(Detached::Parent(ExitCode::from(code)))
        }
    }
}
