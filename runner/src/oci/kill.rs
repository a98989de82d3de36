//! `kill`, `pause` and `resume`.

use std::path::Path;
use std::str::FromStr;

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill as send};
use nix::unistd::Pid;

use crate::cgroup::{freezer, place};
use crate::error::{Error, Result};
use crate::oci::options::{IdArgs, KillArgs};
use crate::oci::state::{Locked, Record, Status, open_first};

/// The highest number of a signal (signal(7)).
const LAST_SIGNAL: i32 = 64;

/// Sends a signal.
pub(super) fn kill(args: &KillArgs, root: &Path) -> Result<u8> {
    let number = number(&args.signal)?;
    let (locked, record) = Locked::find(root, &args.id)?;
    let status = locked.status(&record);
    if args.all && (status != Status::Stopped || !record.has_pids) {
        return all(&record, number).map(|()| 0);
    }
    let stopped = || {
        let what = "it can't get a signal: its process is not running (stopped)";
        Error::new(format!("container {}", args.id), what)
    };
    if status == Status::Stopped {
        // What tools want is done already.
        return if args.all { Ok(0) } else { Err(stopped()) };
    }
    let first = open_first(&record).ok_or_else(stopped)?;
    match sys::process::pidfd_send_signal(&first, number) {
        Ok(()) => {}
        Err(Errno::ESRCH) => return Err(stopped()),
        Err(e) => return Err(Error::new("send a signal", e)),
    }
    if status == Status::Paused && number == Signal::SIGKILL as i32 {
        // A frozen process dies when it goes on.
        freezer::thaw(&record.cgroups)?;
    }
    Ok(0)
}

/// Returns the number of a signal that is named, with or without `SIG`, or given.
fn number(text: &str) -> Result<i32> {
    let unknown = || Error::new("signal", format!("`{text}` is none: see signal(7)"));
    if let Ok(number) = text.parse::<i32>() {
        return if (1..=LAST_SIGNAL).contains(&number) { Ok(number) } else { Err(unknown()) };
    }
    let name = text.to_ascii_uppercase();
    let name = name.strip_prefix("SIG").unwrap_or(&name);
    // The real-time ones have no names of their own: RTMIN+1, RTMAX-2.
    for (start, base) in [("RTMIN", 34), ("RTMAX", LAST_SIGNAL)] {
        if let Some(rest) = name.strip_prefix(start) {
            let offset = if rest.is_empty() { Some(0) } else { rest.parse::<i32>().ok() };
            let number = offset.map(|n| base + n).filter(|n| (34..=LAST_SIGNAL).contains(n));
            return number.ok_or_else(unknown);
        }
    }
    Signal::from_str(&format!("SIG{name}")).map(|s| s as i32).map_err(|_| unknown())
}

/// Sends a signal to all processes of a container.
pub(super) fn all(record: &Record, signal: i32) -> Result<()> {
    let was_paused = freezer::is_paused(&record.cgroups);
    // None can fork away meanwhile; where nothing can be stopped, it is tried without.
    let frozen = was_paused || freezer::pause(&record.cgroups).is_ok();
    for pid in place::processes(&record.cgroups) {
        // They are in the container's cgroup, which nobody else enters.
        match send(Pid::from_raw(pid), Some(nix_signal(signal)?)) {
            Ok(()) | Err(Errno::ESRCH) => {}
            Err(e) => return Err(Error::new(format!("send a signal to process {pid}"), e)),
        }
    }
    if frozen && (!was_paused || signal == Signal::SIGKILL as i32) {
        freezer::thaw(&record.cgroups)?;
    }
    Ok(())
}

fn nix_signal(number: i32) -> Result<Signal> {
    Signal::try_from(number).map_err(|_| {
        Error::new("--all", format!("signal {number} can be sent to the first process only"))
    })
}

/// Stops all processes for a while.
pub(super) fn pause(args: &IdArgs, root: &Path) -> Result<u8> {
    let (locked, record) = Locked::find(root, &args.id)?;
    match locked.status(&record) {
        Status::Running | Status::Created => freezer::pause(&record.cgroups).map(|()| 0),
        status => Err(wrong(&args.id, "paused", status)),
    }
}

/// Lets them go on.
pub(super) fn resume(args: &IdArgs, root: &Path) -> Result<u8> {
    let (locked, record) = Locked::find(root, &args.id)?;
    match locked.status(&record) {
        Status::Paused => freezer::thaw(&record.cgroups).map(|()| 0),
        status => Err(wrong(&args.id, "resumed", status)),
    }
}

fn wrong(id: &str, what: &str, status: Status) -> Error {
    let text = format!("it can't be {what}, as it is {}", status.word());
    Error::new(format!("container {id}"), text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_have_names_and_numbers() {
        for (text, expected) in
            [("9", 9), ("KILL", 9), ("SIGTERM", 15), ("sigusr1", 10), ("RTMIN+1", 35)]
        {
            assert_eq!(number(text).unwrap(), expected, "{text}");
        }
        for bad in ["", "0", "65", "SIGNOPE", "RTMAX+1"] {
            assert!(number(bad).is_err(), "{bad}");
        }
    }
}
