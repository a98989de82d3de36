//! Decides the whole container before anything is touched.

mod describe;
mod process;
mod profile;
mod root;
mod seccomp;
mod steps;

use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::cgroup::{self, Decision, Hierarchies, Limit};
use crate::error::{Error, Result};
use crate::identity;
use crate::spec::{
    Audience, Base, Begin, Clocks, Driver, Figures, Hooks, Identity, Limits, OwnCgroups, Request,
    Shim, Spec, Streams, Terminal, Volume,
};
use crate::store::{Keep, Store, short};

pub(crate) use describe::describe;
pub(crate) use process::process_beside;
pub(crate) use profile::parse_profile;

/// Which container is planned, beside what was asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Which<'a> {
    /// Its id.
    pub(crate) id: &'a str,
    /// Where its state is kept.
    pub(crate) store: &'a Store,
    /// Whether it outlives its program.
    pub(crate) keep: Keep,
    /// Who waits for it.
    pub(crate) audience: Audience,
    /// Whether the start is timed.
    pub(crate) trace: Trace,
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
    pub(crate) store: PathBuf,
    /// What is weaker than asked for.
    pub(crate) warnings: Vec<String>,
}

/// Decides; reads the host, changes nothing.
pub(crate) fn plan(request: &Request, which: Which<'_>) -> Result<Planned> {
    let started = SystemTime::now();
    let state = which.store.container_dir(which.id);
    // A user without subordinate ids has a container of one user: `runner doctor` says so.
    let (identity, _) = identity::decide();
    let cgroup = match request.cgroups {
        OwnCgroups::Enabled => {
            cgroup::decide(&Hierarchies::detect(), short(which.id), &request.limits)
        }
        OwnCgroups::Disabled => Decision::default(),
    };
    let warnings = missing_limits(&cgroup, &identity);
    let volumes = volumes(&request.volumes)?;
    let root = root::decide(request, which.keep, &state, &identity, &volumes)?;
    let hidden = root::hidden(&root.layers, which.store.dir());
    let steps = steps::decide(request, &identity, hidden, &root.layers);
    let process = process::decide(request, &cgroup)?;
    let streams = match (which.keep, which.audience, request.process.terminal) {
        (_, _, Terminal::New) | (Keep::Thrown, Audience::Caller, _) => Streams::Caller,
        _ => Streams::Supervisor,
    };
    let spec = Spec {
        id: which.id.to_owned(),
        state: state.into_os_string(),
        identity,
        cgroups: cgroup.cgroups(),
        hierarchies: cgroup.hierarchies(),
        net: request.network.net,
        namespaces: namespaces(request),
        clocks: Clocks::AtZero,
        begin: Begin::Now,
        ports: request.network.ports.clone(),
        root: Base::Layers(root),
        shim: (request.figures == Figures::Container).then(|| shim(&request.limits, &cgroup)),
        volumes,
        devices: request.devices.clone(),
        mounts: Vec::new(),
        nodes: Vec::new(),
        hooks: Hooks::default(),
        steps,
        process,
        streams,
        supervisor: std::process::id() as i32,
        trace: (which.trace == Trace::On).then(|| nanoseconds(started)),
    };
    Ok(Planned { spec, cgroup, store: which.store.dir().to_path_buf(), warnings })
}

/// Returns the namespaces that the first process is born into. That of mounts is the builder's where
/// nobody stays in it: daemons do, who see the host.
fn namespaces(request: &Request) -> u64 {
    use sys::process::clone_flags as new;
    let has_daemons = request.driver == Driver::Unionfs || request.figures == Figures::Container;
    let mut all = new::NEWPID | new::NEWUTS | new::NEWIPC;
    if has_daemons {
        all |= new::NEWNS;
    }
    if request.network.net.is_own() {
        all |= new::NEWNET;
    }
    all
}

fn nanoseconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |d| d.as_nanos() as u64)
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
        other => Some(format!("{} is not enforced: {why}", other.option())),
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

/// Returns limits that none of a container's cgroups holds.
pub(crate) fn declared(limits: &Limits, cgroups: &[crate::spec::Cgroup]) -> Shim {
    let held = cgroup::usage::usage(cgroups);
    Shim {
        declared_memory: limits.memory.filter(|_| held.memory_limit.is_none()),
        declared_cpus: limits.cpus.filter(|_| held.cpu.is_none()),
    }
}

/// Makes sources absolute, and refuses one that doesn't exist.
fn volumes(asked: &[Volume]) -> Result<Vec<Volume>> {
    let resolve = |v: &Volume| {
        // Those that are managed are made at the start.
        if v.name.is_some() {
            return Ok(v.clone());
        }
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
