//! Builds a container from its spec, watches it, and undoes everything at its end.
//!
//! Three processes, all of this program: the *supervisor* is the command that the user started; the
//! *builder* makes what needs a view of the host, and ends; the container's *first* process mounts,
//! changes the root, and is pid 1.

mod builder;
mod child;
mod exec;
mod init;
mod parent;
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
use crate::spec::{Identity, Spec, Upper};
use crate::store::{Container, Elsewhere, Store};

/// Name (`argv[0]`) under which this program builds a container.
pub(crate) const BUILDER: &str = "runner-init";

/// What happens where something is weaker than asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Strict {
    /// No container is started.
    On,
    /// A warning is printed.
    Off,
}

/// Runs the builder; its arguments are this name and the number of a socket.
pub(crate) fn builder(args: &[OsString]) -> ExitCode {
    builder::main(args)
}

/// Runs a container to its end and returns the exit code of its program.
pub(crate) fn launch(spec: Spec, cgroup: &Decision, store: &Store, strict: Strict) -> Result<u8> {
    // Nothing that the caller left open may reach the container.
    sys::process::close_range_on_exec(3).step("close descriptors")?;
    supervise::block_signals()?;
    let identity = spec.identity.clone();
    let container = store.create(&spec.id, &identity)?;
    let mut cgroups = Cgroups::default();
    let outcome = prepare(&container, &spec)
        .and_then(|()| limit(&container, cgroup, strict))
        .and_then(|made| {
            cgroups = made;
            parent::run(&spec, &cgroups, strict)
        });
    cgroups.remove();
    best_effort("clear the container's state", container.clear(&identity));
    outcome
}

/// Makes the directories that the container needs on the host.
fn prepare(container: &Container, spec: &Spec) -> Result<()> {
    container.make_dirs()?;
    let Upper::Kept { upper, work } = &spec.root.upper else { return Ok(()) };
    std::fs::create_dir(work).map_err(|e| {
        Error::new("create work directory", e)
            .at(work)
            .hint_if(nix::errno::Errno::EEXIST, "another container uses this upper directory")
    })?;
    container.note(Elsewhere::Directory, Path::new(work))?;
    match std::fs::create_dir(upper) {
        Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        r => r.step_at("create upper directory", upper),
    }
}

/// Makes the cgroups, and notes them for a start after a kill.
fn limit(container: &Container, decision: &Decision, strict: Strict) -> Result<Cgroups> {
    for group in &decision.groups {
        container.note(Elsewhere::Cgroup, &group.path)?;
    }
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
