//! Limits by cgroup: decide what is possible here, create, join, remove.

mod device;
mod device_program;
mod find;
pub(crate) mod freezer;
pub(crate) mod place;
pub(crate) mod resources;
mod update;
pub(crate) mod usage;
mod v1;
mod v2;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::errno::Errno;

use crate::error::{Context, Error, Result, best_effort, warn};
use crate::spec::{self, Limits, Version};

pub(crate) use device::disk;
pub(crate) use find::Hierarchies;
pub(crate) use update::update;
pub(crate) use v1::cpu_list;

/// Prefix of the cgroups that we make.
const PREFIX: &str = "palimpsest-";
/// How long the kernel may take to let go of a cgroup whose last process was reaped.
const RELEASE_TRIES: u32 = 200;

/// One of the limits of the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Limit {
    /// `--memory` and `--memory-swap`.
    Memory,
    /// `--memory-reservation`.
    Reservation,
    /// `--cpus`, as a share of time.
    CpuQuota,
    /// `--cpu-shares`.
    CpuShares,
    /// `--cpus`, as a set of CPUs.
    CpuSet,
    /// `--cpuset-cpus`.
    ChosenCpus,
    /// `--cpuset-mems`.
    ChosenNodes,
    /// `--pids-limit`.
    Pids,
    /// `--blkio-weight`.
    IoWeight,
    /// `--device-read-bps` and its like.
    IoRates,
}

impl Limit {
    /// Returns the option that asks for it.
    pub(crate) fn option(self) -> &'static str {
        match self {
            Limit::Memory => "--memory",
            Limit::Reservation => "--memory-reservation",
            Limit::CpuQuota | Limit::CpuSet => "--cpus",
            Limit::CpuShares => "--cpu-shares",
            Limit::ChosenCpus => "--cpuset-cpus",
            Limit::ChosenNodes => "--cpuset-mems",
            Limit::Pids => "--pids-limit",
            Limit::IoWeight => "--blkio-weight",
            Limit::IoRates => "--device-read-bps and its like",
        }
    }

    /// Returns the limits that were asked for.
    fn asked(limits: &Limits) -> Vec<Limit> {
        let rows = [
            (Limit::Memory, limits.memory.is_some()),
            (Limit::Reservation, limits.memory_reservation.is_some()),
            (Limit::CpuQuota, limits.cpus.is_some()),
            (Limit::CpuShares, limits.cpu_shares.is_some()),
            // A quota is shown as a set of CPUs, unless one is asked for.
            (Limit::CpuSet, limits.cpus.is_some() && limits.cpuset_cpus.is_none()),
            (Limit::ChosenCpus, limits.cpuset_cpus.is_some()),
            (Limit::ChosenNodes, limits.cpuset_mems.is_some()),
            (Limit::Pids, limits.pids.is_some()),
            (Limit::IoWeight, limits.blkio_weight.is_some()),
            (Limit::IoRates, !limits.rates.is_empty()),
        ];
        rows.into_iter().filter(|(_, asked)| *asked).map(|(limit, _)| limit).collect()
    }
}

/// A directory to make in a hierarchy, and what to write there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Group {
    /// The new cgroup.
    pub(crate) path: PathBuf,
    /// Its interface.
    pub(crate) version: Version,
    /// Controllers to switch on in its parent first (v2).
    pub(crate) enable: Vec<&'static str>,
    /// Whether we ourselves must leave the parent first, as a cgroup of v2 that has controllers on
    /// may not have processes.
    pub(crate) leave: Leave,
    /// Which limits hold here: file, value, and the limit that is lost where it can't be written.
    pub(crate) writes: Vec<Write>,
}

/// Whether the supervisor must move to a leaf of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Leave {
    /// It stays.
    Stay,
    /// It moves.
    Move,
}

/// One value to write into a file of a cgroup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Write {
    /// Name of the file.
    pub(crate) file: &'static str,
    /// Value.
    pub(crate) value: String,
    /// The limit that is lost without it; `None`: nothing is lost where the kernel lacks the file.
    pub(crate) limit: Option<Limit>,
}

/// What is possible here.
#[derive(Debug, Default)]
pub(crate) struct Decision {
    /// Cgroups to make.
    pub(crate) groups: Vec<Group>,
    /// Limits that were asked for and that no cgroup can hold, each with the reason.
    pub(crate) missing: Vec<(Limit, String)>,
}

impl Decision {
    /// Returns the cgroups for whoever joins them.
    pub(crate) fn cgroups(&self) -> Vec<spec::Cgroup> {
        let one = |g: &Group| spec::Cgroup { path: g.path.clone().into(), version: g.version };
        self.groups.iter().map(one).collect()
    }

    /// Returns the hierarchies in which the container has a cgroup of its own: only there is what its
    /// namespace shows its own.
    pub(crate) fn hierarchies(&self) -> Vec<spec::Hierarchy> {
        if self.groups.is_empty() {
            return Vec::new();
        }
        let mut all = find::mounted();
        all.retain(|h| {
            let at = Path::new("/sys/fs/cgroup").join(&h.name);
            self.groups.iter().any(|g| g.version == h.version && g.path.starts_with(&at))
        });
        all
    }

    /// Whether the supervisor moves to another cgroup, and whoever it has started should, too.
    pub(crate) fn moves_us(&self) -> bool {
        self.groups.iter().any(|g| g.leave == Leave::Move)
    }

    /// Whether a limit that was asked for is held by a cgroup.
    pub(crate) fn holds(&self, limit: Limit) -> bool {
        !self.missing.iter().any(|(l, _)| *l == limit)
    }
}

