//! The supervisor while the container lives: takes messages, forwards signals, carries the
//! terminal's bytes, reaps; and leaves nothing behind.

use std::os::fd::{AsFd, OwnedFd};

use daemon::idle::Idle;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid, waitpid};
use nix::unistd::Pid;

use crate::cgroup::Cgroups;
use crate::error::{Context, Error, Result, best_effort, warn};
use crate::launch::answers::Answers;
use crate::launch::child::signal_code;
use crate::launch::network::Network;
use crate::launch::streams::Streams;
use crate::launch::sync::{Channel, ToContainer, ToSupervisor};
use crate::launch::trace::Trace;
use crate::rootfs::daemon::Program;
use crate::rootfs::shim;
use crate::spec::{self, Shim, Stdin, Strict, Upper};

/// Milliseconds that a daemon gets to write back a root that is kept, once its mount is gone.
const WRITE_BACK_MS: u16 = 10_000;

/// Code of a program that touched memory whose file could not be read.
const BUS_ERROR: i32 = 128 + 7;
/// Milliseconds within which the end of a daemon that caused it is seen.
const BUS_ERROR_MS: u16 = 500;

/// Milliseconds that a daemon gets to wait for its workers, which are killed.
const WORKERS_MS: u16 = 1_000;

/// Signals that the supervisor takes itself; all but SIGCHLD and SIGWINCH are the program's.
const TAKEN: [Signal; 9] = [
    Signal::SIGCHLD,
    Signal::SIGWINCH,
    Signal::SIGHUP,
    Signal::SIGINT,
    Signal::SIGQUIT,
    Signal::SIGTERM,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
    Signal::SIGALRM,
];

/// Blocks the signals that the supervisor takes by a descriptor, before it has a child.
pub(super) fn block_signals() -> Result<()> {
    taken().thread_block().step("block signals")
}

fn taken() -> SigSet {
    TAKEN.into_iter().collect()
}

/// A child that serves a file system.
#[derive(Debug)]
struct Served {
    name: String,
    pid: i32,
    alive: bool,
}

/// How a container ended.
pub(crate) struct End {
    /// The code to end with; an error where the container could not be made or kept.
    pub(crate) outcome: Result<u8>,
    /// Processes that the kernel killed as the memory limit was reached.
    pub(crate) memory_kills: u64,
    /// When the program was started, if it came to that.
    pub(crate) ran: bool,
    /// Whoever follows: to be told when all is written down.
    pub(crate) streams: Streams,
}

/// What is told when the program has been started: its first process, and the daemons.
pub(super) type OnStart<'a> = Box<dyn FnMut(i32, Vec<(String, i32)>) -> Result<()> + 'a>;

/// What there is to watch.
pub(super) struct Watching {
    /// What the program reads.
    pub(super) stdin: Stdin,
    /// Whether something weaker is an error.
    pub(super) strict: Strict,
    /// When the command was started, if steps are timed.
    pub(super) trace: Option<u64>,
    /// Limits that no cgroup holds.
    pub(super) declared: Shim,
    /// Who translates between networks.
    pub(super) network: Option<Network>,
    /// The container's first process, whose figures are told, where it runs already.
    pub(super) container: Option<i32>,
}

/// The container's processes, as far as the supervisor is their parent.
pub(super) struct Watched<'a> {
    builder: Option<i32>,
    daemons: Vec<Served>,
    first: Option<(i32, OwnedFd)>,
    /// Number of the first process, also once it has ended.
    first_pid: Option<i32>,
    /// Whether a signal ended the start.
    is_cancelled: bool,
    /// Code that the first process ended with.
    code: Option<i32>,
    failure: Option<Error>,
    streams: Streams,
    stdin: Stdin,
    strict: Strict,
    trace: Trace,
    cgroups: &'a Cgroups,
    on_start: OnStart<'a>,
    ran: bool,
    /// Where calls are answered, until we know whose they are.
    listener: Option<OwnedFd>,
    answers: Option<Answers>,
    declared: Shim,
    network: Option<Network>,
    container: Option<i32>,
    idle: Idle,
}

