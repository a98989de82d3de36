//! Cgroups at a place that somebody else chose, as bundles of the OCI runtime specification name them.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;

use crate::cgroup::find::{self, Found};
use crate::cgroup::{remove_tree, write};
use crate::error::{Error, Result, best_effort};
use crate::spec::{self, Hierarchy, Version};

/// Controllers of v2 that bundles have limits for.
const CONTROLLERS: [&str; 7] = ["cpuset", "cpu", "io", "memory", "hugetlb", "pids", "rdma"];

/// What a cgroup is marked with that was made on the way to a container's.
const MARK: &str = "trusted.palimpsest.made";
const IN_USE: &str = "it is there already, with processes in it";
/// How often a parent may go as its last container does, while it is wanted.
const RACES: usize = 3;

/// A cgroup of one hierarchy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Placed {
    /// Its directory.
    pub(crate) path: PathBuf,
    /// Which interface it has.
    pub(crate) version: Version,
    /// Controllers of its hierarchy.
    pub(crate) controllers: Vec<String>,
    /// Where its hierarchy is mounted.
    top: PathBuf,
}

/// Cgroups that were made.
#[derive(Debug, Default)]
pub(crate) struct Made {
    /// Those of the container.
    pub(crate) placed: Vec<Placed>,
    /// Directories above them that we made, now or for another container, the topmost first.
    pub(crate) above: Vec<PathBuf>,
    /// Why a hierarchy has none, by its controllers.
    pub(crate) refused: Vec<(Vec<String>, String)>,
}

/// Decides where a container's cgroups are: at an absolute path below the top of each hierarchy, or at a
/// relative one below our own cgroup.
///
/// # Errors
/// The path leads elsewhere.
pub(crate) fn decide(path: &Path) -> Result<Vec<Placed>> {
    let is_plain = |c: &Component<'_>| matches!(c, Component::Normal(_) | Component::RootDir);
    if !path.components().all(|c| is_plain(&c)) {
        return Err(Error::new("linux.cgroupsPath", "it may not have `..`").at(path));
    }
    let below = path.strip_prefix("/").unwrap_or(path);
    let one = |f: Found| {
        let parent = if path.is_absolute() { &f.top } else { &f.own };
        let path = parent.join(below);
        Placed { path, version: f.version, controllers: f.controllers, top: f.top }
    };
    Ok(find::all().into_iter().map(one).collect())
}

/// Returns the hierarchies in which these are, as a container sees them.
pub(crate) fn hierarchies(placed: &[Placed]) -> Vec<Hierarchy> {
    let mut all = find::mounted();
    all.retain(|h| {
        let at = Path::new("/sys/fs/cgroup").join(&h.name);
        placed.iter().any(|p| p.version == h.version && p.top == at)
    });
    all
}

/// Returns them for whoever joins them.
pub(crate) fn cgroups(placed: &[Placed]) -> Vec<spec::Cgroup> {
    let one = |p: &Placed| spec::Cgroup { path: p.path.clone().into(), version: p.version };
    placed.iter().map(one).collect()
}

/// Makes sure that nobody lives in these cgroups.
pub(crate) fn check_unused(all: &[Placed]) -> Result<()> {
    match all.iter().find(|p| p.path.exists() && !is_unused(&p.path)) {
        Some(placed) => Err(Error::new("create cgroup", IN_USE).at(&placed.path)),
        None => Ok(()),
    }
}

/// Makes cgroups as far as we may, with all controllers, as other runtimes do: they count what is used, and
/// a limit may come later.
///
/// # Errors
/// One is there already, and in use; or it can't be made though we may.
pub(crate) fn make(all: Vec<Placed>) -> Result<Made> {
    let mut made = Made::default();
    for placed in all {
        let above = above(std::slice::from_ref(&placed));
        let mut outcome = make_one(&placed);
        for _ in 0..RACES {
            match &outcome {
                // Another container of the same parent was the last one just now, and took it along.
                Err(e) if e.kind() == io::ErrorKind::NotFound => outcome = make_one(&placed),
                _ => break,
            }
        }
        match outcome {
            Ok(()) => {
                made.placed.push(placed);
                made.above.extend(above);
            }
            Err(e) if is_refusal(&e) => {
                remove_above(above.into_iter());
                let text = Error::new("create cgroup", e).at(&placed.path).to_string();
                made.refused.push((placed.controllers, text));
            }
            Err(e) => {
                made.above.extend(above);
                made.remove();
                return Err(Error::new("create cgroup", e).at(&placed.path));
            }
        }
    }
    Ok(made)
}

/// Returns the directories above some cgroups that are missing, or that we made for others: what goes with
/// the last container in it.
pub(crate) fn above(all: &[Placed]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for placed in all {
        let above = placed.path.ancestors().skip(1).take_while(|dir| *dir != placed.top);
        let mut ours: Vec<PathBuf> =
            above.filter(|dir| !dir.exists() || is_ours(dir)).map(PathBuf::from).collect();
        ours.reverse();
        found.extend(ours);
    }
    found
}

fn is_refusal(e: &io::Error) -> bool {
    const REFUSALS: [Errno; 3] = [Errno::EACCES, Errno::EPERM, Errno::EROFS];
    e.raw_os_error().is_some_and(|n| REFUSALS.contains(&Errno::from_raw(n)))
}

/// Marks a cgroup as made by us, so that the last container in it takes it along. Without the right to, it
/// stays.
fn mark(dir: &Path) {
    let marked = fs::File::open(dir)
        .map(|file| sys::xattr::set(sys::xattr::of(&file), OsStr::new(MARK), b"1", 0));
    match marked {
        Ok(Ok(())) | Ok(Err(_)) | Err(_) => {}
    }
}

