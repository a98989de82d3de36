//! Cgroup v2: one hierarchy, whose controllers are switched on from the parent.

use std::fs;
use std::path::Path;

use nix::unistd::{AccessFlags, access};

use crate::cgroup::find::{Hierarchies, writable};
use crate::cgroup::v1::{PERIOD_US, pick};
use crate::cgroup::{Decision, Group, Leave, Limit, Write, disk, group_name};
use crate::spec::{DeviceRate, Limits, RateKind, Version};

/// Adds a group of the unified hierarchy that holds what of `wanted` it can, and takes that out of
/// the list.
pub(super) fn decide(
    found: &Hierarchies,
    id: &str,
    limits: &Limits,
    wanted: &mut Vec<Limit>,
    decision: &mut Decision,
) {
    let Some((top, own)) = &found.v2 else { return };
    // Also where v1 holds all limits: a cgroup of v2 needs no controller to pause its processes.
    let mut needed: Vec<&'static str> = wanted.iter().map(|l| controller(*l)).collect();
    needed.dedup();
    let Some((parent, leave)) = parent(top, own, &needed).or_else(|| parent(top, own, &[])) else {
        return;
    };
    let words = |file: &str| fs::read_to_string(parent.join(file)).unwrap_or_default();
    let (there, on) = (words("cgroup.controllers"), words("cgroup.subtree_control"));
    let has = |list: &str, name: &str| list.split_whitespace().any(|c| c == name);
    let can = leave == Leave::Move || can_enable(parent, &needed).is_some();
    needed.retain(|c| has(&there, c) && (can || has(&on, c)));
    wanted.retain(|l| !needed.contains(&controller(*l)));
    let writes = writes(parent, id, limits, &needed);
    needed.retain(|c| !has(&on, c));
    let leave = if needed.is_empty() { Leave::Stay } else { leave };
    let path = parent.join(group_name(id));
    decision.groups.push(Group { path, version: Version::V2, enable: needed, leave, writes });
}

/// Returns the controller that holds a limit.
fn controller(limit: Limit) -> &'static str {
    match limit {
        Limit::Memory | Limit::Reservation => "memory",
        Limit::CpuQuota | Limit::CpuShares => "cpu",
        Limit::CpuSet | Limit::ChosenCpus | Limit::ChosenNodes => "cpuset",
        Limit::Pids => "pids",
        Limit::IoWeight | Limit::IoRates => "io",
    }
}

/// Returns the nearest ancestor below which a cgroup with the most of these controllers can be
/// made, and whether we must leave it first.
fn parent<'a>(top: &Path, own: &'a Path, needed: &[&str]) -> Option<(&'a Path, Leave)> {
    let mut best: Option<(usize, &Path, Leave)> = None;
    for dir in own.ancestors().take_while(|d| d.starts_with(top)) {
        if !writable(dir) {
            break;
        }
        let Some(leave) = can_enable(dir, needed) else { continue };
        let there = fs::read_to_string(dir.join("cgroup.controllers")).unwrap_or_default();
        let count = needed.iter().filter(|n| there.split_whitespace().any(|c| c == **n)).count();
        if best.is_none_or(|(most, ..)| count > most) {
            best = Some((count, dir, leave));
        }
    }
    best.map(|(_, dir, leave)| (dir, leave))
}

/// Whether children of `dir` can have these controllers; a cgroup other than the top may not have
/// processes then, but ourselves we can move.
fn can_enable(dir: &Path, needed: &[&str]) -> Option<Leave> {
    let on = fs::read_to_string(dir.join("cgroup.subtree_control")).ok()?;
    if needed.iter().all(|n| on.split_whitespace().any(|c| c == *n)) {
        return Some(Leave::Stay);
    }
    access(&dir.join("cgroup.subtree_control"), AccessFlags::W_OK).ok()?;
    // Only the top of all has no type.
    if !dir.join("cgroup.type").exists() {
        return Some(Leave::Stay);
    }
    let procs = fs::read_to_string(dir.join("cgroup.procs")).ok()?;
    let me = std::process::id().to_string();
    match procs.split_whitespace().collect::<Vec<_>>().as_slice() {
        [] => Some(Leave::Stay),
        [one] if *one == me => Some(Leave::Move),
        _ => None,
    }
}