impl<'a> Watched<'a> {
    /// Begins with nothing.
    pub(super) fn new(
        watching: Watching,
        cgroups: &'a Cgroups,
        streams: Streams,
        on_start: OnStart<'a>,
    ) -> Watched<'a> {
        Watched {
            builder: None,
            daemons: Vec::new(),
            first: None,
            first_pid: None,
            is_cancelled: false,
            code: None,
            failure: None,
            streams,
            stdin: watching.stdin,
            strict: watching.strict,
            trace: Trace::new(watching.trace),
            cgroups,
            on_start,
            ran: false,
            listener: None,
            answers: None,
            declared: watching.declared,
            network: watching.network,
            container: watching.container,
            idle: Idle::default(),
        }
    }

    /// Begins with the builder.
    pub(super) fn begin(mut self, builder: i32) -> Watched<'a> {
        self.builder = Some(builder);
        self
    }

    /// Makes the program's streams, as far as they are ours to carry.
    pub(super) fn prepare_streams(&mut self, who: spec::Streams) -> Result<Vec<OwnedFd>> {
        match who {
            spec::Streams::Supervisor => self.streams.pipes(self.stdin),
            spec::Streams::Caller => Ok(Vec::new()),
        }
    }

    /// Watches until the program has ended and no process is left.
    pub(super) fn until_the_end(
        mut self,
        channel: Channel,
        upper: &Upper,
        introduced: Result<()>,
    ) -> Result<End> {
        let mut channel = Some(channel);
        if let Err(e) = introduced.and_then(|()| self.watch(&mut channel)) {
            self.fail(e);
        }
        self.conclude(channel, upper)
    }

    /// Ends what is left, and says how it ended.
    fn conclude(mut self, channel: Option<Channel>, upper: &Upper) -> Result<End> {
        best_effort("end the container", self.end_all_but_daemons(channel));
        self.streams.finish();
        self.trace.done("the program has ended");
        if let Some(network) = self.network.take() {
            network.end();
        }
        self.end_daemons(upper);
        let memory_kills = self.cgroups.memory_kills();
        if memory_kills > 0 {
            warn(format_args!(
                "the memory limit was reached: the kernel killed {memory_kills} process(es)"
            ));
        }
        self.trace.done("the daemons have ended");
        // What fails after a signal that ends the start follows from it.
        let failure = self.failure.filter(|_| !self.is_cancelled);
        let outcome = match (failure, self.code) {
            (Some(e), _) => Err(e),
            (None, Some(code)) => Ok(u8::try_from(code & 0xff).unwrap_or(u8::MAX)),
            (None, None) => Err(Error::new("build the container", "the builder ended early")),
        };
        Ok(End { outcome, memory_kills, ran: self.ran, streams: self.streams })
    }

    /// Watches a container that was built already until it has ended; `terminal` is the one that its
    /// program has, if we carry it.
    pub(super) fn attend(mut self, first: i32, terminal: Option<OwnedFd>) -> Result<End> {
        let pidfd = sys::process::pidfd_open(first).step("watch the container")?;
        self.first = Some((first, pidfd));
        self.first_pid = Some(first);
        self.ran = true;
        if let Some(master) = terminal {
            self.streams.terminal(master, self.stdin)?;
        }
        let watched = self.watch(&mut None);
        if let Err(e) = watched {
            self.fail(e);
        }
        self.conclude(None, &Upper::Scratch)
    }

    /// Writes down that the program runs.
    fn started(&mut self) {
        self.trace.done("the program is started");
        let Some(first) = self.first_pid else { return };
        if self.failure.is_some() || self.is_cancelled || self.ran {
            return;
        }
        self.ran = true;
        let daemons = self.daemons.iter().map(|d| (d.name.clone(), d.pid)).collect();
        if let Err(e) = (self.on_start)(first, daemons) {
            self.fail(e);
        }
    }

    fn watch(&mut self, channel: &mut Option<Channel>) -> Result<()> {
        let signals =
            SignalFd::with_flags(&taken(), SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
                .step("take signals")?;
        loop {
            let (signalled, spoken) = self.wait(&signals, channel.as_ref())?;
            if spoken && let Some(open) = channel {
                match open.receive()? {
                    Some((message, fds)) => {
                        if self.hear(message, fds)? == Heard::NetworkIsReady {
                            open.send(&ToContainer::Network)?;
                        }
                    }
                    None => {
                        *channel = None;
                        self.started();
                    }
                }
            }
            if signalled {
                self.take_signals(&signals)?;
            }
            // Not only when told: a child may have ended before we heard of it.
            self.reap()?;
            self.streams.carry()?;
            if let Some(answers) = &mut self.answers {
                answers.answer();
                if answers.is_over() {
                    self.answers = None;
                }
            }
            let nothing_comes = self.first.is_none() && self.builder.is_none();
            if self.code.is_some() || self.failure.is_some() || (nothing_comes && channel.is_none())
            {
                return Ok(());
            }
        }
    }

    /// Sleeps until something happens; returns whether signals and messages wait.
    fn wait(&mut self, signals: &SignalFd, channel: Option<&Channel>) -> Result<(bool, bool)> {
        let mut fds = vec![PollFd::new(signals.as_fd(), PollFlags::POLLIN)];
        if let Some(channel) = channel {
            fds.push(PollFd::new(channel.fd()?, PollFlags::POLLIN));
        }
        fds.extend(self.streams.poll_fds());
        fds.extend(self.answers.as_ref().map(Answers::poll_fd));
        let hung = self.streams.patience();
        loop {
            let quiet = self.idle.patience().and_then(|p| PollTimeout::try_from(p).ok());
            match poll(&mut fds, hung.or(quiet).unwrap_or(PollTimeout::NONE)) {
                Ok(0) if hung.is_none() => self.idle.begin(),
                Ok(_) => {
                    self.idle.end();
                    break;
                }
                Err(Errno::EINTR) => return Ok((false, false)),
                Err(e) => return Err(Error::new("wait for the container", e)),
            }
        }
        let ready = |n: usize| fds.get(n).and_then(PollFd::any).unwrap_or(false);
        Ok((ready(0), channel.is_some() && ready(1)))
    }

    fn hear(&mut self, message: ToSupervisor, fds: Vec<OwnedFd>) -> Result<Heard> {
        let fd = fds.into_iter().next();
        match message {
            ToSupervisor::Daemon { name, pid } => {
                self.daemons.push(Served { name, pid, alive: true });
            }
            ToSupervisor::First { pid } => {
                let pidfd = sys::process::pidfd_open(pid).step("watch the container")?;
                self.first = Some((pid, pidfd));
                self.first_pid = Some(pid);
                if let Some(network) = &mut self.network {
                    network.begin(pid)?;
                    return Ok(Heard::NetworkIsReady);
                }
            }
            ToSupervisor::Terminal => {
                if let Some(master) = fd {
                    self.streams.terminal(master, self.stdin)?;
                }
            }
            ToSupervisor::Calls => {
                self.listener = fd;
            }
            ToSupervisor::Unmapped
            | ToSupervisor::Opened { .. }
            | ToSupervisor::Hooks
            | ToSupervisor::Ready => {
                self.fail(Error::new("build the container", "a message of another kind came"));
            }
            ToSupervisor::Weaker(text) if self.strict == Strict::On => {
                self.fail(Error::new("--strict", text));
            }
            ToSupervisor::Weaker(text) => warn(text),
            ToSupervisor::Failed(e) => self.fail(e),
        }
        // The two come from different processes, in any order.
        let whose = self.container.or(self.first.as_ref().map(|(first, _)| *first));
        if let Some(whose) = whose
            && let Some(listener) = self.listener.take()
        {
            self.answers = Some(Answers::new(listener, whose, self.declared)?);
        }
        Ok(Heard::Nothing)
    }

    /// Keeps the first failure: later ones follow from it.
    fn fail(&mut self, e: Error) {
        self.failure.get_or_insert(e);
    }

    fn take_signals(&mut self, signals: &SignalFd) -> Result<()> {
        while let Some(info) = signals.read_signal().step("take a signal")? {
            let number = info.ssi_signo as i32;
            match Signal::try_from(number) {
                Ok(Signal::SIGCHLD) => {}
                Ok(Signal::SIGWINCH) if self.streams.has_terminal() => self.streams.resize(),
                Ok(_) => self.forward(number),
                Err(_) => {}
            }
        }
        Ok(())
    }

    /// Gives a signal to the container's first process; before there is one, it ends the start.
    fn forward(&mut self, signal: i32) {
        match &self.first {
            Some((_, pidfd)) => match sys::process::pidfd_send_signal(pidfd, signal) {
                Ok(()) | Err(Errno::ESRCH) => {}
                Err(e) => warn(Error::new("forward a signal", e)),
            },
            None => {
                self.is_cancelled = true;
                self.code = Some(signal_code(signal));
            }
        }
    }

    /// Takes the status of the children that have ended, of those that we have heard of: the status
    /// of another must wait until we know whose it is.
    fn reap(&mut self) -> Result<()> {
        let mut known: Vec<i32> = self.first.iter().map(|f| f.0).chain(self.builder).collect();
        known.extend(self.daemons.iter().filter(|d| d.alive).map(|d| d.pid));
        for pid in known {
            match waitpid(Pid::from_raw(pid), Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::StillAlive) | Err(Errno::EINTR) => {}
                Ok(status) => self.ended(status),
                Err(e) => return Err(Error::new("wait for the container", e)),
            }
        }
        Ok(())
    }

    fn ended(&mut self, status: WaitStatus) {
        let (pid, code, was_killed) = match status {
            WaitStatus::Exited(pid, code) => (pid.as_raw(), code, false),
            WaitStatus::Signaled(pid, signal, _) => {
                (pid.as_raw(), signal_code(signal as i32), true)
            }
            _ => return,
        };
        if self.first.as_ref().is_some_and(|(first, _)| *first == pid) {
            self.code.get_or_insert(code);
            self.first = None;
        } else if self.builder == Some(pid) {
            self.builder = None;
        } else if let Some(served) = self.daemons.iter_mut().find(|d| d.pid == pid) {
            served.alive = false;
            let name = served.name.clone();
            // At the end a daemon goes by itself, and may be seen to do so first; one that was killed
            // may have taken the program along, which may be seen first.
            if code == 0 || (self.code.is_some() && !was_killed) {
                return;
            }
            let what = format!("it ended with status {code} while the container needed it");
            // Nothing of the container stands on its figures.
            if name == shim::NAME && self.ran && self.strict == Strict::Off {
                warn(format_args!("{name}: {what}: its files of /proc and /sys can't be read now"));
            } else {
                self.fail(Error::new(name, what));
            }
        }
    }

    /// Ends the builder and the container, and waits for them.
    fn end_all_but_daemons(&mut self, channel: Option<Channel>) -> Result<()> {
        if let Some(pid) = self.builder {
            // It is our child and was not waited for: the number is still its.
            match kill(Pid::from_raw(pid), Signal::SIGKILL) {
                Ok(()) | Err(_) => {}
            }
            self.wait_for(pid)?;
            self.end_unheard_of();
        }
        self.kill_first();
        // What was said meanwhile: a failure, or of a first process that the builder had just started.
        let mut channel = channel;
        while let Some(open) = &mut channel {
            match open.receive()? {
                // Of one that was killed above, the number means nothing any more.
                Some((ToSupervisor::First { pid }, _)) if !is_child(pid) => {}
                Some((ToSupervisor::Daemon { pid, .. }, _)) if !is_child(pid) => {}
                Some((message, fds)) => self.hear(message, fds).map(drop)?,
                None => {
                    channel = None;
                    self.started();
                }
            }
            self.kill_first();
        }
        match self.first.as_ref().map(|f| f.0) {
            Some(pid) => self.wait_for(pid),
            None => Ok(()),
        }
    }

    /// Kills the children that the builder started and could not tell of any more.
    fn end_unheard_of(&self) {
        for pid in children(std::process::id() as i32) {
            let known = self.first.as_ref().is_some_and(|(first, _)| *first == pid)
                || self.daemons.iter().any(|d| d.pid == pid);
            if !known {
                end_with_workers(&[pid]);
            }
        }
    }

    /// Kills the first process, and with it all of its pid namespace.
    fn kill_first(&self) {
        if let Some((_, pidfd)) = &self.first {
            match sys::process::pidfd_send_signal(pidfd, Signal::SIGKILL as i32) {
                Ok(()) | Err(_) => {}
            }
        }
    }

    fn wait_for(&mut self, pid: i32) -> Result<()> {
        loop {
            match waitpid(Pid::from_raw(pid), None) {
                Ok(status) => {
                    self.ended(status);
                    return Ok(());
                }
                Err(Errno::EINTR) => {}
                Err(e) => return Err(Error::new("wait for the container", e)),
            }
        }
    }

    /// Ends the daemons. With the container its mounts are gone, so each ends by itself; only where
    /// the changes are kept is there anything to wait for.
    fn end_daemons(&mut self, upper: &Upper) {
        let keep = *upper != Upper::Scratch;
        if self.code == Some(BUS_ERROR) {
            self.find_killed_daemon();
        }
        let mut others = Vec::new();
        for served in self.daemons.iter().filter(|d| d.alive) {
            let writes_back = keep && served.name == Program::Unionfs.name();
            if writes_back && ends_by_itself(served.pid) {
                best_effort("wait for a daemon", waitpid(Pid::from_raw(served.pid), None));
            } else {
                others.push(served.pid);
            }
        }
        end_with_workers(&others);
    }
}

