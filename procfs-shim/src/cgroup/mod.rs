//! Control groups: v1, v2 and hybrid behind one set of questions, chosen per controller.

pub mod cpu;
pub mod io;
pub mod memory;
pub mod parse;
mod stat;
pub mod tasks;
mod v1;
mod v2;

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::ReadError;
use crate::host::held::{self, HeldFile};
use parse::{CgroupMount, MembershipLine};
pub use stat::MemoryStat;

/// Version of the cgroup interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// One hierarchy a controller.
    V1,
    /// The unified hierarchy.
    V2,
}

/// A share of processing power in billionths of one processor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct NanoCpus(pub u64);

/// One whole processor.
pub const ONE_CPU: NanoCpus = NanoCpus(1_000_000_000);

/// Processor time used, in nanoseconds; the three don't overlap.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CpuTimes {
    /// In user mode.
    pub user: u64,
    /// In user mode, of processes with lowered priority.
    pub nice: u64,
    /// In the kernel.
    pub system: u64,
}

/// What a hierarchy controls or counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Controller {
    /// Limits and use of memory.
    Memory,
    /// Processor quota.
    Cpu,
    /// Processor time used.
    CpuTime,
    /// Allowed processors.
    Cpuset,
    /// Use of block devices.
    Io,
}

impl Controller {
    /// Each controller.
    pub const ALL: [Controller; 5] = [
        Controller::Memory,
        Controller::Cpu,
        Controller::CpuTime,
        Controller::Cpuset,
        Controller::Io,
    ];

    /// Name on v1.
    pub fn name(self) -> &'static str {
        match self {
            Controller::Memory => "memory",
            Controller::Cpu => "cpu",
            Controller::CpuTime => "cpuacct",
            Controller::Cpuset => "cpuset",
            Controller::Io => "blkio",
        }
    }

    /// Name in v2's `cgroup.controllers`; time used is counted without any controller.
    fn unified_name(self) -> Option<&'static str> {
        match self {
            Controller::CpuTime => None,
            Controller::Io => Some("io"),
            other => Some(other.name()),
        }
    }
}

/// A mounted hierarchy.
#[derive(Clone, Debug)]
pub struct Tree {
    version: Version,
    at: PathBuf,
    root: String,
    controllers: Vec<String>,
}

/// Which hierarchies the machine has mounted.
#[derive(Clone, Debug)]
pub struct Hierarchy {
    trees: Vec<Tree>,
}

/// A directory of a hierarchy.
#[derive(Debug)]
pub struct Level {
    dir: OwnedFd,
    path: Arc<Path>,
    version: Version,
    is_root: bool,
}

/// Which cgroups a process is in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Membership {
    lines: Vec<MembershipLine>,
}

impl Hierarchy {
    /// Finds the hierarchies in the text of /proc/self/mountinfo; their paths are taken below
    /// `prefix` (`/`, or a recorded tree).
    pub fn detect(mountinfo: &str, prefix: &Path) -> Hierarchy {
        let mounts = parse::mountinfo(mountinfo).into_iter();
        Hierarchy { trees: mounts.map(|m| Tree::new(m, prefix)).collect() }
    }

    /// Returns the hierarchy that has a controller: v1's own, else the unified one.
    pub fn tree(&self, controller: Controller) -> Option<&Tree> {
        let v1 = |t: &&Tree| t.version == Version::V1 && t.has(controller.name());
        let v2 = |t: &&Tree| {
            let has = |name| t.has(name);
            t.version == Version::V2 && controller.unified_name().is_none_or(has)
        };
        self.trees.iter().rev().find(v1).or_else(|| self.trees.iter().rev().find(v2))
    }

    /// Returns the unified hierarchy, with or without controllers.
    pub fn unified(&self) -> Option<&Tree> {
        self.trees.iter().rev().find(|t| t.version == Version::V2)
    }

    /// Names the controllers that no hierarchy has.
    pub fn missing(&self) -> Vec<&'static str> {
        let absent = |c: &Controller| self.tree(*c).is_none();
        Controller::ALL.into_iter().filter(absent).map(Controller::name).collect()
    }
}

impl Tree {
    fn new(mount: CgroupMount, prefix: &Path) -> Tree {
        let at = prefix.join(mount.at.trim_start_matches('/'));
        let controllers = match mount.version {
            Version::V1 => mount.options,
            // The root lists what the kernel offers here; a file that can't be read offers nothing.
            Version::V2 => std::fs::read_to_string(at.join("cgroup.controllers"))
                .unwrap_or_default()
                .split_ascii_whitespace()
                .map(str::to_owned)
                .collect(),
        };
        Tree { version: mount.version, at, root: mount.root, controllers }
    }

    fn has(&self, controller: &str) -> bool {
        self.controllers.iter().any(|c| c == controller)
    }

    /// Its version.
    pub fn version(&self) -> Version {
        self.version
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        &self.at
    }

    /// Opens the cgroup at `path` and its ancestors, itself first, the mount's root last.
    ///
    /// # Errors
    /// It is gone, or lies outside of the mount.
    pub fn levels(&self, path: &str) -> Result<Vec<Level>, ReadError> {
        let mut below = Path::new(self.below(path)?);
        let mut levels = Vec::new();
        loop {
            let is_root = below.as_os_str().is_empty();
            let at = self.at.join(below);
            let dir = held::directory(&at)?;
            levels.push(Level { dir, path: at.into(), version: self.version, is_root });
            match below.parent() {
                Some(parent) if !is_root => below = parent,
                _ => return Ok(levels),
            }
        }
    }

