//! Signals as messages: blocked everywhere, taken by one thread. SIGTERM, SIGINT and SIGHUP end the
//! daemon, SIGUSR1 asks for statistics.

use nix::sys::signal::{SigSet, Signal};

/// The signals of a daemon, blocked in the calling thread and in each that it starts.
#[derive(Debug)]
pub struct Signals(SigSet);

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// Unmount and end.
    End,
    /// Print statistics.
    Statistics,
}

impl Signals {
    /// Blocks the daemon's signals. Call before the first thread is started.
    ///
    /// # Errors
    /// What `pthread_sigmask(3)` answers.
    pub fn block() -> nix::Result<Signals> {
        let mut set = SigSet::empty();
        for s in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGUSR1] {
            set.add(s);
        }
        set.thread_block()?;
        Ok(Signals(set))
    }

    /// Waits for the next signal.
    ///
    /// # Errors
    /// What `sigwait(3)` answers.
    pub fn wait(&self) -> nix::Result<Request> {
        Ok(match self.0.wait()? {
            Signal::SIGUSR1 => Request::Statistics,
            _ => Request::End,
        })
    }
}
