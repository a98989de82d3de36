//! Keeps the thread that waits for messages on the processor of the client.
//!
//! A client that waits for each answer and a daemon on another processor wake each other across
//! processors for each message, which costs many times what a switch on one does (on a virtual machine
//! 75 to 95 µs against 12 to 15). The kernel's scheduler prefers the idle processor all the same.

use std::fs;

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

/// Looks after which a client that stays where it is, is looked at less often.
const STEADY: u32 = 8;

/// A thread that waits for messages, and the process of the last one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Hot {
    /// The thread.
    pub(crate) thread: Pid,
    /// The client, 0 where it can't be seen.
    pub(crate) client: u32,
}

/// Follows one client at a time.
#[derive(Debug, Default)]
pub(crate) struct Follower {
    /// Where the client was at the last look.
    seen: Option<usize>,
    /// Looks since it was somewhere else.
    steady: u32,
    /// The thread that is bound, to which processor, and which it may use else.
    bound: Option<(Pid, usize, CpuSet)>,
}

impl Follower {
    /// Looks at the client of a thread, and binds the thread to the processor on which the client was
    /// twice.
    pub(crate) fn follow(&mut self, hot: Hot) {
        if self.bound.as_ref().is_some_and(|(thread, ..)| *thread != hot.thread) {
            self.release();
        }
        self.steady += 1;
        if self.bound.is_some() && !self.steady.is_multiple_of(STEADY) {
            return;
        }
        let at = processor_of(hot.client);
        if at != self.seen {
            (self.seen, self.steady) = (at, 0);
            return;
        }
        let Some(at) = at else { return self.release() };
        if self.bound.as_ref().is_none_or(|(_, cpu, _)| *cpu != at) {
            self.release();
            self.bind(hot.thread, at);
        }
    }

    /// Lets the thread go where it may.
    pub(crate) fn release(&mut self) {
        if let Some((thread, _, before)) = self.bound.take() {
            set(thread, &before);
        }
        self.steady = 0;
    }

    fn bind(&mut self, thread: Pid, cpu: usize) {
        let Ok(before) = sched_getaffinity(thread) else { return };
        let mut only = CpuSet::new();
        if before.is_set(cpu) == Ok(true) && only.set(cpu).is_ok() && set(thread, &only) {
            self.bound = Some((thread, cpu, before));
        }
    }
}

fn set(thread: Pid, cpus: &CpuSet) -> bool {
    sched_setaffinity(thread, cpus)
        .inspect_err(|e| log::debug!("processors of thread {thread}: {}", e.desc()))
        .is_ok()
}

/// Returns the processor on which a thread ran last (field 39 of proc_pid_stat(5)).
fn processor_of(thread: u32) -> Option<usize> {
    let stat = fs::read_to_string(format!("/proc/{thread}/stat")).ok()?;
    // The third field is the first after the name, which ends with the last parenthesis.
    stat.rsplit(')').next()?.split_whitespace().nth(39 - 3)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own() -> Hot {
        Hot { thread: nix::unistd::gettid(), client: nix::unistd::gettid().as_raw() as u32 }
    }

    fn processors() -> Vec<usize> {
        let set = sched_getaffinity(nix::unistd::gettid()).unwrap();
        (0..CpuSet::count()).filter(|cpu| set.is_set(*cpu) == Ok(true)).collect()
    }

    #[test]
    fn a_thread_is_bound_where_its_client_is_and_let_go() {
        // On a thread of its own, as the binding is undone only at the end.
        let test = || {
            let all = processors();
            let mut follower = Follower::default();
            for _ in 0..1000 {
                follower.follow(own());
                if follower.bound.is_some() {
                    break;
                }
            }
            assert_eq!(processors().len(), 1);
            follower.release();
            assert_eq!(processors(), all);
        };
        std::thread::spawn(test).join().unwrap();
    }

    #[test]
    fn a_client_that_is_not_visible_is_not_followed() {
        let mut follower = Follower::default();
        let hidden = Hot { client: 0, ..own() };
        (0..3).for_each(|_| follower.follow(hidden));
        assert!(follower.bound.is_none());
    }
}
