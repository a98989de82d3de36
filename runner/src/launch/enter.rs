//! Starts a program in a running container: `exec`. As at the container's start, a sealed copy of this
//! program does it, so that the container can't get at ours.

use std::os::fd::OwnedFd;

use nix::libc;
use nix::sched::{CloneFlags, setns};
use nix::sys::prctl;
use nix::sys::signal::Signal;
use serde::{Deserialize, Serialize};
use sys::openat::open_at;
use sys::process::{Fork, clone_flags};

use crate::cgroup::{self, Cgroups};
use crate::error::{Context, Error, Result};
use crate::identity;
use crate::launch::apparmor::OnExec;
use crate::launch::child::{bind_cpus, open_pty};
use crate::launch::detach::Started;
use crate::launch::exec::{self, Streams};
use crate::launch::streams::User;
use crate::launch::supervise::{Watched, Watching};
use crate::launch::sync::{Channel, ToSupervisor};
use crate::launch::{Entering, parent, streams};
use crate::spec::{self, Audience, Cgroup, Identity, Process, Strict, Terminal, Upper};
use crate::store::ProcessId;

/// What the helper is told.
#[derive(Debug, Serialize, Deserialize)]
struct Entry {
    cgroups: Vec<Cgroup>,
    identity: Identity,
    /// Namespaces to enter (`sys::process::clone_flags`).
    namespaces: u64,
    process: Process,
    /// Whether the program ends with the command.
    is_tied: bool,
}

/// As [`Entry`], borrowed.
#[derive(Debug, Serialize)]
struct EntryRef<'a> {
    cgroups: &'a [Cgroup],
    identity: &'a Identity,
    namespaces: u64,
    process: &'a Process,
    is_tied: bool,
}

/// Starts the program and watches it to its end.
pub(super) fn run(
    entering: Entering,
    audience: Audience,
    mut on_start: Option<Started>,
) -> Result<u8> {
    let pidfd = open_first(entering.first)?;
    let user = if audience == Audience::Caller { User::Here } else { User::Away };
    let who = match (audience, entering.process.terminal) {
        (Audience::Nobody, Terminal::Inherited) => spec::Streams::Supervisor,
        _ => spec::Streams::Caller,
    };
    let watching = Watching {
        stdin: entering.process.stdin,
        strict: Strict::Off,
        trace: None,
        declared: entering.declared,
        network: None,
        container: Some(entering.first.pid),
    };
    let told = move |_, _| on_start.take().map_or(Ok(()), Started::tell);
    let cgroups = Cgroups::default();
    let streams = streams::Streams::new(user);
    let watched = Watched::new(watching, &cgroups, streams, Box::new(told));
    let (mut channel, pid) = parent::start_to_enter(entering.first.pid)?;
    let mut watched = watched.begin(pid);
    let entry = Entry {
        cgroups: entering.cgroups,
        identity: entering.identity,
        namespaces: entering.namespaces,
        process: entering.process,
        is_tied: audience == Audience::Caller,
    };
    let sent = watched.prepare_streams(who).and_then(|theirs| {
        channel.send_fds(&entry, &[pidfd])?;
        channel.send_fds(&(), &theirs)
    });
    watched.until_the_end(channel, &Upper::Scratch, sent)?.outcome
}

fn open_first(first: ProcessId) -> Result<OwnedFd> {
    let gone = || Error::new("exec", "the container has just ended");
    let pidfd = sys::process::pidfd_open(first.pid).map_err(|_| gone())?;
    // From here on the descriptor can't be another's.
    if ProcessId::of(first.pid) != Some(first) {
        return Err(gone());
    }
    Ok(pidfd)
}

/// Tells the helper what it has to do for a container that nobody watches.
pub(super) fn introduce(channel: &mut Channel, entering: &Entering) -> Result<()> {
    let pidfd = open_first(entering.first)?;
    let entry = EntryRef {
        cgroups: &entering.cgroups,
        identity: &entering.identity,
        namespaces: entering.namespaces,
        process: &entering.process,
        is_tied: false,
    };
    channel.send_fds(&entry, &[pidfd])?;
    channel.send(&())
}

/// Runs the helper.
pub(super) fn main(channel: &mut Channel) -> Result<()> {
    let (entry, fds): (Entry, _) = channel.expect()?;
    let ((), carried) = channel.expect()?;
    let pidfd = fds.into_iter().next().ok_or_else(|| Error::new("exec", "no container"))?;
    // The container must not get at our memory or our program through /proc.
    prctl::set_dumpable(false).step("hide the runner's memory")?;
    prctl::set_name(c"runner-exec").step("name the process")?;
    for cgroup in &entry.cgroups {
        cgroup::join(cgroup)?;
    }
    let on_exec = OnExec::prepare(entry.process.more.apparmor.as_ref())?;
    join(&pidfd, &entry)?;
    on_exec.apply()?;
    bind_cpus(&entry.process.affinity)?;
    drop(pidfd);
    let stdin = entry.process.stdin;
    let streams = match entry.process.terminal {
        Terminal::New => {
            let root = open_at(nix::fcntl::AT_FDCWD, "/".as_ref(), libc::O_PATH, 0)
                .step_at("open", "/")?;
            let (master, terminal) = open_pty(&root)?;
            use std::os::fd::AsFd;
            channel.send_fd(&ToSupervisor::Terminal, master.as_fd())?;
            Streams::Terminal(terminal)
        }
        Terminal::Inherited => Streams::of(carried, stdin),
    };
    match sys::process::clone(clone_flags::PARENT).step("start the program")? {
        Fork::Parent(pid) => channel.send(&ToSupervisor::First { pid }),
        Fork::Child => become_program(channel, &entry, streams),
    }
}

/// Enters the container's namespaces, as its root.
fn join(pidfd: &OwnedFd, entry: &Entry) -> Result<()> {
    let flags = CloneFlags::from_bits_retain(entry.namespaces as i32);
    if !flags.is_empty() {
        setns(pidfd, flags).step("enter the container")?;
    }
    match &entry.identity {
        Identity::Mapped(maps) => identity::become_root(maps),
        Identity::Host => Ok(()),
    }
}

fn become_program(channel: &mut Channel, entry: &Entry, streams: Streams) -> ! {
    let tied = match entry.is_tied {
        true => prctl::set_pdeathsig(Signal::SIGKILL).step("tie the program to the command"),
        false => Ok(()),
    };
    let process = &entry.process;
    let failed = match tied
        .and_then(|()| exec::run(channel, process, &entry.identity, streams, &mut exec::at_once))
    {
        Ok(never) => match never {},
        Err(e) => e,
    };
    let code = failed.exit() as i32;
    match channel.send(&ToSupervisor::Failed(failed)) {
        Ok(()) | Err(_) => std::process::exit(code),
    }
}