pub(super) fn writes(parent: &Path, id: &str, limits: &Limits, on: &[&str]) -> Vec<Write> {
    let one = |file, value: String, limit| Write { file, value, limit };
    let mut all = Vec::new();
    if on.contains(&"memory") {
        if let Some(bytes) = limits.memory {
            all.push(one("memory.max", bytes.to_string(), Some(Limit::Memory)));
            let swap = limits.swap().map_or("max".to_owned(), |s| s.to_string());
            all.push(one("memory.swap.max", swap, None));
        }
        if let Some(bytes) = limits.memory_reservation {
            all.push(one("memory.low", bytes.to_string(), Some(Limit::Reservation)));
        }
    }
    if on.contains(&"cpu") {
        if let Some(m) = limits.cpus {
            let value = format!("{} {PERIOD_US}", m * PERIOD_US / 1000);
            all.push(one("cpu.max", value, Some(Limit::CpuQuota)));
        }
        if let Some(shares) = limits.cpu_shares {
            all.push(one("cpu.weight", weight(shares).to_string(), Some(Limit::CpuShares)));
        }
    }
    if on.contains(&"cpuset") {
        if let Some(list) = &limits.cpuset_cpus {
            all.push(one("cpuset.cpus", list.clone(), Some(Limit::ChosenCpus)));
        } else if let Ok(cpus) = fs::read_to_string(parent.join("cpuset.cpus.effective"))
            && let Some(cpus) = pick(&cpus, id, limits)
        {
            all.push(one("cpuset.cpus", cpus, Some(Limit::CpuSet)));
        }
        if let Some(list) = &limits.cpuset_mems {
            all.push(one("cpuset.mems", list.clone(), Some(Limit::ChosenNodes)));
        }
    }
    if let Some(n) = limits.pids.filter(|_| on.contains(&"pids")) {
        all.push(one("pids.max", n.to_string(), Some(Limit::Pids)));
    }
    if on.contains(&"io") {
        all.extend(io(limits));
    }
    all
}

fn io(limits: &Limits) -> Vec<Write> {
    let mut all = Vec::new();
    if let Some(weight) = limits.blkio_weight {
        let value = format!("default {weight}");
        all.push(Write { file: "io.weight", value, limit: Some(Limit::IoWeight) });
    }
    for DeviceRate { device, rate } in &limits.rates {
        let key = match rate.kind {
            RateKind::ReadBytes => "rbps",
            RateKind::WriteBytes => "wbps",
            RateKind::ReadRequests => "riops",
            RateKind::WriteRequests => "wiops",
        };
        // That it is a device was found when it was asked for.
        if let Ok((major, minor)) = disk(device) {
            let value = format!("{major}:{minor} {key}={}", rate.value);
            all.push(Write { file: "io.max", value, limit: Some(Limit::IoRates) });
        }
    }
    all
}

/// Returns the weight of v2 (1 … 10000) for shares of v1 (2 … 262144), as the runtimes agree on it.
pub(super) fn weight(shares: u64) -> u64 {
    1 + shares.clamp(2, 262_144).saturating_sub(2) * 9999 / 262_142
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lays out a directory as a cgroup of v2 and returns what is decided for limits of all kinds.
    fn decided(subtree: &str, procs: &str, top: bool) -> (Decision, Vec<Limit>) {
        let dir = tempfile::tempdir().unwrap();
        let all = "cpuset cpu memory pids\n";
        let put = |name: &str, text: &str| fs::write(dir.path().join(name), text).unwrap();
        put("cgroup.controllers", all);
        put("cgroup.subtree_control", subtree);
        put("cgroup.procs", procs);
        put("cpuset.cpus.effective", "0-3\n");
        if !top {
            put("cgroup.type", "domain\n");
        }
        let found = Hierarchies {
            v1: Vec::new(),
            v2: Some((dir.path().to_path_buf(), dir.path().to_path_buf())),
        };
        let limits =
            Limits { memory: Some(1 << 20), cpus: Some(1500), pids: Some(9), ..Limits::default() };
        let mut decision = Decision::default();
        let mut wanted = Limit::asked(&limits);
        decide(&found, "x", &limits, &mut wanted, &mut decision);
        (decision, wanted)
    }

    #[test]
    fn the_top_switches_controllers_on_and_holds_all_limits() {
        let (d, missing) = decided("", "1\n2\n", true);
        assert!(missing.is_empty(), "{missing:?}");
        let g = &d.groups[0];
        assert_eq!(g.leave, Leave::Stay);
        assert_eq!(g.enable, ["memory", "cpu", "cpuset", "pids"]);
        let value = |f: &str| g.writes.iter().find(|w| w.file == f).unwrap().value.clone();
        assert_eq!(value("memory.max"), "1048576");
        assert_eq!(value("cpu.max"), "150000 100000");
        assert_eq!(value("pids.max"), "9");
        assert_eq!(value("cpuset.cpus").split(',').count(), 2);
    }

    #[test]
    fn shares_become_weights() {
        assert_eq!((weight(2), weight(1024), weight(262_144)), (1, 39, 10_000));
    }

    #[test]
    fn a_delegated_cgroup_that_is_ours_alone_is_left_first() {
        let (d, missing) = decided("", &format!("{}\n", std::process::id()), false);
        assert!(missing.is_empty());
        assert_eq!(d.groups[0].leave, Leave::Move);
    }

    #[test]
    fn a_cgroup_that_others_live_in_holds_no_limit() {
        let (d, missing) = decided("", "1\n2\n", false);
        // It can pause, still.
        assert!(d.groups.iter().all(|g| g.writes.is_empty() && g.enable.is_empty()));
        assert_eq!(missing.len(), 4);
    }
}
