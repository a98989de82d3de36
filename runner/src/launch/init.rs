//! Pid 1 of the container: starts the program, reaps what is left to it, forwards signals, and ends
//! with the program's status.

use daemon::idle;
use nix::errno::Errno;
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use sys::process::{Fork, wait_for_signal};

use crate::error::{Context, Error, Result, best_effort};
use crate::launch::child::signal_code;
use crate::launch::exec::{self, Streams};
use crate::launch::rights;
use crate::launch::sync::{Channel, ToSupervisor};
use crate::spec::{Spec, Terminal};

/// Starts the program and returns the code to end with.
pub(super) fn run(channel: &mut Channel, spec: &Spec, streams: Streams) -> Result<i32> {
    let all = SigSet::all();
    all.thread_block().step("block signals")?;
    let null = exec::open_null()?;
    let program = match sys::process::fork().map_err(|e| {
        let limit = "the container may not have one more process: raise --pids-limit";
        Error::new("start the program", e).hint_if(Errno::EAGAIN, limit)
    })? {
        Fork::Child => become_program(channel, spec, streams),
        Fork::Parent(pid) => Pid::from_raw(pid),
    };
    drop(streams);
    // From here on the program alone holds the socket: its end says that the program was started.
    channel.close();
    exec::close_streams(&null)?;
    drop(null);
    rights::limit(&spec.process.rights).step("drop capabilities")?;
    Ok(watch(program, &all, spec.process.terminal))
}

fn become_program(channel: &mut Channel, spec: &Spec, streams: Streams) -> ! {
    let failed =
        match exec::run(channel, &spec.process, &spec.identity, streams, &mut exec::at_once) {
            Ok(never) => match never {},
            Err(e) => e,
        };
    let code = failed.exit() as i32;
    match channel.send(&ToSupervisor::Failed(failed)) {
        Ok(()) | Err(_) => std::process::exit(code),
    }
}

/// Waits for the program. Pid 1 gets only the signals that it waits for, and the kernel kills
/// everybody else in the pid namespace when it ends.
fn watch(program: Pid, signals: &SigSet, terminal: Terminal) -> i32 {
    // Once: what it does later hardly needs memory.
    let mut patience = Some(idle::AFTER);
    loop {
        match wait_for_signal(signals, patience) {
            Ok(None) if patience.take().is_some() => {
                // What /proc says here is the container's to decide.
                best_effort("give memory back", sys::memory::give_back_at_once());
            }
            Ok(Some(Signal::SIGCHLD)) => {
                if let Some(code) = reap(program) {
                    return code;
                }
            }
            // With a terminal of its own, the program hears of these from the terminal.
            Ok(Some(Signal::SIGWINCH)) if terminal == Terminal::New => {}
            Ok(Some(signal)) => forward(program, signal),
            Ok(None) | Err(_) => {}
        }
    }
}

/// Takes the status of all that have ended; returns the code if the program is among them.
fn reap(program: Pid) -> Option<i32> {
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Exited(pid, code)) if pid == program => return Some(code),
            Ok(WaitStatus::Signaled(pid, signal, _)) if pid == program => {
                return Some(signal_code(signal as i32));
            }
            Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD) => return None,
            Ok(_) | Err(_) => {}
        }
    }
}

fn forward(program: Pid, signal: Signal) {
    match kill(program, signal) {
        // It has just ended: its status is on the way.
        Ok(()) | Err(_) => {}
    }
}