/// Decides which cgroups a container `id` with these limits gets; touches nothing.
pub(crate) fn decide(found: &Hierarchies, id: &str, limits: &Limits) -> Decision {
    let mut decision = Decision::default();
    let mut wanted = v1::decide(found, id, limits, &mut decision);
    v2::decide(found, id, limits, &mut wanted, &mut decision);
    for limit in wanted {
        decision.missing.push((limit, found.why_not()));
    }
    decision
}

/// Puts the calling process, which must have one thread, into a cgroup.
pub(crate) fn join(cgroup: &spec::Cgroup) -> Result<()> {
    let path = Path::new(&cgroup.path);
    let file = match cgroup.version {
        // To move one's own only thread the kernel doesn't have to wait until all processes of the
        // machine are between two forks, as it does for cgroup.procs: milliseconds a hierarchy.
        Version::V1 => "tasks",
        Version::V2 => "cgroup.procs",
    };
    write(path, file, "0").step_at("join cgroup", path)
}

/// Returns the name of the cgroups of a container.
fn group_name(id: &str) -> String {
    format!("{PREFIX}{id}")
}

/// The cgroups of a living container, removed by [`Cgroups::remove`].
#[derive(Debug, Default)]
pub(crate) struct Cgroups {
    made: Vec<PathBuf>,
    /// The leaf that the supervisor moved to, and what was switched on in its parent.
    left: Option<(PathBuf, Vec<&'static str>)>,
}

impl Cgroups {
    /// Makes the cgroups and writes the limits. A limit that the kernel refuses is returned with
    /// the reason.
    ///
    /// # Errors
    /// A cgroup can't be made though the decision said so; nothing is left then.
    pub(crate) fn create(decision: &Decision) -> Result<(Cgroups, Vec<(Limit, String)>)> {
        let mut all = Cgroups::default();
        let mut refused = Vec::new();
        for group in &decision.groups {
            if let Err(e) = all.add(group, &mut refused) {
                all.remove();
                return Err(e);
            }
        }
        Ok((all, refused))
    }

    fn add(&mut self, group: &Group, refused: &mut Vec<(Limit, String)>) -> Result<()> {
        let parent = group.path.parent().unwrap_or(Path::new("/"));
        if group.leave == Leave::Move {
            let leaf =
                group.path.with_file_name(format!("{PREFIX}supervisor-{}", std::process::id()));
            fs::create_dir(&leaf).step_at("create cgroup", &leaf)?;
            self.left = Some((leaf.clone(), group.enable.clone()));
            write(&leaf, "cgroup.procs", "0").step_at("join cgroup", &leaf)?;
        }
        for controller in &group.enable {
            write(parent, "cgroup.subtree_control", &format!("+{controller}"))
                .step_at("switch a cgroup controller on in", parent)?;
        }
        fs::create_dir(&group.path).step_at("create cgroup", &group.path)?;
        self.made.push(group.path.clone());
        for w in &group.writes {
            match (write(&group.path, w.file, &w.value), w.limit) {
                (Ok(()), _) => {}
                (Err(e), Some(limit)) => {
                    let e = Error::new("write", e).at(group.path.join(w.file));
                    refused.push((limit, e.to_string()));
                }
                (Err(e), None) if e.kind() == io::ErrorKind::NotFound => {}
                (Err(e), None) => warn(Error::new("write", e).at(group.path.join(w.file))),
            }
        }
        Ok(())
    }

    /// Returns how many processes the kernel killed as the memory limit was reached.
    pub(crate) fn memory_kills(&self) -> u64 {
        let count = |path: &PathBuf| {
            let text = fs::read_to_string(path.join("memory.events"))
                .or_else(|_| fs::read_to_string(path.join("memory.oom_control")))
                .unwrap_or_default();
            text.lines()
                .find_map(|l| l.strip_prefix("oom_kill "))
                .and_then(|n| n.trim().parse::<u64>().ok())
                .unwrap_or(0)
        };
        self.made.iter().map(count).max().unwrap_or(0)
    }

    /// Removes them.
    ///
    /// # Preconditions
    /// All processes in them have ended.
    pub(crate) fn remove(&mut self) {
        for path in self.made.drain(..).rev() {
            best_effort("remove cgroup", remove_tree(&path));
        }
        if let Some((leaf, enabled)) = self.left.take() {
            best_effort("leave cgroup", return_from(&leaf, &enabled));
        }
    }
}

/// Moves the supervisor back from its leaf.
fn return_from(leaf: &Path, enabled: &[&'static str]) -> io::Result<()> {
    let parent = leaf.parent().unwrap_or(Path::new("/"));
    for controller in enabled {
        write(parent, "cgroup.subtree_control", &format!("-{controller}"))?;
    }
    write(parent, "cgroup.procs", "0")?;
    remove_tree(leaf)
}

/// Removes a cgroup and those below it, if nobody lives there; one that is gone is fine.
pub(crate) fn remove_tree(path: &Path) -> io::Result<()> {
    for _ in 0..RELEASE_TRIES {
        match fs::remove_dir(path) {
            Err(e) if e.raw_os_error() == Some(Errno::EBUSY as i32) => {
                remove_children(path)?;
                std::thread::sleep(Duration::from_millis(5));
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
            r => return r,
        }
    }
    fs::remove_dir(path)
}

fn remove_children(path: &Path) -> io::Result<()> {
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_tree(&entry.path())?;
        }
    }
    Ok(())
}

fn write(dir: &Path, file: &str, value: &str) -> io::Result<()> {
    // Never creates: a file that is missing here is a controller that is missing.
    io::Write::write_all(
        &mut fs::File::options().write(true).open(dir.join(file))?,
        value.as_bytes(),
    )
}
