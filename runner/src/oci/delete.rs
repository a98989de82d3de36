//! `delete`: what is left of a container is removed.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;

use crate::cgroup::{freezer, place};
use crate::error::{Context, Error, Result};
use crate::launch::hooks;
use crate::oci::options::DeleteArgs;
use crate::oci::state::{Locked, Record, Status, is_known, open_first};
use crate::oci::{Log, kill};

/// Milliseconds within which a killed process is gone.
const PATIENCE_MS: u16 = 10_000;

/// Removes a container.
pub(super) fn delete(args: &DeleteArgs, root: &Path, log: &Log) -> Result<u8> {
    if args.force && !is_known(root, &args.id)? && remove_rest(root, &args.id)? {
        return Ok(0);
    }
    let (locked, record) = Locked::find(root, &args.id)?;
    match locked.status(&record) {
        Status::Stopped => {}
        // As runc has it, whose callers rely on it: a program that never began is given up.
        Status::Created | Status::Creating => {}
        status if !args.force => {
            let what = format!("it can't be deleted, as it is {}", status.word());
            return Err(Error::new(format!("container {}", args.id), what)
                .hint("stop it first, or give --force"));
        }
        _ => {}
    }
    end_first(&record)?;
    if !record.is_built {
        locked.wait_for_builders(PATIENCE_MS)?;
    }
    end_others(&record)?;
    remove(locked, &record, log).map(|()| 0)
}

/// Removes what an interrupted `create` left before it wrote anything down; `false`: one that still ran
/// has written it meanwhile.
fn remove_rest(root: &Path, id: &str) -> Result<bool> {
    let Some(locked) = Locked::unread(root, id)? else { return Ok(true) };
    if is_known(root, id)? {
        return Ok(false);
    }
    locked.remove().map(|()| true)
}

/// Kills all processes of a container that was built, and waits until they are gone.
pub(super) fn end(record: &Record) -> Result<()> {
    end_first(record)?;
    end_others(record)
}

fn end_first(record: &Record) -> Result<()> {
    if let Some(first) = open_first(record) {
        match sys::process::pidfd_send_signal(&first, Signal::SIGKILL as i32) {
            Ok(()) | Err(_) => {}
        }
        if freezer::is_paused(&record.cgroups) {
            // A frozen process dies when it goes on.
            freezer::thaw(&record.cgroups)?;
        }
        wait(&first)?;
    }
    Ok(())
}

fn end_others(record: &Record) -> Result<()> {
    // With a pid namespace of its own all have ended; a process that `exec` just put here hasn't.
    for _ in 0..200 {
        if place::processes(&record.cgroups).is_empty() {
            return Ok(());
        }
        kill::all(record, Signal::SIGKILL as i32)?;
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    Err(Error::new(format!("container {}", record.id), "its processes did not end in time"))
}

fn wait(first: &OwnedFd) -> Result<()> {
    let mut fds = [PollFd::new(first.as_fd(), PollFlags::POLLIN)];
    match poll(&mut fds, PollTimeout::from(PATIENCE_MS)).step("wait for the container")? {
        0 => Err(Error::new("wait for the container", "its first process did not end in time")),
        _ => Ok(()),
    }
}

/// Removes cgroups, runs the hooks for the end, and removes the state.
pub(super) fn remove(locked: Locked, record: &Record, log: &Log) -> Result<()> {
    place::remove(&record.cgroups, &record.above)?;
    poststop(record, log);
    locked.remove()
}

/// Runs the hooks for the end; what fails is told, and changes nothing.
pub(super) fn poststop(record: &Record, log: &Log) {
    let state = hooks::state(&record.told, "stopped", None);
    for hook in &record.poststop {
        let one = std::slice::from_ref(hook);
        if let Err(e) = hooks::run("poststop", one, &state, record.bundle.as_os_str()) {
            log.warn(&e.to_string());
        }
    }
}