fn is_ours(dir: &Path) -> bool {
    let value =
        fs::File::open(dir).map(|file| sys::xattr::get(sys::xattr::of(&file), OsStr::new(MARK)));
    matches!(value, Ok(Ok(Some(_))))
}

fn make_one(placed: &Placed) -> io::Result<()> {
    let mut missing: Vec<&Path> =
        placed.path.ancestors().take_while(|dir| *dir != placed.top && !dir.exists()).collect();
    missing.reverse();
    if placed.version == Version::V2 {
        // From the top down: a controller is there only where the parent hands it on.
        let mut line: Vec<&Path> = placed.path.ancestors().skip(1).collect();
        line.retain(|dir| dir.starts_with(&placed.top));
        for dir in line.into_iter().rev().filter(|dir| dir.exists()) {
            enable(dir);
        }
    }
    if placed.controllers.iter().any(|c| c == "cpuset") {
        // Also those that are there: whoever made them may have been interrupted.
        let mut line: Vec<&Path> =
            placed.path.ancestors().skip(1).take_while(|dir| *dir != placed.top).collect();
        line.retain(|dir| dir.exists());
        line.into_iter().rev().try_for_each(fill_cpuset)?;
    }
    let has_cpuset = placed.controllers.iter().any(|c| c == "cpuset");
    if missing.is_empty() && !is_unused(&placed.path) {
        return Err(io::Error::other(IN_USE));
    }
    for dir in missing {
        match fs::create_dir(dir) {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
            Err(e) => return Err(e),
            Ok(()) if dir != placed.path => mark(dir),
            Ok(()) => {}
        }
        if has_cpuset {
            fill_cpuset(dir)?;
        }
        if placed.version == Version::V2 && dir != placed.path {
            enable(dir);
        }
    }
    // Whoever may not put processes there has made nothing.
    fs::File::options().write(true).open(placed.path.join("cgroup.procs")).map(drop)
}

fn is_unused(path: &Path) -> bool {
    fs::read_to_string(path.join("cgroup.procs")).is_ok_and(|list| list.trim().is_empty())
}

/// Hands controllers on to the children of a cgroup, as far as it has them.
fn enable(dir: &Path) {
    let read = |file| fs::read_to_string(dir.join(file)).unwrap_or_default();
    let (there, on) = (read("cgroup.controllers"), read("cgroup.subtree_control"));
    let has = |list: &str, name: &str| list.split_whitespace().any(|c| c == name);
    for name in CONTROLLERS.into_iter().filter(|n| has(&there, n) && !has(&on, n)) {
        match write(dir, "cgroup.subtree_control", &format!("+{name}")) {
            // That a limit has no file is told where it is written.
            Ok(()) | Err(_) => {}
        }
    }
}

/// Gives a new cpuset of v1 the CPUs and nodes of its parent: an empty one takes no process.
fn fill_cpuset(dir: &Path) -> io::Result<()> {
    let parent = dir.parent().unwrap_or(Path::new("/"));
    for file in ["cpuset.cpus", "cpuset.mems"] {
        if fs::read_to_string(dir.join(file))?.trim().is_empty() {
            write(dir, file, fs::read_to_string(parent.join(file))?.trim())?;
        }
    }
    Ok(())
}

fn remove_above(dirs: impl DoubleEndedIterator<Item = PathBuf>) {
    for dir in dirs.rev() {
        match fs::remove_dir(&dir) {
            // Another container is there meanwhile.
            Ok(()) | Err(_) => {}
        }
    }
}

impl Made {
    /// Removes them again.
    pub(crate) fn remove(&mut self) {
        for placed in self.placed.drain(..) {
            best_effort("remove cgroup", remove_tree(&placed.path));
        }
        remove_above(self.above.drain(..));
    }
}

/// Removes a container's cgroups, and those above that were made for it and hold nothing else.
///
/// # Preconditions
/// All processes in them have ended.
pub(crate) fn remove(cgroups: &[spec::Cgroup], above: &[PathBuf]) -> Result<()> {
    for cgroup in cgroups {
        let path = Path::new(&cgroup.path);
        remove_tree(path).map_err(|e| Error::new("remove cgroup", e).at(path))?;
    }
    remove_above(above.iter().cloned());
    Ok(())
}

/// Returns the processes in a container's cgroups and in those below them.
pub(crate) fn processes(cgroups: &[spec::Cgroup]) -> Vec<i32> {
    let mut all = Vec::new();
    // All hierarchies hold the same.
    if let Some(cgroup) = cgroups.iter().find(|c| Path::new(&c.path).exists()) {
        collect(Path::new(&cgroup.path), &mut all);
    }
    all.sort_unstable();
    all.dedup();
    all
}

fn collect(dir: &Path, all: &mut Vec<i32>) {
    let list = fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
    all.extend(list.split_whitespace().filter_map(|p| p.parse::<i32>().ok()).filter(|p| *p > 0));
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|t| t.is_dir()) {
            collect(&entry.path(), all);
        }
    }
}

/// Returns cgroups that were made before.
pub(crate) fn of(cgroups: &[spec::Cgroup]) -> Vec<Placed> {
    let all = find::all();
    let one = |cgroup: &spec::Cgroup| {
        let path = PathBuf::from(&cgroup.path);
        let found =
            all.iter().find(|f| f.version == cgroup.version && path.starts_with(&f.top))?.clone();
        let (version, controllers, top) = (found.version, found.controllers, found.top);
        Some(Placed { path, version, controllers, top })
    };
    cgroups.iter().filter_map(one).collect()
}
