//! ^C ends the run between two pieces of work: finished rounds are reported, nothing stays mounted.

use std::io;

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

/// Watches for signals that ask for an end.
#[derive(Debug)]
pub(crate) struct Stop(SignalFd);

impl Stop {
    /// Takes SIGINT and SIGTERM from now on. Programs that are started get them as usual.
    pub(crate) fn watch() -> io::Result<Stop> {
        let mut set = SigSet::empty();
        set.add(Signal::SIGINT);
        set.add(Signal::SIGTERM);
        set.thread_block()?;
        Ok(Stop(SignalFd::with_flags(&set, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?))
    }

    /// Whether an end was asked for since the last time.
    pub(crate) fn asked(&self) -> io::Result<bool> {
        Ok(self.0.read_signal()?.is_some())
    }
}
