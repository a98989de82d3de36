//! Which hierarchies this host has, and where in them we are.

use std::fs;
use std::path::{Path, PathBuf};

use nix::unistd::{AccessFlags, access};

use crate::spec::{Hierarchy, Version};

/// Controllers that a hierarchy of v1 may have.
const CONTROLLERS: [&str; 14] = [
    "blkio",
    "cpu",
    "cpuacct",
    "cpuset",
    "devices",
    "freezer",
    "hugetlb",
    "memory",
    "misc",
    "net_cls",
    "net_prio",
    "perf_event",
    "pids",
    "rdma",
];

/// The hierarchies, each with the directory of the cgroup that we are in.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Hierarchies {
    /// Hierarchies of v1: their controllers, and our directory.
    pub(crate) v1: Vec<(Vec<String>, PathBuf)>,
    /// The unified hierarchy: its mount point and our directory.
    pub(crate) v2: Option<(PathBuf, PathBuf)>,
}

impl Hierarchies {
    /// Reads where we are from /proc.
    pub(crate) fn detect() -> Hierarchies {
        let read = |p| fs::read_to_string(p).unwrap_or_default();
        parse(&read("/proc/self/mountinfo"), &read("/proc/self/cgroup"))
    }

    /// Returns our directory in the hierarchy of v1 that has `controller`.
    pub(crate) fn v1_dir(&self, controller: &str) -> Option<&Path> {
        let row = self.v1.iter().find(|(all, _)| all.iter().any(|c| c == controller))?;
        Some(&row.1)
    }

    /// Says, for a warning, why no limit is possible.
    pub(crate) fn why_not(&self) -> String {
        let none = self.v1.is_empty() && self.v2.is_none();
        let text = match (none, nix::unistd::geteuid().is_root()) {
            (true, _) => "no cgroup file system is mounted: mount cgroup2 on /sys/fs/cgroup",
            (_, true) => "the cgroup's controller is missing or read-only here",
            (_, false) if self.v2.is_some() && self.v1.is_empty() => {
                "no cgroup is delegated to this user: start it by `systemd-run --user --scope -p Delegate=yes`, or as root"
            }
            _ => "no cgroup is delegated to this user: let root give it one, or start it as root",
        };
        text.to_owned()
    }
}

/// A hierarchy that is mounted: where its top is, and our cgroup in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Found {
    /// Which interface it has.
    pub(super) version: Version,
    /// Controllers of v1, or `name=`; those of v2 are in a file of each cgroup.
    pub(super) controllers: Vec<String>,
    /// Its mount point.
    pub(super) top: PathBuf,
    /// Our cgroup in it.
    pub(super) own: PathBuf,
}

/// Returns all hierarchies, each once.
pub(super) fn all() -> Vec<Found> {
    let read = |p| fs::read_to_string(p).unwrap_or_default();
    let (mountinfo, cgroup) = (read("/proc/self/mountinfo"), read("/proc/self/cgroup"));
    let mut all: Vec<Found> = Vec::new();
    for line in mountinfo.lines() {
        let found = find(line, &cgroup);
        let is_new = |f: &Found| {
            !all.iter().any(|a| a.version == f.version && a.controllers == f.controllers)
        };
        all.extend(found.filter(is_new));
    }
    all
}

fn find(line: &str, cgroup: &str) -> Option<Found> {
    let Hierarchy { version, options, .. } = mounted_at(line)?;
    let (left, _) = line.split_once(" - ")?;
    let left: Vec<&str> = left.split(' ').collect();
    let (root, at) = (left.get(3)?, left.get(4)?);
    let own = match version {
        Version::V2 => place(cgroup, str::is_empty, root, at)?,
        Version::V1 => {
            let same = |list: &str| {
                !list.is_empty() && list.split(',').all(|c| options.iter().any(|o| o == c))
            };
            place(cgroup, same, root, at)?
        }
    };
    Some(Found { version, controllers: options, top: PathBuf::from(at), own })
}

/// Returns the hierarchies that are mounted at or below /sys/fs/cgroup, and how.
pub(super) fn mounted() -> Vec<Hierarchy> {
    let info = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    info.lines().filter_map(mounted_at).collect()
}

