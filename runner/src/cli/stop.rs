//! `runner stop`, `runner kill`, `runner wait`, `runner pause`, `runner unpause`.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use clap::Args;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::cgroup::freezer;
use crate::cli::{each, print, values};
use crate::error::{Context, Error, Result};
use crate::launch::wait_for_end;
use crate::store::{self, Entry, ProcessId, Status, Store};

const KILL: i32 = 9;

/// Ask the programs of containers to end, and kill those that don't.
#[derive(Debug, Args)]
pub(crate) struct StopArgs {
    /// Seconds to wait before killing [default: as asked for at creation]
    #[arg(short, long, value_name = "SECONDS")]
    time: Option<u32>,
    /// All that run
    #[arg(short, long)]
    all: bool,
    /// Don't fail for a container that isn't there
    #[arg(short, long)]
    ignore: bool,
    /// Containers
    #[arg(required_unless_present = "all", value_name = "CONTAINER")]
    containers: Vec<String>,
}

/// Send a signal to the programs of containers.
#[derive(Debug, Args)]
pub(crate) struct KillArgs {
    /// The signal
    #[arg(short, long, value_name = "SIGNAL", default_value = "KILL", value_parser = values::signal)]
    signal: i32,
    /// All that run
    #[arg(short, long)]
    all: bool,
    /// Containers
    #[arg(required_unless_present = "all", value_name = "CONTAINER")]
    containers: Vec<String>,
}

/// Wait until containers have ended, and print their exit codes.
#[derive(Debug, Args)]
pub(crate) struct WaitArgs {
    /// Containers
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
}

/// Stop all processes of containers for a while, or let them go on.
#[derive(Debug, Args)]
pub(crate) struct PauseArgs {
    /// All that run
    #[arg(short, long)]
    all: bool,
    /// Containers
    #[arg(required_unless_present = "all", value_name = "CONTAINER")]
    containers: Vec<String>,
}

/// Returns the names that were given, or the ids of all that run.
fn chosen(names: Vec<String>, all: bool, store: &Store) -> Result<Vec<String>> {
    if !all {
        return Ok(names);
    }
    let running = store::all(store)?.into_iter().filter(|e| e.status() == Status::Running);
    Ok(running.map(|e| e.id).collect())
}

/// Stops containers.
pub(super) fn stop(args: StopArgs, state: Option<&Path>) -> Result<u8> {
    let store = Store::choose(state)?;
    let names = chosen(args.containers, args.all, &store)?;
    each(&names, |name| {
        match store::find(&store, name) {
            Ok(entry) => stop_one(&entry, args.time)?,
            Err(_) if args.ignore => return Ok(()),
            Err(e) => return Err(e),
        }
        print(&format!("{name}\n"))
    })
}

/// Asks a container's program to end, kills it if it doesn't in time, and waits until all is cleared.
pub(super) fn stop_one(entry: &Entry, time: Option<u32>) -> Result<()> {
    if entry.status() != Status::Running {
        return wait_until_cleared(entry);
    }
    let Some(first) = entry.state.first.and_then(handle) else { return wait_until_cleared(entry) };
    let stop = entry.record.request.stop;
    send(&first, stop.signal)?;
    // Who is frozen can't hear.
    if freezer::is_paused(&entry.state.cgroups) {
        freezer::thaw(&entry.state.cgroups)?;
    }
    let seconds = u64::from(time.unwrap_or(stop.timeout));
    if !ends_within(&first, seconds.saturating_mul(1000)) {
        send(&first, KILL)?;
    }
    wait_until_cleared(entry)
}

/// Waits until a container's supervisor has ended, which is when all is written down and cleared.
fn wait_until_cleared(entry: &Entry) -> Result<()> {
    if let Some(supervisor) = entry.state.supervisor.filter(|_| entry.status() != Status::Created)
        && let Some(handle) = handle(supervisor)
    {
        ends_within(&handle, u64::MAX);
    }
    Ok(())
}

