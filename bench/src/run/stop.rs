//! ^C ends the run: the present turn is broken off, finished rounds are reported, nothing stays.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

/// Watches for signals that ask for an end.
#[derive(Debug)]
pub(crate) struct Stop {
    signals: SignalFd,
    asked: bool,
}

impl Stop {
    /// Takes SIGINT and SIGTERM from now on. Programs that are started get them as usual.
    ///
    /// # Preconditions
    /// The process has one thread: later ones inherit the mask.
    pub(crate) fn watch() -> io::Result<Stop> {
        let mut set = SigSet::empty();
        for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
            set.add(signal);
        }
        set.thread_block()?;
        let flags = SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC;
        Ok(Stop { signals: SignalFd::with_flags(&set, flags)?, asked: false })
    }

    /// Whether an end was asked for.
    pub(crate) fn asked(&mut self) -> io::Result<bool> {
        self.asked |= self.signals.read_signal()?.is_some();
        Ok(self.asked)
    }
}

impl AsFd for Stop {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.signals.as_fd()
    }
}
