//! Builds a container from its spec, watches it, and undoes everything at its end.
//!
//! Three processes, all of this program: the *supervisor* is the command that the user started; the
//! *builder* makes what needs a view of the host, and ends; the container's *first* process mounts,
//! changes the root, and is pid 1.

mod answers;
mod apparmor;
mod attach;
mod builder;
mod bundle;
mod child;
mod clients;
pub(crate) mod copy;
mod detach;
mod enter;
mod exec;
pub(crate) mod filter;
mod gate;
pub(crate) mod hooks;
mod init;
pub(crate) mod join;
mod log;
mod network;
mod parent;
mod rights;
mod streams;
mod supervise;
mod sync;
mod terminal;
mod trace;
mod user;

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

use crate::cgroup::{Cgroups, Decision};
use crate::error::{Context, Error, Result, best_effort, warn};
use crate::launch::network::Network;
use crate::launch::streams::{Streams, User};
use crate::launch::supervise::{End, Watched, Watching};
use crate::spec::{
    Audience, Base, Cgroup, Identity, Net, Process, Root, Shim, Spec, Strict, Upper,
};
use crate::store::{Container, Elsewhere, Keep, ProcessId, State, remove_tree};

pub(crate) use attach::{Attach, Keys, attach, wait_for_end};
pub(crate) use bundle::{
    Beginning, Console, Creation, Further, attend, begin, create, prepare_to_attend, start_further,
};
pub(crate) use detach::{Started, in_background};
pub(crate) use exec::resource;
pub(crate) use log::{Stream, parse as parse_log};
pub(crate) use parent::Builder;

/// Name (`argv[0]`) under which this program builds a container.
pub(crate) const BUILDER: &str = "runner-init";

/// Runs the builder; its arguments are this name and the number of a socket.
pub(crate) fn builder(args: &[OsString]) -> ExitCode {
    builder::main(args)
}

/// What a launch knows beside the spec.
pub(crate) struct Launch<'a> {
    /// What is built.
    pub(crate) spec: Spec,
    /// Its cgroups.
    pub(crate) cgroup: &'a Decision,
    /// Where it keeps its state, locked.
    pub(crate) container: Container,
    /// Whether it outlives its program.
    pub(crate) keep: Keep,
    /// Whether something weaker is an error.
    pub(crate) strict: Strict,
    /// What was written of earlier runs.
    pub(crate) state: State,
    /// Whether somebody is at the command.
    pub(crate) audience: Audience,
    /// Told once the program runs.
    pub(crate) on_start: Option<Started>,
    /// What the run is for.
    pub(crate) purpose: Purpose,
    /// Who builds it, if that was started already.
    pub(crate) builder: Option<Builder>,
}

/// Starts the builder of a container before its state is written down: it becomes what it is meanwhile.
/// `None`: it has to wait until we have moved to another cgroup.
///
/// # Preconditions
/// The process that calls [`launch`] is the caller. It takes no signal from here on.
pub(crate) fn start_builder(spec: &Spec, cgroup: &Decision) -> Result<Option<Builder>> {
    if cgroup.moves_us() {
        return Ok(None);
    }
    become_supervisor()?;
    Builder::start(&spec.identity).map(Some)
}

/// Takes no signal from here on, and keeps what the caller left open from the container.
fn become_supervisor() -> Result<()> {
    sys::process::close_range_on_exec(3).step("close descriptors")?;
    supervise::block_signals()
}

/// What a run is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// For its program.
    Program,
    /// To get at the container's files: nothing is written down of it.
    Errand,
}

