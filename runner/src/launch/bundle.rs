//! Creates a bundle's container, begins its program, and starts further programs in it: each is a command
//! of its own that ends when it is done, and nobody watches the container but who asked for it.

use std::io::IoSlice;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use nix::sys::signal::{Signal, kill};
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use nix::sys::wait::waitpid;
use nix::unistd::Pid;

use crate::cgroup::Cgroups;
use crate::error::{Context, Error, Result};
use crate::identity;
use crate::launch::join::{self, Beforehand};
use crate::launch::parent::Work;
use crate::launch::streams::{Streams, User};
use crate::launch::supervise::{self, Watched, Watching};
use crate::launch::sync::{Channel, ToContainer, ToSupervisor};
use crate::launch::{Entering, enter, parent};
use crate::spec::{Identity, Shim, Spec, Stdin, Strict};

/// What a container is created from, and who hears of what happens.
pub(crate) struct Creation<'a> {
    /// What is built.
    pub(crate) spec: Spec,
    /// What is done before its users are entered.
    pub(crate) before: Beforehand,
    /// Where its first process waits to be told to begin.
    pub(crate) socket: UnixListener,
    /// What each process that builds it keeps open, the first one until it is noted: whoever finds a
    /// container that was not built to the end can wait for them.
    pub(crate) held: OwnedFd,
    /// Who gets its terminal.
    pub(crate) console: Console,
    /// Told the number of the first process.
    pub(crate) on_first: &'a mut dyn FnMut(i32) -> Result<()>,
    /// Runs hooks outside, for the container whose first process has this number.
    pub(crate) on_hooks: &'a mut dyn FnMut(i32) -> Result<()>,
    /// Told what is weaker than asked for.
    pub(crate) warn: &'a dyn Fn(&str),
    /// How many descriptors from 3 on are the program's.
    pub(crate) kept: u32,
}

/// Who gets the terminal of a program.
#[derive(Debug)]
pub(crate) enum Console {
    /// It has none.
    None,
    /// Whoever listens at a socket.
    Socket(UnixStream, Option<sys::tty::Size>),
    /// We ourselves.
    Ours(Option<OwnedFd>),
}

impl Console {
    /// Takes the end of the terminal that isn't the program's.
    fn take(&mut self, master: OwnedFd) -> Result<()> {
        match self {
            Console::None => Err(Error::new("terminal", "nobody asked for one")),
            Console::Ours(place) => {
                *place = Some(master);
                Ok(())
            }
            Console::Socket(socket, size) => {
                if let Some(size) = size {
                    sys::tty::set_size(&master, *size).step("set the terminal's size")?;
                }
                let rights = [master.as_raw_fd()];
                let rights = [ControlMessage::ScmRights(&rights)];
                // The name is for people; receivers want at least a byte.
                let name = [IoSlice::new(b"/dev/ptmx")];
                sendmsg::<()>(socket.as_raw_fd(), &name, &rights, MsgFlags::MSG_NOSIGNAL, None)
                    .step("send the terminal to --console-socket")
                    .map(drop)
            }
        }
    }

    /// Returns the terminal, if it is ours.
    pub(crate) fn ours(self) -> Option<OwnedFd> {
        match self {
            Console::Ours(master) => master,
            Console::None | Console::Socket(..) => None,
        }
    }
}

/// How far a container has come.
#[derive(Default)]
struct Progress {
    /// Its first process, once the builder has told of it, which that process may overtake.
    first: Option<i32>,
    /// Whether hooks are waited for.
    hooks: bool,
    /// Whether the first process waits to begin.
    ready: bool,
}

/// Creates the container; returns the number of its first process, which waits, and the terminal.
///
/// # Errors
/// It can't be built; none of its processes is left then.
pub(crate) fn create(mut creation: Creation<'_>) -> Result<(i32, Console)> {
    sys::process::close_range_on_exec(3 + creation.kept).step("close descriptors")?;
    let failed = |e| Error::new("start a process", e);
    let Creation { spec, before, held, .. } = &creation;
    let (mut channel, builder) =
        parent::fork(0, Work::Build, failed, |channel| join::join(channel, spec, before, held))?;
    let mut progress = Progress::default();
    let built = build(&mut creation, &mut channel, builder, &mut progress);
    match (built, progress.first) {
        (Ok(()), Some(first)) => {
            wait_for(builder)?;
            Ok((first, creation.console))
        }
        (built, _) => {
            end_children();
            built.and_then(|()| Err(Error::new("build the container", "it has no process")))
        }
    }
}

fn build(
    creation: &mut Creation<'_>,
    channel: &mut Channel,
    builder: i32,
    progress: &mut Progress,
) -> Result<()> {
    loop {
        let (message, fds) = channel.expect()?;
        match message {
            ToSupervisor::Unmapped => {
                if let Identity::Mapped(maps) = &creation.spec.identity {
                    identity::write_maps(builder, maps)?;
                }
                channel.send(&ToContainer::Mapped)?;
            }
            ToSupervisor::Opened { root, mounts } => {
                let held = creation.held.as_raw_fd();
                join::opened(&mut creation.spec, root, held, &mounts);
                channel.send_fd(&creation.spec, creation.socket.as_fd())?;
            }
            ToSupervisor::First { pid } => {
                progress.first = Some(pid);
                (creation.on_first)(pid)?;
            }
            ToSupervisor::Terminal => take_terminal(&mut creation.console, fds)?,
            ToSupervisor::Hooks => progress.hooks = true,
            ToSupervisor::Ready => progress.ready = true,
            ToSupervisor::Weaker(text) => (creation.warn)(&text),
            ToSupervisor::Failed(e) => return Err(e),
            ToSupervisor::Daemon { .. } | ToSupervisor::Calls => return Err(strange()),
        }
        let Some(first) = progress.first else { continue };
        if std::mem::take(&mut progress.hooks) {
            (creation.on_hooks)(first)?;
            channel.send(&ToContainer::Hooked)?;
        }
        if progress.ready {
            // From here on it doesn't end with us.
            let gone = |_| Error::new("create the container", "its first process has just ended");
            return channel.send(&ToContainer::Noted).map_err(gone);
        }
    }
}

