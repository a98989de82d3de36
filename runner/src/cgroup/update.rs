//! Changes the limits of a running container.

use std::path::Path;

use nix::errno::Errno;

use crate::cgroup::{Limit, Write, v1, v2, write};
use crate::error::{Context, Error, Result};
use crate::spec::{Cgroup, Limits, Version};

/// Controllers of v1 that have limits.
const V1: [&str; 5] = ["memory", "cpu", "cpuset", "pids", "blkio"];
/// Controllers of v2 that have limits.
const V2: [&str; 5] = ["memory", "cpu", "cpuset", "pids", "io"];

/// Writes the limits that are given into the container's cgroups.
///
/// # Errors
/// One of them has no cgroup that holds it, or the kernel refuses it; those before it are written.
pub(crate) fn update(cgroups: &[Cgroup], id: &str, limits: &Limits) -> Result<()> {
    let mut missing = Limit::asked(limits);
    for cgroup in cgroups {
        let dir = Path::new(&cgroup.path);
        let parent = dir.parent().unwrap_or(Path::new("/"));
        let mut all: Vec<Write> = match cgroup.version {
            Version::V1 => {
                V1.iter().filter_map(|c| v1::writes(c, parent, id, limits)).flatten().collect()
            }
            Version::V2 => v2::writes(parent, id, limits, &V2),
        };
        all.retain(|w| dir.join(w.file).exists() && w.limit.is_none_or(|l| missing.contains(&l)));
        for w in in_order(dir, all)? {
            write(dir, w.file, &w.value).step_at("write", dir.join(w.file))?;
            missing.retain(|l| Some(*l) != w.limit);
        }
    }
    match missing.iter().find(|l| **l != Limit::CpuSet) {
        None => Ok(()),
        Some(limit) => {
            let what =
                format!("{} can't be changed: no cgroup of the container holds it", limit.option());
            Err(Error::new("update", what)
                .hint("a controller is joined at the start: give the limit to `runner run`"))
        }
    }
}

/// Brings memory limits of v1 into an order that the kernel takes: memory alone may never have more than
/// memory and swap together.
fn in_order(dir: &Path, mut all: Vec<Write>) -> Result<Vec<Write>> {
    let is_memory = |w: &Write| w.file == "memory.limit_in_bytes";
    let Some(at) = all.iter().position(is_memory) else { return Ok(all) };
    let Some(memory) = all.get(at) else { return Ok(all) };
    match write(dir, memory.file, &memory.value) {
        Err(e) if e.raw_os_error() == Some(Errno::EINVAL as i32) => {
            let memory = all.remove(at);
            let behind = all.iter().position(|w| w.file == "memory.memsw.limit_in_bytes");
            all.insert(behind.map_or(at, |n| n + 1), memory);
            Ok(all)
        }
        r => r.step_at("write", dir.join("memory.limit_in_bytes")).map(|()| all),
    }
}
