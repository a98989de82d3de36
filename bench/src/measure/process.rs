//! CPU time, memory, descriptors and written bytes of a process, by /proc (proc(5)).

use std::fs;
use std::io;
use std::time::Duration;

use nix::sys::resource::{UsageWho, getrusage};
use nix::time::{ClockId, clock_getcpuclockid, clock_gettime};
use nix::unistd::Pid;

/// What two moments are compared by.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Moment {
    /// CPU time of this process and of children that have been waited for.
    pub(crate) caller: Duration,
    /// CPU time of the daemon, threads that have ended included.
    pub(crate) daemon: Duration,
    /// Bytes that both caused to be written to storage.
    pub(crate) written: u64,
}

impl Moment {
    /// Returns the present one.
    pub(crate) fn now(daemon: Option<i32>) -> io::Result<Moment> {
        let served = daemon.map(tree).unwrap_or_default();
        let own = std::process::id() as i32;
        // Live children work for the caller, but for the daemon and what it has started.
        let mut helpers = tree(own);
        helpers.retain(|pid| *pid != own && !served.contains(pid));
        let written =
            written("self") + served.iter().map(|pid| written(&pid.to_string())).sum::<u64>();
        Ok(Moment { caller: callers()? + cpu(&helpers), daemon: cpu(&served), written })
    }
}

/// Returns a process and all below it: a daemon may have a worker that serves for it.
pub(crate) fn tree(pid: i32) -> Vec<i32> {
    let mut all = vec![pid];
    let mut at = 0;
    while let Some(pid) = all.get(at).copied() {
        at += 1;
        for task in fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten() {
            let text = fs::read_to_string(task.path().join("children")).unwrap_or_default();
            all.extend(text.split_whitespace().filter_map(|p| p.parse::<i32>().ok()));
        }
    }
    all
}

fn callers() -> io::Result<Duration> {
    let own = clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID)?;
    let children = getrusage(UsageWho::RUSAGE_CHILDREN)?;
    let micros = |t: nix::sys::time::TimeVal| t.tv_sec() as u64 * 1_000_000 + t.tv_usec() as u64;
    let children = micros(children.user_time()) + micros(children.system_time());
    Ok(Duration::from(own) + Duration::from_micros(children))
}

/// Returns the CPU time of processes, in nanoseconds where /proc/PID/stat has hundredths; those that
/// have ended have none.
fn cpu(pids: &[i32]) -> Duration {
    let one = |pid: &i32| {
        let clock = clock_getcpuclockid(Pid::from_raw(*pid)).ok()?;
        clock_gettime(clock).ok().map(Duration::from)
    };
    pids.iter().filter_map(one).sum()
}

/// Returns `write_bytes` of /proc/PID/io; 0 where that may not be read.
fn written(pid: &str) -> u64 {
    field(&format!("/proc/{pid}/io"), "write_bytes:")
}

/// Returns the resident memory of a process and all below it, in bytes.
pub(crate) fn resident(pid: i32) -> u64 {
    let one = |pid: &i32| field(&format!("/proc/{pid}/status"), "VmRSS:") * 1024;
    tree(pid).iter().map(one).sum()
}

/// Returns how many descriptors a process and all below it have open.
pub(crate) fn descriptors(pid: i32) -> u64 {
    let one =
        |pid: &i32| fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, |dir| dir.count() as u64);
    tree(pid).iter().map(one).sum()
}

fn field(path: &str, name: &str) -> u64 {
    let text = fs::read_to_string(path).unwrap_or_default();
    let value = text.lines().find_map(|l| l.strip_prefix(name));
    value.and_then(|v| v.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_of_children_is_counted() {
        let before = Moment::now(None).expect("a moment");
        let script = "i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done";
        let status = std::process::Command::new("sh").args(["-c", script]).status();
        assert!(status.expect("run sh").success());
        let after = Moment::now(None).expect("a moment");
        assert!(after.caller > before.caller + Duration::from_millis(2), "{after:?}");
    }

    #[test]
    fn this_process_has_memory_and_descriptors() {
        let pid = std::process::id() as i32;
        assert!(resident(pid) > 100_000);
        assert!(descriptors(pid) >= 3);
        assert!(cpu(&[pid]) > Duration::ZERO);
    }
}
