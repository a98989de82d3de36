//! What can be told of a process that a container left.

use std::fs;
use std::path::Path;

/// `PF_EXITING` of `linux/sched.h`: the process is on its way through `exit(2)` and runs no code of its own
/// any more.
const EXITING: u64 = 0x4;

/// What `/proc/PID/stat` says of a process (proc_pid_stat(5)).
struct Stat {
    comm: String,
    state: char,
    parent: i32,
    flags: u64,
    /// Ticks of the clock between the machine's start and the process's.
    started: u64,
}

impl Stat {
    fn read(pid: i32) -> Option<Stat> {
        let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // A name may hold parentheses and blanks.
        let (head, rest) = text.rsplit_once(')')?;
        let comm = head.split_once('(')?.1.to_owned();
        let fields: Vec<&str> = rest.split_whitespace().collect();
        // The first of them is the third of the page.
        let number = |n: usize| fields.get(n - 3)?.parse().ok();
        Some(Stat {
            comm,
            state: fields.first()?.chars().next()?,
            parent: number(4)? as i32,
            flags: number(9)?,
            started: number(22)?,
        })
    }
}

/// Whether a process has ended, or is about to without doing anything more.
pub(crate) fn is_ending(pid: i32) -> bool {
    Stat::read(pid).is_none_or(|s| "ZX".contains(s.state) || s.flags & EXITING != 0)
}

/// Whether a process sleeps or has ended.
pub(crate) fn is_calm(pid: i32) -> bool {
    Stat::read(pid).is_none_or(|s| "SZX".contains(s.state))
}

/// Returns the children of a process that has one thread.
pub(crate) fn children(pid: i32) -> Vec<i32> {
    let list = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
    list.unwrap_or_default().split_whitespace().filter_map(|p| p.parse().ok()).collect()
}

/// Describes a process for whoever has to find out where it comes from.
pub(crate) fn describe(pid: i32) -> String {
    let Some(stat) = Stat::read(pid) else { return format!("{pid}: gone meanwhile") };
    let Stat { comm, state, parent, flags, started } = stat;
    let read = |name: &str| fs::read(Path::new("/proc").join(pid.to_string()).join(name));
    let text = |name: &str| read(name).map(|b| String::from_utf8_lossy(&b).into_owned());
    let line = text("cmdline").unwrap_or_default().replace('\0', " ");
    let mut out = format!(
        "{pid} ({comm}) `{}`: state {state}, parent {parent}, age {} s, flags {flags:#x}",
        line.trim_end(),
        age(started).map_or_else(|| "?".to_owned(), |s| format!("{s:.2}")),
    );
    for name in ["wchan", "stack", "cgroup"] {
        let told = text(name).unwrap_or_default();
        out.push_str(&format!("\n  {name}: {}", told.trim_end().replace('\n', ", ")));
    }
    for entry in fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten() {
        let to = fs::read_link(entry.path()).unwrap_or_default();
        out.push_str(&format!("\n  {} -> {}", entry.path().display(), to.display()));
    }
    out
}

/// Returns the seconds for which a process has been there.
fn age(started: u64) -> Option<f64> {
    let ticks = nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK).ok()??;
    let uptime = fs::read_to_string("/proc/uptime").ok()?;
    let uptime: f64 = uptime.split_whitespace().next()?.parse().ok()?;
    Some(uptime - started as f64 / ticks as f64)
}
