//! The moment between `create` and `start` of a bundle's container: its first process has built all, and
//! waits.

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixListener;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::prctl;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use crate::error::{Context, Error, Result};
use crate::launch::child::signal_code;
use crate::launch::hooks;
use crate::launch::sync::{Channel, ToContainer, ToSupervisor};
use crate::spec::Hooks;

/// Signals that end who does nothing about them: the kernel drops them for pid 1, which has to end itself.
const ENDING: [Signal; 7] = [
    Signal::SIGHUP,
    Signal::SIGINT,
    Signal::SIGQUIT,
    Signal::SIGTERM,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
    Signal::SIGALRM,
];

/// Says that all is ready, and waits at the socket until somebody says that the program shall begin, who
/// is told from then on what fails.
/// `held` is open for as long as nobody else may know of us.
///
/// # Errors
/// Whoever makes the container ended before it wrote down that we are there: nobody would find us.
pub(super) fn wait(
    channel: &mut Channel,
    socket: &OwnedFd,
    held: Option<OwnedFd>,
    hooks: &Hooks,
) -> Result<()> {
    // Whoever makes the container ends soon, and well; until it has noted us, the end of the channel
    // says whether it does.
    prctl::set_pdeathsig(None).step("let the container go")?;
    let ending: SigSet = ENDING.into_iter().collect();
    ending.thread_block().step("block signals")?;
    channel.send(&ToSupervisor::Ready)?;
    *channel = Gate::new(socket, &ending)?.pass(channel, held)?;
    let me = std::process::id() as i32;
    let state = hooks::state(&hooks.state, "created", Some(me));
    hooks::run("startContainer", &hooks.start_container, &state, OsStr::new("/"))
}

/// Where the first process waits.
struct Gate {
    listener: UnixListener,
    signals: SignalFd,
}

impl Gate {
    fn new(socket: &OwnedFd, ending: &SigSet) -> Result<Gate> {
        let listener = UnixListener::from(socket.try_clone().step("wait to begin")?);
        let signals = SignalFd::with_flags(ending, SfdFlags::SFD_CLOEXEC).step("wait to begin")?;
        Ok(Gate { listener, signals })
    }

    /// Waits until we are noted, and then until somebody connects, whose connection it returns.
    fn pass(&self, maker: &mut Channel, held: Option<OwnedFd>) -> Result<Channel> {
        self.sleep(maker.fd()?)?;
        let (ToContainer::Noted, _) = maker.expect()? else {
            return Err(Error::new("wait to begin", "a message of another kind came"));
        };
        maker.close();
        drop(held);
        loop {
            self.sleep(self.listener.as_fd())?;
            let (connection, _) = self.listener.accept().step("wait to begin")?;
            let mut channel = Channel::of(connection);
            // Whoever was killed before it said so may be followed by another.
            if let Ok(Some((ToContainer::Begin, _))) = channel.receive() {
                return Ok(channel);
            }
        }
    }

    /// Sleeps until something comes; a signal ends the process.
    fn sleep(&self, something: BorrowedFd<'_>) -> Result<()> {
        loop {
            let mut fds = [
                PollFd::new(something, PollFlags::POLLIN),
                PollFd::new(self.signals.as_fd(), PollFlags::POLLIN),
            ];
            match poll(&mut fds, PollTimeout::NONE) {
                Ok(_) => {}
                Err(nix::errno::Errno::EINTR) => continue,
                Err(e) => return Err(Error::new("wait to begin", e)),
            }
            if fds.get(1).and_then(PollFd::any).unwrap_or(false) {
                let signal = self.signals.read_signal().step("wait to begin")?;
                std::process::exit(signal.map_or(1, |s| signal_code(s.ssi_signo as i32)));
            }
            return Ok(());
        }
    }
}

/// Runs the hooks that see the container's namespaces and, still, the host's files.
pub(super) fn inner_hooks(hooks: &Hooks) -> Result<()> {
    let me = std::process::id() as i32;
    let state = hooks::state(&hooks.state, "creating", Some(me));
    hooks::run("createContainer", &hooks.create_container, &state, &hooks.bundle)
}
