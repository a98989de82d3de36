//! Wall time, and CPU time of the caller and of the daemon.

use std::fs;
use std::io;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::resource::{Usage, UsageWho, getrusage};

/// What a piece of work costs.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Cost {
    /// Seconds from start to end.
    pub(crate) wall: f64,
    /// CPU seconds of the programs that do the work, system time included.
    pub(crate) caller: f64,
    /// CPU seconds of the daemon meanwhile, all its threads.
    pub(crate) daemon: f64,
}

impl Cost {
    /// Returns the CPU seconds of both sides.
    pub(crate) fn cpu(&self) -> f64 {
        self.caller + self.daemon
    }
}

/// Measures `work`, with the CPU time of `daemon` if there is one.
pub(crate) fn measure(
    daemon: Option<i32>,
    work: impl FnOnce() -> io::Result<()>,
) -> io::Result<Cost> {
    let before = (callers()?, daemon.map_or(Ok(Duration::ZERO), of_process)?);
    let start = Instant::now();
    work()?;
    let wall = start.elapsed().as_secs_f64();
    let after = (callers()?, daemon.map_or(Ok(Duration::ZERO), of_process)?);
    Ok(Cost {
        wall,
        caller: after.0 - before.0,
        daemon: (after.1.saturating_sub(before.1)).as_secs_f64(),
    })
}

/// Returns the CPU seconds of this thread and of all children that have been waited for.
fn callers() -> io::Result<f64> {
    let seconds = |usage: Usage| {
        let (user, system) = (usage.user_time(), usage.system_time());
        (user.tv_sec() + system.tv_sec()) as f64 + (user.tv_usec() + system.tv_usec()) as f64 / 1e6
    };
    let own = getrusage(UsageWho::RUSAGE_THREAD)?;
    let children = getrusage(UsageWho::RUSAGE_CHILDREN)?;
    Ok(seconds(own) + seconds(children))
}

/// Returns the CPU time of a process by its threads' scheduler statistics, which count nanoseconds
/// where /proc/PID/stat counts hundredths.
fn of_process(pid: i32) -> io::Result<Duration> {
    let mut total = Duration::ZERO;
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        let text = match fs::read_to_string(task?.path().join("schedstat")) {
            // The thread has ended since the directory was read.
            Err(e) if is_gone(&e) => continue,
            r => r?,
        };
        let nanoseconds = text.split(' ').next().and_then(|n| n.parse().ok());
        total += Duration::from_nanos(nanoseconds.unwrap_or(0));
    }
    Ok(total)
}

fn is_gone(e: &io::Error) -> bool {
    let errno = e.raw_os_error().map(Errno::from_raw);
    matches!(errno, Some(Errno::ENOENT | Errno::ESRCH))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_of_children_is_counted() {
        let burn = || {
            let script = "i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done";
            std::process::Command::new("sh").args(["-c", script]).status().map(drop)
        };
        let cost = measure(Some(std::process::id() as i32), burn).expect("measure");
        assert!(cost.caller > 0.0 && cost.wall > 0.0, "{cost:?}");
    }
}
