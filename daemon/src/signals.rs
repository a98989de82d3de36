//! Signals as messages: blocked everywhere, taken by one thread. SIGTERM, SIGINT and SIGHUP end the
//! daemon, SIGUSR1 asks for statistics.

use std::time::Duration;

use nix::sys::signal::{SigSet, Signal};
use sys::process::wait_for_signal;

use crate::idle::Idle;

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

/// The signals of a supervisor, blocked in its one thread.
#[derive(Debug)]
pub struct Watch {
    all: SigSet,
    /// Those that are of no concern to a worker.
    own: SigSet,
}

/// What a supervisor has to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// Let the worker unmount and end.
    End,
    /// Let the worker print statistics.
    Statistics,
    /// Become the program that is installed now.
    Upgrade,
    /// Look after the worker.
    WorkerEnded,
}

impl Watch {
    /// Blocks a daemon's signals and those of a supervisor. SIGUSR2 does no harm from then on, in
    /// workers too; that it is ignored is how one can tell a supervisor.
    ///
    /// # Errors
    /// What `pthread_sigmask(3)` answers.
    pub fn block() -> nix::Result<Watch> {
        let mut all = Signals::block()?.0;
        let mut own = SigSet::empty();
        for s in [Signal::SIGCHLD, Signal::SIGUSR2] {
            all.add(s);
            own.add(s);
        }
        own.thread_block()?;
        sys::process::ignore_signal(Signal::SIGUSR2)?;
        Ok(Watch { all, own })
    }

    /// Unblocks what a worker doesn't take; its other signals stay blocked until it takes them.
    ///
    /// # Errors
    /// What `pthread_sigmask(3)` answers.
    pub fn release(&self) -> nix::Result<()> {
        self.own.thread_unblock()
    }

    /// Waits for so long, or until the daemon is asked to end, and returns whether it was. Other signals
    /// are left for [`Watch::wait`].
    ///
    /// # Errors
    /// What `sigtimedwait(2)` answers.
    pub fn is_asked_to_end(&self, within: Duration) -> nix::Result<bool> {
        let mut ends = self.all;
        [Signal::SIGCHLD, Signal::SIGUSR1, Signal::SIGUSR2].iter().for_each(|s| ends.remove(*s));
        wait_for_signal(&ends, Some(within)).map(|signal| signal.is_some())
    }

    /// Waits for the next signal.
    ///
    /// # Errors
    /// What `sigtimedwait(2)` answers.
    pub fn wait(&self, idle: &mut Idle) -> nix::Result<Event> {
        let signal = loop {
            match wait_for_signal(&self.all, idle.patience())? {
                Some(signal) => break signal,
                None => idle.begin(),
            }
        };
        Ok(match signal {
            Signal::SIGCHLD => Event::WorkerEnded,
            Signal::SIGUSR1 => Event::Statistics,
            Signal::SIGUSR2 => Event::Upgrade,
            _ => Event::End,
        })
    }
}

#[cfg(test)]
mod tests {
    use nix::sys::signal::raise;

    use super::*;

    #[test]
    fn who_is_asked_to_end_waits_no_longer_and_other_signals_are_kept() {
        // The mask is this thread's own, and `raise` reaches no other.
        let watch = Watch::block().unwrap();
        raise(Signal::SIGUSR1).unwrap();
        assert_eq!(watch.is_asked_to_end(Duration::ZERO), Ok(false));
        raise(Signal::SIGTERM).unwrap();
        assert_eq!(watch.is_asked_to_end(Duration::from_secs(3600)), Ok(true));
        assert_eq!(watch.is_asked_to_end(Duration::ZERO), Ok(false));
        assert_eq!(watch.wait(&mut Idle::default()), Ok(Event::Statistics));
    }
}