/// Runs a container to its end and returns the exit code of its program.
pub(crate) fn launch(launch: Launch<'_>) -> Result<u8> {
    become_supervisor()?;
    let Launch { spec, cgroup, container, keep, strict, mut state, .. } = launch;
    let Launch { audience, on_start, purpose, builder, .. } = launch;
    let is_noted = purpose == Purpose::Program;
    let identity = spec.identity.clone();
    let mut cgroups = Cgroups::default();
    state.begin();
    let outcome = prepare(&container, &spec)
        .and_then(|()| limit(&container, cgroup, strict))
        .and_then(|made| {
            cgroups = made;
            let user = if audience == Audience::Caller { User::Here } else { User::Away };
            let mut streams = Streams::new(user);
            if is_noted {
                streams.follow(container.dir())?;
            }
            if keep == Keep::Kept && is_noted {
                streams.log_to(&container.dir().join("ctr.log"))?;
            }
            let noted = is_noted.then_some(&container);
            let told = tell(noted, &spec, &mut state, on_start);
            let watching = Watching {
                stdin: spec.process.stdin,
                strict,
                trace: spec.trace,
                declared: spec.shim.unwrap_or_default(),
                network: Network::planned(&spec),
                container: None,
            };
            let watched = Watched::new(watching, &cgroups, streams, Box::new(told));
            parent::run(&spec, watched, builder)
        });
    cgroups.remove();
    let (outcome, end) = match outcome {
        Ok(End { outcome, memory_kills, ran, streams }) => {
            (outcome, Some((memory_kills, ran, streams)))
        }
        Err(e) => (Err(e), None),
    };
    let (kills, ran) = end.as_ref().map_or((0, false), |(kills, ran, _)| (*kills, *ran));
    state.end(&outcome, kills, ran);
    let code = state.code.unwrap_or(125) as u8;
    let cleared = match keep {
        Keep::Kept => container.end_run(&identity).and_then(|()| match is_noted {
            true => container.write_state(&state),
            false => Ok(()),
        }),
        Keep::Thrown => Ok(()),
    };
    best_effort("clear the container's state", cleared);
    if let Some((_, _, mut streams)) = end {
        streams.end(code);
    }
    if keep == Keep::Thrown {
        best_effort("clear the container's state", container.clear(&identity));
    }
    outcome
}

/// Returns what is done once the program runs.
fn tell<'a>(
    container: Option<&'a Container>,
    spec: &'a Spec,
    state: &'a mut State,
    mut on_start: Option<Started>,
) -> impl FnMut(i32, Vec<(String, i32)>) -> Result<()> + 'a {
    move |first, daemons| {
        state.first = ProcessId::of(first);
        state.daemons = daemons;
        state.cgroups = spec.cgroups.clone();
        if let Some(container) = container {
            container.write_state(state)?;
        }
        match on_start.take() {
            Some(started) => started.tell(),
            None => Ok(()),
        }
    }
}

/// Returns the namespaces of a container of `runner run`.
pub(crate) fn own_namespaces(net: Net, identity: &Identity) -> u64 {
    use sys::process::clone_flags as new;
    let all = new::NEWNS
        | new::NEWPID
        | new::NEWUTS
        | new::NEWIPC
        | new::NEWCGROUP
        | new::NEWTIME
        | if net.is_own() { new::NEWNET } else { 0 };
    if matches!(identity, Identity::Mapped(_)) { all | new::NEWUSER } else { all }
}

/// What `exec` starts in a running container.
#[derive(Debug)]
pub(crate) struct Entering {
    /// The container's first process.
    pub(crate) first: ProcessId,
    /// The container's cgroups.
    pub(crate) cgroups: Vec<Cgroup>,
    /// The container's users.
    pub(crate) identity: Identity,
    /// The namespaces in which it lives, and we don't (`sys::process::clone_flags`).
    pub(crate) namespaces: u64,
    /// Limits that no cgroup holds.
    pub(crate) declared: Shim,
    /// What is started.
    pub(crate) process: Process,
}

/// Starts a program in a running container, and returns its exit code.
pub(crate) fn exec(
    entering: Entering,
    audience: Audience,
    on_start: Option<Started>,
) -> Result<u8> {
    become_supervisor()?;
    enter::run(entering, audience, on_start)
}

/// Makes the directories that the container needs on the host.
fn prepare(container: &Container, spec: &Spec) -> Result<()> {
    container.make_dirs()?;
    let Base::Layers(Root { upper: Upper::Kept { upper, work }, .. }) = &spec.root else {
        return Ok(());
    };
    if Path::new(work).starts_with(container.dir()) {
        // Its lock says that nobody else uses it.
        remove_tree(Path::new(work), &spec.identity)?;
    }
    std::fs::create_dir(work).map_err(|e| {
        Error::new("create work directory", e)
            .at(work)
            .hint_if(nix::errno::Errno::EEXIST, "another container uses this upper directory")
    })?;
    container.note(Elsewhere::Directory, [Path::new(work)])?;
    match std::fs::create_dir(upper) {
        Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        r => r.step_at("create upper directory", upper),
    }
}

/// Makes the cgroups, and notes them for a start after a kill.
fn limit(container: &Container, decision: &Decision, strict: Strict) -> Result<Cgroups> {
    container.note(Elsewhere::Cgroup, decision.groups.iter().map(|g| g.path.as_path()))?;
    let (mut made, refused) = Cgroups::create(decision)?;
    for (_, why) in refused {
        if strict == Strict::On {
            made.remove();
            return Err(Error::new("--strict", why));
        }
        warn(format_args!("a limit is not enforced: {why}"));
    }
    Ok(made)
}

/// Whether the container has a user namespace.
fn mapped(spec: &Spec) -> bool {
    matches!(spec.identity, Identity::Mapped(_))
}