    /// Returns the path below the mount's root, without a slash in front.
    fn below<'a>(&self, path: &'a str) -> Result<&'a str, ReadError> {
        let outside = || ReadError::OutsideHierarchy(path.to_owned());
        let rest = path.strip_prefix(self.root.trim_end_matches('/')).ok_or_else(outside)?;
        // "/.." is how the kernel names what lies above our cgroup namespace.
        if rest.split('/').any(|part| part == "..") || !(rest.is_empty() || rest.starts_with('/')) {
            return Err(outside());
        }
        Ok(rest.trim_start_matches('/'))
    }
}

impl Level {
    /// Whether this is the root of what is mounted.
    pub fn is_root(&self) -> bool {
        self.is_root
    }

    /// Whether this is the root of the whole hierarchy, which has no limit and can't be given one; a
    /// container that has mounted its own part sees that part's.
    ///
    /// # Errors
    /// It can't be looked at.
    pub fn is_top(&self) -> Result<bool, ReadError> {
        // cgroups(7): each other cgroup of v2 has `cgroup.type`, and of v1 the top alone an agent.
        Ok(match self.version {
            _ if !self.is_root => false,
            Version::V1 => self.find("release_agent")?.is_some(),
            Version::V2 => self.find("cgroup.type")?.is_none(),
        })
    }

    /// Version of its hierarchy.
    pub fn version(&self) -> Version {
        self.version
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Holds one of its files open, where it has it.
    ///
    /// # Errors
    /// Anything but its absence.
    pub fn find(&self, name: &str) -> Result<Option<HeldFile>, ReadError> {
        HeldFile::find_at(&self.dir, &self.path, name)
    }
}

impl Membership {
    /// Parses /proc/PID/cgroup.
    ///
    /// # Errors
    /// It has another form than cgroups(7) says.
    pub fn parse(text: &str) -> Result<Membership, ReadError> {
        let lines = parse::membership(text).map_err(ReadError::of("/proc/PID/cgroup"))?;
        Ok(Membership { lines })
    }

    /// The same, with the scope stripped into which a systemd that is a container's init moves
    /// itself: the container is what lies above it.
    pub fn of_container(mut self) -> Membership {
        for line in &mut self.lines {
            if let Some(above) = line.path.strip_suffix("/init.scope") {
                line.path = if above.is_empty() { "/".into() } else { above.into() };
            }
        }
        self
    }

    /// Returns the path in the hierarchy of a controller.
    pub fn path(&self, hierarchy: &Hierarchy, controller: Controller) -> Option<&str> {
        self.path_in(hierarchy.tree(controller)?, controller.name())
    }

    /// Returns the path in the unified hierarchy.
    pub fn unified_path(&self) -> Option<&str> {
        self.lines.iter().find(|l| l.version == Version::V2).map(|l| l.path.as_str())
    }

    fn path_in(&self, tree: &Tree, name: &str) -> Option<&str> {
        match tree.version {
            Version::V2 => self.unified_path(),
            Version::V1 => {
                let theirs = |l: &&MembershipLine| l.controllers.iter().any(|c| c == name);
                self.lines.iter().find(theirs).map(|l| l.path.as_str())
            }
        }
    }

    /// Whether each cgroup is the same as `other`'s or below it.
    pub fn is_within(&self, other: &Membership) -> bool {
        let path = |line: &MembershipLine| {
            let same = |l: &&MembershipLine| l.controllers == line.controllers;
            other.lines.iter().find(same).map(|l| l.path.as_str())
        };
        self.lines.iter().all(|line| match path(line) {
            Some("/") | None => true,
            Some(above) => line
                .path
                .strip_prefix(above)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/')),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(root: &str) -> Tree {
        let at = PathBuf::from("/sys/fs/cgroup");
        Tree { version: Version::V2, at, root: root.into(), controllers: vec![] }
    }

    #[test]
    fn a_path_is_taken_below_the_mount_s_root() {
        assert_eq!(tree("/").below("/a/b").unwrap(), "a/b");
        assert_eq!(tree("/").below("/").unwrap(), "");
        assert_eq!(tree("/a").below("/a/b").unwrap(), "b");
        assert_eq!(tree("/a").below("/a").unwrap(), "");
        assert!(tree("/a").below("/ab").is_err());
        assert!(tree("/").below("/../b").is_err());
    }

    #[test]
    fn below_means_below_in_each_hierarchy() {
        let of = |text| Membership::parse(text).unwrap();
        let init = of("1:memory:/c\n0::/c\n");
        assert!(of("1:memory:/c\n0::/c/sub\n").is_within(&init));
        assert!(!of("1:memory:/cc\n0::/c\n").is_within(&init));
        assert!(!of("1:memory:/\n0::/c\n").is_within(&init));
        assert!(of("1:memory:/x\n0::/y\n").is_within(&of("1:memory:/\n0::/\n")));
    }

    #[test]
    fn the_init_s_own_scope_is_not_the_container() {
        let of = |text| Membership::parse(text).unwrap().of_container();
        assert_eq!(of("0::/c/init.scope\n").unified_path(), Some("/c"));
        assert_eq!(of("0::/init.scope\n").unified_path(), Some("/"));
        assert_eq!(of("0::/c/xinit.scope\n").unified_path(), Some("/c/xinit.scope"));
    }
}
