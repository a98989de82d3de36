//! Cgroup v1: a hierarchy a controller, each with its own files.

use std::fs;
use std::path::Path;

use crate::cgroup::find::{Hierarchies, writable};
use crate::cgroup::{Decision, Group, Leave, Limit, Write, disk, group_name};
use crate::spec::{DeviceRate, Limits, RateKind, Version};

/// Length of the span in which a share of CPU time is given, in microseconds: the kernel's default.
pub(super) const PERIOD_US: u64 = 100_000;

/// Controllers, in the order in which they are joined. `cpuacct` limits nothing, but counts what
/// the container's own /proc/stat shows; `freezer` pauses.
const CONTROLLERS: [&str; 7] = ["memory", "cpu", "cpuacct", "cpuset", "pids", "blkio", "freezer"];

/// Adds the groups that hierarchies of v1 can hold, and returns the limits that they can't.
pub(super) fn decide(
    found: &Hierarchies,
    id: &str,
    limits: &Limits,
    decision: &mut Decision,
) -> Vec<Limit> {
    let mut wanted = Limit::asked(limits);
    for controller in CONTROLLERS {
        let Some(dir) = found.v1_dir(controller).filter(|d| writable(d)) else { continue };
        if !is_needed(controller, limits, found) {
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

/// Whether a container with these limits has a use for a controller. Each one costs time at the start.
fn is_needed(controller: &str, limits: &Limits, found: &Hierarchies) -> bool {
    match controller {
        // A child of a cpuset takes no process before it is filled in.
        "cpuset" => {
            limits.cpus.is_some() || limits.cpuset_cpus.is_some() || limits.cpuset_mems.is_some()
        }
        "blkio" => limits.blkio_weight.is_some() || !limits.rates.is_empty(),
        // A cgroup of v2 can be frozen without a controller.
        "freezer" => !found.v2.as_ref().is_some_and(|(_, own)| writable(own)),
        _ => true,
    }
}

/// Returns what to write for one controller, or `None` where its parent can't be read.
pub(super) fn writes(
    controller: &str,
    dir: &Path,
    id: &str,
    limits: &Limits,
) -> Option<Vec<Write>> {
    let one = |file, value: String, limit| Write { file, value, limit };
    let mut all = Vec::new();
    match controller {
        "memory" => {
            if let Some(bytes) = limits.memory {
                all.push(one("memory.limit_in_bytes", bytes.to_string(), Some(Limit::Memory)));
                let both = limits.swap().map_or(-1, |s| (bytes + s).min(i64::MAX as u64) as i64);
                // A kernel may not count swap.
                all.push(one("memory.memsw.limit_in_bytes", both.to_string(), None));
            }
            if let Some(bytes) = limits.memory_reservation {
                let limit = Some(Limit::Reservation);
                all.push(one("memory.soft_limit_in_bytes", bytes.to_string(), limit));
            }
        }
        "cpu" => {
            if let Some(m) = limits.cpus {
                let quota = (m * PERIOD_US / 1000).to_string();
                all.push(one("cpu.cfs_period_us", PERIOD_US.to_string(), None));
                all.push(one("cpu.cfs_quota_us", quota, Some(Limit::CpuQuota)));
            }
            if let Some(shares) = limits.cpu_shares {
                all.push(one("cpu.shares", shares.to_string(), Some(Limit::CpuShares)));
            }
        }
        "cpuset" => {
            let read = |name: &str| fs::read_to_string(dir.join(name)).ok();
            let (cpus, limit) = match &limits.cpuset_cpus {
                Some(list) => (list.clone(), Limit::ChosenCpus),
                None => {
                    let there = read("cpuset.effective_cpus").or(read("cpuset.cpus"))?;
                    let chosen = pick(&there, id, limits);
                    (chosen.unwrap_or(there.trim().to_owned()), Limit::CpuSet)
                }
            };
            let mems = match &limits.cpuset_mems {
                Some(list) => list.clone(),
                None => read("cpuset.effective_mems").or(read("cpuset.mems"))?.trim().to_owned(),
            };
            all.push(one(
                "cpuset.mems",
                mems,
                Some(limits.cpuset_mems.as_ref().map_or(limit, |_| Limit::ChosenNodes)),
            ));
            all.push(one("cpuset.cpus", cpus, Some(limit)));
        }
        "pids" => {
            if let Some(n) = limits.pids {
                all.push(one("pids.max", n.to_string(), Some(Limit::Pids)));
            }
        }
        "blkio" => all.extend(io(dir, limits)),
        _ => {}
    }
    Some(all)
}

fn io(dir: &Path, limits: &Limits) -> Vec<Write> {
    let mut all = Vec::new();
    if let Some(weight) = limits.blkio_weight {
        // Which file there is depends on the scheduler.
        let names = ["blkio.bfq.weight", "blkio.weight"];
        let file = names.into_iter().find(|n| dir.join(n).exists()).unwrap_or("blkio.weight");
        all.push(Write { file, value: weight.to_string(), limit: Some(Limit::IoWeight) });
    }
    for DeviceRate { device, rate } in &limits.rates {
        let file = match rate.kind {
            RateKind::ReadBytes => "blkio.throttle.read_bps_device",
            RateKind::WriteBytes => "blkio.throttle.write_bps_device",
            RateKind::ReadRequests => "blkio.throttle.read_iops_device",
            RateKind::WriteRequests => "blkio.throttle.write_iops_device",
        };
        // That it is a device was found when it was asked for.
        if let Ok((major, minor)) = disk(device) {
            let value = format!("{major}:{minor} {}", rate.value);
            all.push(Write { file, value, limit: Some(Limit::IoRates) });
        }
    }
    all
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