impl Watched<'_> {
    /// Looks for a daemon whose end may be why the program lost its memory: a killed one lets go of its
    /// files a moment before its end can be seen.
    fn find_killed_daemon(&mut self) {
        let alive: Vec<i32> = self.daemons.iter().filter(|d| d.alive).map(|d| d.pid).collect();
        for pid in alive {
            if sys::process::pidfd_open(pid).is_ok_and(|p| has_ended(&p, BUS_ERROR_MS))
                && let Ok(status) = waitpid(Pid::from_raw(pid), Some(WaitPidFlag::WNOHANG))
            {
                self.ended(status);
            }
        }
    }
}

/// What follows from a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Heard {
    /// Nothing.
    Nothing,
    /// The first process can go on.
    NetworkIsReady,
}

/// Whether a process is a child of ours that was not waited for.
fn is_child(pid: i32) -> bool {
    let flags = WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT | WaitPidFlag::WEXITED;
    waitid(Id::Pid(Pid::from_raw(pid)), flags).is_ok()
}

/// Returns the children of a process that has one thread.
fn children(pid: i32) -> Vec<i32> {
    let list = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
    list.unwrap_or_default().split_whitespace().filter_map(|p| p.parse().ok()).collect()
}

/// Ends children, all at once, and waits for them. One that has workers waits for those, so that none
/// becomes an orphan.
fn end_with_workers(pids: &[i32]) {
    let send = |pid, signal| match kill(Pid::from_raw(pid), signal) {
        Ok(()) | Err(_) => {}
    };
    let mut with_workers = Vec::new();
    for &pid in pids {
        let workers = children(pid);
        if workers.is_empty() {
            send(pid, Signal::SIGKILL);
            continue;
        }
        // Told first, so that it takes no other worker in the place of the one that is killed.
        send(pid, Signal::SIGTERM);
        workers.into_iter().for_each(|worker| send(worker, Signal::SIGKILL));
        with_workers.push(pid);
    }
    for pid in with_workers {
        // It is a child that was not waited for, so the number is still its.
        if let Ok(pidfd) = sys::process::pidfd_open(pid) {
            has_ended(&pidfd, WORKERS_MS);
        }
        send(pid, Signal::SIGKILL);
    }
    for &pid in pids {
        best_effort("wait for a process", waitpid(Pid::from_raw(pid), None));
    }
}

/// Waits for a child that writes back to end, for a while.
fn ends_by_itself(pid: i32) -> bool {
    let ended = sys::process::pidfd_open(pid).is_ok_and(|p| has_ended(&p, WRITE_BACK_MS));
    if !ended {
        warn("unionfs did not end in time: the last changes may be missing");
    }
    ended
}

/// Waits so many milliseconds for a process to end.
fn has_ended(pidfd: &OwnedFd, patience: u16) -> bool {
    let mut fds = [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)];
    matches!(poll(&mut fds, patience), Ok(1..))
}