fn mounted_at(line: &str) -> Option<Hierarchy> {
    let (left, right) = line.split_once(" - ")?;
    let below = left.split(' ').nth(4)?.strip_prefix("/sys/fs/cgroup")?;
    let right: Vec<&str> = right.split(' ').collect();
    let version = match *right.first()? {
        "cgroup2" => Version::V2,
        "cgroup" => Version::V1,
        _ => return None,
    };
    // Only what tells a hierarchy from others: the rest belongs to its first mount.
    let tells = |o: &&str| o.starts_with("name=") || CONTROLLERS.contains(o);
    let options = right.get(2).unwrap_or(&"").split(',').filter(tells).map(str::to_owned);
    let name = below.trim_start_matches('/').to_owned();
    Some(Hierarchy { name, version, options: options.collect() })
}

/// Whether processes may be put into a new cgroup below `dir`.
pub(crate) fn writable(dir: &Path) -> bool {
    access(dir, AccessFlags::W_OK).is_ok()
        && access(&dir.join("cgroup.procs"), AccessFlags::W_OK).is_ok()
}

/// Reads the mounts (proc_pid_mountinfo(5)) and our place in each hierarchy (cgroups(7)).
fn parse(mountinfo: &str, cgroup: &str) -> Hierarchies {
    let mut found = Hierarchies::default();
    for line in mountinfo.lines() {
        let Some((left, right)) = line.split_once(" - ") else { continue };
        let left: Vec<&str> = left.split(' ').collect();
        let right: Vec<&str> = right.split(' ').collect();
        let (Some(root), Some(at), Some(kind)) = (left.get(3), left.get(4), right.first()) else {
            continue;
        };
        match *kind {
            "cgroup2" if found.v2.is_none() => {
                if let Some(place) = place(cgroup, |list| list.is_empty(), root, at) {
                    found.v2 = Some((PathBuf::from(at), place));
                }
            }
            "cgroup" => {
                let options: Vec<&str> = right.get(2).unwrap_or(&"").split(',').collect();
                let same =
                    |list: &str| !list.is_empty() && list.split(',').all(|c| options.contains(&c));
                if let Some(dir) = place(cgroup, same, root, at) {
                    found.v1.push((options.iter().map(|o| (*o).to_owned()).collect(), dir));
                }
            }
            _ => {}
        }
    }
    found
}

/// Returns the directory of our cgroup in the hierarchy whose controller list is `wanted`, mounted
/// at `at` with `root` as its top.
fn place(cgroup: &str, wanted: impl Fn(&str) -> bool, root: &str, at: &str) -> Option<PathBuf> {
    let path = cgroup.lines().find_map(|line| {
        let (_, rest) = line.split_once(':')?;
        let (list, path) = rest.split_once(':')?;
        wanted(list).then_some(path)
    })?;
    // A mount may show a part of the hierarchy only, as inside another container.
    let below = Path::new(path).strip_prefix(root).unwrap_or(Path::new(""));
    Some(Path::new(at).join(below.strip_prefix("/").unwrap_or(below)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str = "\
30 24 0:26 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
31 24 0:27 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct
32 24 0:28 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw
";

    #[test]
    fn a_hybrid_host_is_found_with_our_place_in_each_hierarchy() {
        let f = parse(HYBRID, "3:memory:/a/b\n2:cpu,cpuacct:/\n0::/x\n");
        assert_eq!(f.v1_dir("memory"), Some(Path::new("/sys/fs/cgroup/memory/a/b")));
        assert_eq!(f.v1_dir("cpuacct"), Some(Path::new("/sys/fs/cgroup/cpu,cpuacct")));
        assert_eq!(f.v1_dir("pids"), None);
        let v2 = f.v2.unwrap();
        assert_eq!(v2.1, Path::new("/sys/fs/cgroup/unified/x"));
    }

    #[test]
    fn hierarchies_are_told_apart_by_controllers_and_name() {
        let line = "9 1 0:9 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd";
        let h = mounted_at(line).unwrap();
        assert_eq!((h.name.as_str(), h.version), ("systemd", Version::V1));
        assert_eq!(h.options, ["name=systemd"]);
        let line = "9 1 0:9 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw,nsdelegate";
        assert_eq!(mounted_at(line).unwrap().name, "");
    }

    #[test]
    fn a_mount_of_a_part_is_the_top() {
        let info = "1 0 0:2 /docker/x /sys/fs/cgroup rw - cgroup2 cgroup rw\n";
        let f = parse(info, "0::/docker/x/y\n");
        assert_eq!(f.v2.unwrap().1, Path::new("/sys/fs/cgroup/y"));
    }
}