/// Returns a handle of a process that lives, which can't become another's.
fn handle(process: ProcessId) -> Option<OwnedFd> {
    let fd = sys::process::pidfd_open(process.pid).ok()?;
    process.is_alive().then_some(fd)
}

fn send(process: &OwnedFd, signal: i32) -> Result<()> {
    match sys::process::pidfd_send_signal(process, signal) {
        // It has just ended.
        Ok(()) | Err(Errno::ESRCH) => Ok(()),
        Err(e) => Err(e).step("send a signal"),
    }
}

/// Waits for a process to end, so many milliseconds at most.
fn ends_within(process: &OwnedFd, milliseconds: u64) -> bool {
    let timeout = i32::try_from(milliseconds).ok().and_then(|ms| PollTimeout::try_from(ms).ok());
    loop {
        let mut fds = [PollFd::new(process.as_fd(), PollFlags::POLLIN)];
        match poll(&mut fds, timeout.unwrap_or(PollTimeout::NONE)) {
            Err(Errno::EINTR) => {}
            r => return matches!(r, Ok(1..)),
        }
    }
}

/// Sends a signal.
pub(super) fn kill(args: KillArgs, state: Option<&Path>) -> Result<u8> {
    let store = Store::choose(state)?;
    let names = chosen(args.containers, args.all, &store)?;
    each(&names, |name| {
        let entry = running(&store, name)?;
        if let Some(first) = entry.state.first.and_then(handle) {
            send(&first, args.signal)?;
            if args.signal == KILL {
                wait_until_cleared(&entry)?;
            }
        }
        print(&format!("{name}\n"))
    })
}

/// Finds a container that must be running.
pub(super) fn running(store: &Store, name: &str) -> Result<Entry> {
    let entry = store::find(store, name)?;
    match entry.status() {
        Status::Running => Ok(entry),
        _ => Err(Error::new(format!("container {name}"), "it isn't running")
            .hint(format!("start it by `runner start {name}`"))),
    }
}

/// Waits for containers.
pub(super) fn wait(args: WaitArgs, state: Option<&Path>) -> Result<u8> {
    let store = Store::choose(state)?;
    each(&args.containers, |name| {
        let mut entry = store::find(&store, name)?;
        let code = match entry.status() {
            Status::Created => 0,
            Status::Exited => entry.code(),
            Status::Running | Status::Busy => match wait_for_end(&entry.dir) {
                Some(code) => i32::from(code),
                None => {
                    wait_until_cleared(&entry)?;
                    entry.refresh();
                    entry.code()
                }
            },
        };
        print(&format!("{code}\n"))
    })
}

/// Pauses containers.
pub(super) fn pause(args: PauseArgs, state: Option<&Path>) -> Result<u8> {
    let store = Store::choose(state)?;
    let names = chosen(args.containers, args.all, &store)?;
    each(&names, |name| {
        let entry = running(&store, name)?;
        if freezer::is_paused(&entry.state.cgroups) {
            return Err(Error::new(format!("pause {name}"), "it is paused already"));
        }
        freezer::pause(&entry.state.cgroups)?;
        print(&format!("{name}\n"))
    })
}

/// Lets containers go on.
pub(super) fn unpause(args: PauseArgs, state: Option<&Path>) -> Result<u8> {
    let store = Store::choose(state)?;
    let mut names = chosen(args.containers, args.all, &store)?;
    if args.all {
        let paused = |id: &String| {
            store::find(&store, id).is_ok_and(|e| freezer::is_paused(&e.state.cgroups))
        };
        names.retain(paused);
    }
    each(&names, |name| {
        let entry = running(&store, name)?;
        if !freezer::is_paused(&entry.state.cgroups) {
            return Err(Error::new(format!("unpause {name}"), "it isn't paused"));
        }
        freezer::thaw(&entry.state.cgroups)?;
        print(&format!("{name}\n"))
    })
}
