//! `runner cp`.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use clap::Args;
use nix::fcntl::OFlag;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{Pid, dup2_stdin, dup2_stdout, pipe2};
use sys::process::Fork;

use crate::error::{Context, Error, Exit, Result, say};
use crate::launch::{self, Entering, Launch, Purpose, copy};
use crate::plan::{self, Trace, Which};
use crate::spec::{
    Audience, First, Job, Limits, Net, Network, Principal, Request, Stdin, Streams, Strict,
    Sysinfo, Terminal, User,
};
use crate::store::{self, Entry, Keep, Status, Store};

/// Copy files between a container, running or not, and the host: a directory with all that is in it. What is at a
/// directory DST goes into it. Files become the user's, or the container's root's.
#[derive(Debug, Args)]
pub(crate) struct CpArgs {
    /// PATH of the host, or CONTAINER:PATH; a path that ends in /. is what is in the directory
    #[arg(value_name = "SRC")]
    source: String,
    /// PATH of the host, or CONTAINER:PATH
    #[arg(value_name = "DST")]
    target: String,
}

/// One side of a copy.
enum Side<'a> {
    Host(&'a Path),
    Container(&'a str, &'a Path),
}

fn side(text: &str) -> Side<'_> {
    match text.split_once(':') {
        // As with podman, a path before the colon is a path.
        Some((name, path)) if !name.contains('/') && !name.is_empty() && !name.starts_with('.') => {
            Side::Container(name, Path::new(path))
        }
        _ => Side::Host(Path::new(text)),
    }
}

/// Copies.
pub(super) fn cp(args: &CpArgs, state: Option<&Path>) -> Result<u8> {
    let store = Store::choose(state)?;
    match (side(&args.source), side(&args.target)) {
        (Side::Host(from), Side::Container(name, to)) => {
            let entry = store::find(&store, name)?;
            std::fs::symlink_metadata(from).step_at("copy", from)?;
            let from = from.to_path_buf();
            through(&store, entry, Job::Receive(absolute(to)), |ours| {
                copy::send(&from, File::from(ours))
            })
        }
        (Side::Container(name, from), Side::Host(to)) => {
            let entry = store::find(&store, name)?;
            let to = to.to_path_buf();
            through(&store, entry, Job::Send(absolute(from)), |ours| {
                copy::receive(&to, File::from(ours))
            })
        }
        _ => Err(Error::new("cp", "one side is a path, and the other CONTAINER:PATH")
            .hint("such as `runner cp file box:/tmp`")),
    }
}

fn absolute(path: &Path) -> std::ffi::OsString {
    let whole: PathBuf = Path::new("/").join(path);
    whole.into_os_string()
}

/// Has one process do the container's end, and another one the host's.
fn through(
    store: &Store,
    entry: Entry,
    job: Job,
    host: impl FnOnce(OwnedFd) -> Result<()>,
) -> Result<u8> {
    let (read, write) = pipe2(OFlag::O_CLOEXEC).step("make a pipe")?;
    let is_out = matches!(job, Job::Send(_));
    let (ours, theirs) = if is_out { (read, write) } else { (write, read) };
    let child = match sys::process::fork().step("copy")? {
        Fork::Parent(pid) => Pid::from_raw(pid),
        // Who watches the container's end takes every child for one of it, so it has a process of its own.
        Fork::Child => {
            drop(ours);
            let connected = match is_out {
                true => dup2_stdout(&theirs).step("copy"),
                false => dup2_stdin(&theirs).step("copy"),
            };
            drop(theirs);
            let done = connected.and_then(|()| inside(store, entry, job));
            let code = done.unwrap_or_else(|e| {
                say(e);
                Exit::Ours as u8
            });
            std::process::exit(i32::from(code))
        }
    };
    // Without its last end, the stream ends.
    drop(theirs);
    let outside = host(ours);
    let inside = waitpid(child, None).step("copy")?;
    match (outside, inside) {
        (Ok(()), WaitStatus::Exited(_, 0)) => Ok(0),
        // Why was said, and is the cause of what happened here.
        (_, WaitStatus::Exited(_, 1..)) | (Ok(()), _) => Ok(Exit::Ours as u8),
        (Err(e), _) => Err(e),
    }
}

/// Does the container's end: in the container if it runs, else in one that has its files and nothing else.
fn inside(store: &Store, mut entry: Entry, job: Job) -> Result<u8> {
    if entry.status() == Status::Running {
        return launch::exec(entering(&entry, job)?, Audience::Caller, None);
    }
    if entry.record.keep == Keep::Thrown {
        let what = "it isn't running, and keeps nothing until it is (--rm)";
        return Err(Error::new(format!("container {}", entry.name()), what));
    }
    let container = entry.lock()?;
    entry.refresh();
    let mut request = as_root(&entry);
    request.limits = Limits::default();
    request.network = Network { net: Net::None, ports: Vec::new(), ..request.network };
    request.devices.clear();
    let which = Which {
        id: &entry.id,
        store,
        keep: Keep::Kept,
        audience: Audience::Caller,
        trace: Trace::Off,
    };
    let mut planned = plan::plan(&request, which)?;
    planned.spec.process.job = job;
    planned.spec.streams = Streams::Caller;
    planned.spec.shim = None;
    launch::launch(Launch {
        spec: planned.spec,
        cgroup: &planned.cgroup,
        container,
        keep: Keep::Kept,
        strict: Strict::Off,
        state: entry.state,
        audience: Audience::Caller,
        on_start: None,
        purpose: Purpose::Errand,
        builder: None,
    })
}

/// Returns what was asked for of a container, with its root as the user.
fn as_root(entry: &Entry) -> Request {
    let mut request = entry.record.request.clone();
    let root = || Principal::Id(0);
    request.process.user = User { user: root(), group: Some(root()), more: Vec::new() };
    request.process.cwd = "/".into();
    request.process.terminal = Terminal::Inherited;
    request.process.stdin = Stdin::Inherited;
    request.process.first = First::Init;
    request.security.sysinfo = Sysinfo::Kernel;
    request
}

fn entering(entry: &Entry, job: Job) -> Result<Entering> {
    let gone = || Error::new(format!("container {}", entry.name()), "it isn't running");
    let first = entry.state.first.ok_or_else(gone)?;
    let request = as_root(entry);
    let mut process = plan::process_beside(&request, Some(first.pid))?;
    process.job = job;
    Ok(Entering {
        first,
        cgroups: entry.state.cgroups.clone(),
        identity: entry.record.identity.clone(),
        namespaces: launch::own_namespaces(request.network.net, &entry.record.identity),
        declared: plan::declared(&request.limits, &entry.state.cgroups),
        process,
    })
}
