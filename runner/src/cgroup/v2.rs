//! Cgroup v2: one hierarchy, whose controllers are switched on from the parent.

use std::fs;
use std::path::Path;

use nix::unistd::{AccessFlags, access};

use crate::cgroup::find::{Hierarchies, writable};
use crate::cgroup::v1::{PERIOD_US, pick};
use crate::cgroup::{Decision, Group, Leave, Limit, Write, group_name};
use crate::spec::{Limits, Version};

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
    // On a host where v1 holds everything, a group here has nothing to do.
    if wanted.is_empty() && !decision.groups.is_empty() {
        return;
    }
    let mut needed: Vec<&'static str> = wanted.iter().map(|l| controller(*l)).collect();
    needed.dedup();
    let Some((parent, leave)) = parent(top, own, &needed) else { return };
    let words = |file: &str| fs::read_to_string(parent.join(file)).unwrap_or_default();
    let (there, on) = (words("cgroup.controllers"), words("cgroup.subtree_control"));
    let has = |list: &str, name: &str| list.split_whitespace().any(|c| c == name);
    needed.retain(|c| has(&there, c));
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
        Limit::Memory => "memory",
        Limit::CpuQuota => "cpu",
        Limit::CpuSet => "cpuset",
        Limit::Pids => "pids",
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

fn writes(parent: &Path, id: &str, limits: &Limits, on: &[&str]) -> Vec<Write> {
    let one = |file, value: String, limit| Write { file, value, limit };
    let mut all = Vec::new();
    if let Some(bytes) = limits.memory.filter(|_| on.contains(&"memory")) {
        all.push(one("memory.max", bytes.to_string(), Some(Limit::Memory)));
        // A limit that swap can't soften.
        all.push(one("memory.swap.max", "0".to_owned(), None));
    }
    if let Some(m) = limits.cpus.filter(|_| on.contains(&"cpu")) {
        let value = format!("{} {PERIOD_US}", m * PERIOD_US / 1000);
        all.push(one("cpu.max", value, Some(Limit::CpuQuota)));
    }
    if on.contains(&"cpuset")
        && let Ok(cpus) = fs::read_to_string(parent.join("cpuset.cpus.effective"))
        && let Some(cpus) = pick(&cpus, id, limits)
    {
        all.push(one("cpuset.cpus", cpus, Some(Limit::CpuSet)));
    }
    if let Some(n) = limits.pids.filter(|_| on.contains(&"pids")) {
        all.push(one("pids.max", n.to_string(), Some(Limit::Pids)));
    }
    all
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
        let limits = Limits { memory: Some(1 << 20), cpus: Some(1500), pids: Some(9) };
        let mut decision = Decision::default();
        let mut wanted = crate::cgroup::v1::wanted(&limits);
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
    fn a_delegated_cgroup_that_is_ours_alone_is_left_first() {
        let (d, missing) = decided("", &format!("{}\n", std::process::id()), false);
        assert!(missing.is_empty());
        assert_eq!(d.groups[0].leave, Leave::Move);
    }

    #[test]
    fn a_cgroup_that_others_live_in_holds_no_limit() {
        let (d, missing) = decided("", "1\n2\n", false);
        assert!(d.groups.is_empty());
        assert_eq!(missing.len(), 4);
    }
}
