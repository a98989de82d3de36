//! /proc/stat: ticks of the container's processors, and its own counts.

use std::fmt::Write;

use super::formula::{Formula, NOTHING, THREADS, TIME};
use crate::host::USER_HZ;
use crate::host::cpulist::CpuId;
use crate::host::trace;
use crate::view::cpu::CpuView;
use crate::view::load::Counts;
use crate::view::meter::CpuAccount;

/// Nanoseconds a tick.
const NS_A_TICK: u64 = 1_000_000_000 / USER_HZ;

/// What is shown.
#[derive(Clone, Copy, Debug)]
pub struct Seen<'a> {
    /// Processors.
    pub cpus: &'a CpuView,
    /// Their time.
    pub account: CpuAccount,
    /// Boot time, in seconds since the epoch.
    pub btime: u64,
    /// Threads.
    pub counts: Counts,
}

/// The four columns that a container has figures for, in ticks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Ticks {
    user: u64,
    nice: u64,
    system: u64,
    idle: u64,
}

/// Renders the file. A cgroup counts no interrupts, and a figure of the machine would be of no use:
/// those are zero.
pub fn render(seen: &Seen) -> Vec<u8> {
    let mut text = String::with_capacity(256 + 64 * seen.cpus.cpus.len());
    let all = Ticks::of(&seen.account);
    trace::figure(
        "cpu",
        Formula::new(
            TIME,
            "user, nice, system as used; idle = capacity x time - used, never less than shown before",
        ),
    );
    push(&mut text, "cpu ", &all);
    trace::figure("", Formula::new(TIME, "an equal share of `cpu`"));
    let count = seen.cpus.cpus.len() as u64;
    for (index, cpu) in seen.cpus.cpus.iter().enumerate() {
        let name = format!("cpu{}", cpu.number.0);
        push(&mut text, &name, &all.share(index as u64, count));
    }
    let mut line = |name: &str, value: &dyn std::fmt::Display, formula| {
        trace::figure(name, formula);
        text.push_str(&format!("{name} {value}\n"));
    };
    let counts = seen.counts;
    line("intr", &0, NOTHING);
    line("ctxt", &0, NOTHING);
    let moved = "the machine's, moved by the container's clock";
    line("btime", &seen.btime, Formula::new("/proc/stat", moved));
    let greatest = "the greatest number given so far";
    line("processes", &counts.processes, Formula::new("/proc/PID/status", greatest));
    // Whoever reads this runs.
    let running = Formula::new(THREADS, "threads that run, at least 1");
    line("procs_running", &counts.running.max(1), running);
    line("procs_blocked", &counts.blocked, Formula::new(THREADS, "threads that wait for a device"));
    line("softirq", &"0 0 0 0 0 0 0 0 0 0 0", NOTHING);
    text.into_bytes()
}

/// Renders the machine's own figures for a reader whose time nobody counts, but who may not use each
/// processor: the lines of those that the view allows, and their sums.
pub fn render_machine(host: &str, cpus: &CpuView) -> Vec<u8> {
    let mut lines = Vec::new();
    let mut sums: Vec<u64> = Vec::new();
    for line in host.lines() {
        let Some((cpu, figures)) = cpu_line(line) else { continue };
        let Some(shown) = cpus.shown(cpu) else { continue };
        lines.push(format!("cpu{} {figures}", shown.number.0));
        let figures = figures.split_ascii_whitespace().map(|f| f.parse().unwrap_or(0));
        for (column, figure) in figures.enumerate() {
            match sums.get_mut(column) {
                Some(sum) => *sum = sum.saturating_add(figure),
                None => sums.push(figure),
            }
        }
    }
    let sums: Vec<String> = sums.iter().map(u64::to_string).collect();
    let head = format!("cpu  {}", sums.join(" "));
    let tail = host.lines().filter(|l| !l.starts_with("cpu"));
    trace::figure("", Formula::new("/proc/stat", "the machine's, of the processors of `online`"));
    let all = std::iter::once(head.as_str()).chain(lines.iter().map(String::as_str)).chain(tail);
    all.flat_map(|line| [line, "\n"]).collect::<String>().into_bytes()
}

/// Returns number and figures of a line of one processor.
fn cpu_line(line: &str) -> Option<(CpuId, &str)> {
    let (number, figures) = line.strip_prefix("cpu")?.split_once(' ')?;
    Some((CpuId(number.parse().ok()?), figures))
}

impl Ticks {
    fn of(account: &CpuAccount) -> Ticks {
        Ticks {
            user: account.busy.user / NS_A_TICK,
            nice: account.busy.nice / NS_A_TICK,
            system: account.busy.system / NS_A_TICK,
            idle: account.idle / NS_A_TICK,
        }
    }

    /// Returns the part of one of `count` processors: time is counted for all together, and spread
    /// evenly so that the parts add up to the whole and each of them only grows.
    fn share(&self, index: u64, count: u64) -> Ticks {
        let part = |whole: u64| whole / count.max(1) + u64::from(index < whole % count.max(1));
        Ticks {
            user: part(self.user),
            nice: part(self.nice),
            system: part(self.system),
            idle: part(self.idle),
        }
    }
}

fn push(text: &mut String, name: &str, t: &Ticks) {
    let Ticks { user, nice, system, idle } = t;
    // Writing to a string has no failure.
    if writeln!(text, "{name} {user} {nice} {system} {idle} 0 0 0 0 0 0").is_err() {
        log::debug!("{name} was not written");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cgroup::ONE_CPU;
    use crate::view::cpu::ShownCpu;

    #[test]
    fn the_machine_s_lines_are_kept_and_added_up() {
        let host = "cpu  9 9 9\ncpu0 1 2 3\ncpu1 4 5 6\ncpu10 7 8 9\nintr 5\nbtime 7\n";
        let shown = |n| ShownCpu { number: CpuId(n), host: CpuId(n) };
        let cpus = CpuView { cpus: vec![shown(1), shown(10)], capacity: ONE_CPU };
        let text = String::from_utf8(render_machine(host, &cpus)).unwrap();
        assert_eq!(text, "cpu  11 13 15\ncpu1 4 5 6\ncpu10 7 8 9\nintr 5\nbtime 7\n");
    }
}
