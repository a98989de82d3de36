//! Decides the whole container before anything is touched.

mod describe;
mod process;
mod root;
mod steps;

use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::cgroup::{self, Decision, Hierarchies, Limit};
use crate::error::{Context, Error, Result};
use crate::identity;
use crate::spec::{Access, Driver, Identity, Limits, Net, Shim, Spec, Volume};
use crate::store::Store;

pub(crate) use describe::describe;
pub(crate) use process::ProcessRequest;

/// What somebody wants, as typed values.
#[derive(Debug)]
pub(crate) struct Request {
    /// Limits.
    pub(crate) limits: Limits,
    /// What the root is made of.
    pub(crate) root: RootRequest,
    /// Directory that keeps the changes.
    pub(crate) upper: Option<PathBuf>,
    /// File system that merges the layers.
    pub(crate) driver: Driver,
    /// Whether the root may be written to.
    pub(crate) root_access: Access,
    /// Volumes; sources may be relative.
    pub(crate) volumes: Vec<Volume>,
    /// Name of the container.
    pub(crate) name: Option<String>,
    /// Host name.
    pub(crate) hostname: Option<String>,
    /// Network.
    pub(crate) net: Net,
    /// Program.
    pub(crate) process: ProcessRequest,
    /// Whether the start is timed.
    pub(crate) trace: Trace,
    /// Where state is kept; `None`: the user's own place.
    pub(crate) state: Option<PathBuf>,
}

/// What the root is made of.
#[derive(Debug)]
pub(crate) enum RootRequest {
    /// The host's own root.
    Host,
    /// These directories, the topmost first.
    Layers(Vec<PathBuf>),
}

/// Whether the start is timed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trace {
    /// It is.
    On,
    /// It isn't.
    Off,
}

/// A container that is decided.
#[derive(Debug)]
pub(crate) struct Planned {
    /// What is built.
    pub(crate) spec: Spec,
    /// Its cgroups.
    pub(crate) cgroup: Decision,
    /// Where its state is kept.
    pub(crate) store: Store,
    /// What is weaker than asked for.
    pub(crate) warnings: Vec<String>,
}

/// Decides; reads the host, changes nothing.
pub(crate) fn plan(request: Request) -> Result<Planned> {
    let started = SystemTime::now();
    let store = Store::choose(request.state.as_deref())?;
    let id = match &request.name {
        Some(name) => name.clone(),
        None => random_id()?,
    };
    let state = store.container_dir(&id);
    // A user without subordinate ids has a container of one user: `runner doctor` says so.
    let (identity, _) = identity::decide();
    let cgroup = cgroup::decide(&Hierarchies::detect(), &id, &request.limits);
    let warnings = missing_limits(&cgroup, &identity);
    let volumes = volumes(&request.volumes)?;
    let hostname = request.hostname.clone().unwrap_or_else(|| id.clone());
    let root = root::decide(&request, &state, &identity, &hostname, &volumes)?;
    let hidden = root::hidden(&root.layers, store.dir());
    let steps = steps::decide(&request, &identity, &hostname, volumes.len(), hidden);
    let process = process::decide(request.process, &request.limits, &hostname, &cgroup)?;
    let spec = Spec {
        id,
        state: state.into_os_string(),
        identity,
        cgroups: cgroup.cgroups(),
        hierarchies: cgroup.hierarchies(),
        net: request.net,
        root,
        shim: Some(shim(&request.limits, &cgroup)),
        volumes,
        steps,
        process,
        supervisor: std::process::id() as i32,
        trace: (request.trace == Trace::On).then(|| nanoseconds(started)),
    };
    Ok(Planned { spec, cgroup, store, warnings })
}

fn nanoseconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |d| d.as_nanos() as u64)
}

/// Returns 12 hexadecimal digits.
fn random_id() -> Result<String> {
    use std::io::Read;
    let mut bytes = [0u8; 6];
    let read = std::fs::File::open("/dev/urandom").and_then(|mut f| f.read_exact(&mut bytes));
    read.step_at("read", "/dev/urandom")?;
    Ok(bytes.iter().map(|b| format!("{b:02x}")).collect())
}

/// Returns one warning for each limit that no cgroup can hold.
fn missing_limits(cgroup: &Decision, identity: &Identity) -> Vec<String> {
    let tell = |(limit, why): &(Limit, String)| match limit {
        Limit::Memory => Some(format!("--memory is shown, but not enforced: {why}")),
        Limit::CpuQuota => {
            Some(format!("--cpus is kept by CPU affinity only, which programs can undo: {why}"))
        }
        // Where the quota holds, affinity is enough to make all figures agree.
        Limit::CpuSet => None,
        Limit::Pids => Some(format!("--pids-limit is not enforced: {why}")),
    };
    let mut all: Vec<String> = cgroup.missing.iter().filter_map(tell).collect();
    // One line is enough to say one thing.
    if let ([_, _, ..], Some((_, why)), Identity::Mapped(_)) =
        (all.as_slice(), cgroup.missing.first(), identity)
    {
        let text = format!("limits are shown inside, but not enforced: {why}");
        all = vec![text];
    }
    all
}

/// Returns what the daemon for figures must be told, as no cgroup says it.
fn shim(limits: &Limits, cgroup: &Decision) -> Shim {
    Shim {
        declared_memory: limits.memory.filter(|_| !cgroup.holds(Limit::Memory)),
        declared_cpus: limits.cpus.filter(|_| !cgroup.holds(Limit::CpuQuota)),
    }
}

/// Makes sources absolute, and refuses one that doesn't exist.
fn volumes(asked: &[Volume]) -> Result<Vec<Volume>> {
    let resolve = |v: &Volume| {
        let source = std::fs::canonicalize(&v.source).map_err(|e| {
            Error::new("volume source", e).at(&v.source).hint_if(
                nix::errno::Errno::ENOENT,
                "create it first, or check the left side of -v SRC:DST",
            )
        })?;
        Ok(Volume { source: source.into_os_string(), ..v.clone() })
    };
    asked.iter().map(resolve).collect()
}