fn strange() -> Error {
    Error::new("build the container", "a message of another kind came")
}

fn take_terminal(console: &mut Console, fds: Vec<OwnedFd>) -> Result<()> {
    let master = fds.into_iter().next();
    console.take(master.ok_or_else(|| Error::new("terminal", "none came"))?)
}

fn wait_for(pid: i32) -> Result<()> {
    waitpid(Pid::from_raw(pid), None).step("wait for the builder").map(drop)
}

/// Ends what was started for a container that can't be built, and waits until it is gone.
fn end_children() {
    let me = std::process::id();
    let list = std::fs::read_to_string(format!("/proc/self/task/{me}/children"));
    for pid in list.unwrap_or_default().split_whitespace().filter_map(|p| p.parse::<i32>().ok()) {
        // Children of ours that were not waited for: the numbers are still theirs.
        match kill(Pid::from_raw(pid), Signal::SIGKILL)
            .and_then(|()| waitpid(Pid::from_raw(pid), None))
        {
            Ok(_) | Err(_) => {}
        }
    }
}

/// What a program is begun with.
pub(crate) struct Beginning<'a> {
    /// Where the container's first process waits.
    pub(crate) socket: &'a Path,
    /// Told what is weaker than asked for.
    pub(crate) warn: &'a dyn Fn(&str),
    /// Gets the descriptor at which calls of the program are answered.
    pub(crate) on_calls: &'a mut dyn FnMut(OwnedFd) -> Result<()>,
}

/// Lets the program begin, and returns when it has.
pub(crate) fn begin(beginning: Beginning<'_>) -> Result<()> {
    let socket = UnixStream::connect(beginning.socket).step("reach the container")?;
    let mut channel = Channel::of(socket);
    channel.send(&ToContainer::Begin)?;
    // Its end is closed as the program is executed.
    while let Some((message, fds)) = channel.receive()? {
        match message {
            ToSupervisor::Weaker(text) => (beginning.warn)(&text),
            ToSupervisor::Failed(e) => return Err(e),
            ToSupervisor::Calls => {
                let listener = fds.into_iter().next();
                (beginning.on_calls)(listener.ok_or_else(strange)?)?;
            }
            _ => return Err(strange()),
        }
    }
    Ok(())
}

/// A further program of a container, and who hears of what happens.
pub(crate) struct Further<'a> {
    /// Where, and what.
    pub(crate) entering: Entering,
    /// Who gets its terminal.
    pub(crate) console: Console,
    /// Told what is weaker than asked for.
    pub(crate) warn: &'a dyn Fn(&str),
    /// Gets the descriptor at which calls of the program are answered, and the program's number.
    pub(crate) on_calls: &'a mut dyn FnMut(OwnedFd, i32) -> Result<()>,
}

/// Starts a further program in a container; returns its number, and the terminal.
pub(crate) fn start_further(mut further: Further<'_>) -> Result<(i32, Console)> {
    let kept = further.entering.process.more.kept;
    sys::process::close_range_on_exec(3 + kept).step("close descriptors")?;
    let (mut channel, helper) = parent::start_to_enter(further.entering.first.pid)?;
    let mut pid = None;
    let outcome = enter::introduce(&mut channel, &further.entering)
        .and_then(|()| hear_of_program(&mut further, &mut channel, &mut pid));
    match (outcome, pid) {
        (Ok(()), Some(pid)) => {
            wait_for(helper)?;
            Ok((pid, further.console))
        }
        (outcome, _) => {
            end_children();
            outcome.and_then(|()| Err(Error::new("exec", "the container has just ended")))
        }
    }
}

fn hear_of_program(
    further: &mut Further<'_>,
    channel: &mut Channel,
    pid: &mut Option<i32>,
) -> Result<()> {
    let mut listener = None;
    while let Some((message, fds)) = channel.receive()? {
        match message {
            ToSupervisor::First { pid: theirs } => *pid = Some(theirs),
            ToSupervisor::Terminal => take_terminal(&mut further.console, fds)?,
            ToSupervisor::Weaker(text) => (further.warn)(&text),
            ToSupervisor::Failed(e) => return Err(e),
            ToSupervisor::Calls => {
                listener = Some(fds.into_iter().next().ok_or_else(strange)?);
            }
            _ => return Err(strange()),
        }
        // The two come from different processes, in any order.
        if let Some(pid) = *pid
            && let Some(listener) = listener.take()
        {
            (further.on_calls)(listener, pid)?;
        }
    }
    Ok(())
}

/// Prepares to attend to a process, before it is started.
pub(crate) fn prepare_to_attend() -> Result<()> {
    supervise::block_signals()
}

/// Forwards signals to a process of ours, carries its terminal, and returns its exit code.
pub(crate) fn attend(pid: i32, terminal: Option<OwnedFd>) -> Result<u8> {
    let watching = Watching {
        stdin: Stdin::Inherited,
        strict: Strict::Off,
        trace: None,
        declared: Shim::default(),
        network: None,
        container: None,
    };
    let cgroups = Cgroups::default();
    let streams = Streams::new(User::Here);
    let watched = Watched::new(watching, &cgroups, streams, Box::new(|_, _| Ok(())));
    watched.attend(pid, terminal)?.outcome
}
