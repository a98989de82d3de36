//! Cgroup v1: a hierarchy a controller, each with its own files.

use std::fs;
use std::path::Path;

use crate::cgroup::find::{Hierarchies, writable};
use crate::cgroup::{Decision, Group, Leave, Limit, Write, group_name};
use crate::spec::{Limits, Version};

/// Length of the span in which a share of CPU time is given, in microseconds: the kernel's default.
pub(super) const PERIOD_US: u64 = 100_000;

/// Controllers, in the order in which they are joined. `cpuacct` limits nothing, but counts what
/// the container's own /proc/stat shows.
const CONTROLLERS: [&str; 5] = ["memory", "cpu", "cpuacct", "cpuset", "pids"];

/// Adds the groups that hierarchies of v1 can hold, and returns the limits that they can't.
pub(super) fn decide(
    found: &Hierarchies,
    id: &str,
    limits: &Limits,
    decision: &mut Decision,
) -> Vec<Limit> {
    let mut wanted = wanted(limits);
    for controller in CONTROLLERS {
        let Some(dir) = found.v1_dir(controller).filter(|d| writable(d)) else { continue };
        // A child of a cpuset takes no process before it is filled in.
        if controller == "cpuset" && limits.cpus.is_none() {
            continue;
        }
        let Some(writes) = writes(controller, dir, id, limits) else { continue };
        wanted.retain(|l| !writes.iter().any(|w| w.limit == Some(*l)));
        let path = dir.join(group_name(id));
        // Controllers mounted together share one directory.
        match decision.groups.iter_mut().find(|g| g.path == path) {
            Some(group) => group.writes.extend(writes),
            None => decision.groups.push(Group {
                path,
                version: Version::V1,
                enable: Vec::new(),
                leave: Leave::Stay,
                writes,
            }),
        }
    }
    wanted
}

/// Returns the limits that were asked for.
pub(super) fn wanted(limits: &Limits) -> Vec<Limit> {
    let mut all = Vec::new();
    if limits.memory.is_some() {
        all.push(Limit::Memory);
    }
    if limits.cpus.is_some() {
        all.extend([Limit::CpuQuota, Limit::CpuSet]);
    }
    if limits.pids.is_some() {
        all.push(Limit::Pids);
    }
    all
}

/// Returns what to write for one controller, or `None` where its parent can't be read.
fn writes(controller: &str, dir: &Path, id: &str, limits: &Limits) -> Option<Vec<Write>> {
    let one = |file, value: String, limit| Write { file, value, limit };
    Some(match controller {
        "memory" => match limits.memory {
            Some(bytes) => vec![
                one("memory.limit_in_bytes", bytes.to_string(), Some(Limit::Memory)),
                // Memory and swap together: a limit that swap can't soften.
                one("memory.memsw.limit_in_bytes", bytes.to_string(), None),
            ],
            None => Vec::new(),
        },
        "cpu" => match limits.cpus {
            Some(m) => vec![
                one("cpu.cfs_period_us", PERIOD_US.to_string(), None),
                one("cpu.cfs_quota_us", (m * PERIOD_US / 1000).to_string(), Some(Limit::CpuQuota)),
            ],
            None => Vec::new(),
        },
        "cpuset" => {
            let read = |name: &str| fs::read_to_string(dir.join(name)).ok();
            let cpus = pick(&read("cpuset.effective_cpus").or(read("cpuset.cpus"))?, id, limits)?;
            let mems = read("cpuset.effective_mems").or(read("cpuset.mems"))?;
            vec![
                one("cpuset.mems", mems.trim().to_owned(), Some(Limit::CpuSet)),
                one("cpuset.cpus", cpus, Some(Limit::CpuSet)),
            ]
        }
        "pids" => match limits.pids {
            Some(n) => vec![one("pids.max", n.to_string(), Some(Limit::Pids))],
            None => Vec::new(),
        },
        _ => Vec::new(),
    })
}

/// Chooses as many CPUs of the list as the quota needs; containers of different names start at
/// different CPUs. `None`: the list can't be read.
pub(super) fn pick(available: &str, id: &str, limits: &Limits) -> Option<String> {
    let all = cpu_list(available)?;
    let count = limits.whole_cpus()?.clamp(1, all.len().max(1));
    let start = id.bytes().fold(0usize, |h, b| h.wrapping_mul(31).wrapping_add(b.into()));
    let mut chosen: Vec<usize> =
        all.iter().cycle().skip(start % all.len().max(1)).take(count).copied().collect();
    chosen.sort_unstable();
    let names: Vec<String> = chosen.iter().map(usize::to_string).collect();
    (!names.is_empty()).then(|| names.join(","))
}

/// Reads a list of CPUs such as `0-3,8`.
pub(crate) fn cpu_list(text: &str) -> Option<Vec<usize>> {
    let mut all = Vec::new();
    for part in text.trim().split(',').filter(|p| !p.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        all.extend(first.parse().ok()?..=last.parse::<usize>().ok()?);
    }
    Some(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_cpus_have_ranges() {
        assert_eq!(cpu_list("0-2,5\n"), Some(vec![0, 1, 2, 5]));
        assert_eq!(cpu_list(""), Some(vec![]));
        assert_eq!(cpu_list("x"), None);
    }

    #[test]
    fn a_quota_gets_as_many_cpus_as_it_needs() {
        let limits = |m| Limits { cpus: Some(m), ..Limits::default() };
        let count = |m| pick("0-7", "abc", &limits(m)).unwrap().split(',').count();
        assert_eq!(count(500), 1);
        assert_eq!(count(1000), 1);
        assert_eq!(count(1001), 2);
        assert_eq!(count(99_000), 8);
    }
}
