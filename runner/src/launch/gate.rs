//! The moment between `create` and `start` of a bundle's container: its first process has built all, and
//! waits.

use std::ffi::OsStr;
use std::os::fd::{AsFd, OwnedFd};
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
pub(super) fn wait(channel: &mut Channel, socket: &OwnedFd, hooks: &Hooks) -> Result<()> {
    // Whoever made the container ends now.
    prctl::set_pdeathsig(None).step("let the container go")?;
    let ending: SigSet = ENDING.into_iter().collect();
    ending.thread_block().step("block signals")?;
    channel.send(&ToSupervisor::Ready)?;
    channel.close();
    *channel = accept(socket, &ending)?;
    let me = std::process::id() as i32;
    let state = hooks::state(&hooks.state, "created", Some(me));
    hooks::run("startContainer", &hooks.start_container, &state, OsStr::new("/"))
}

/// Takes the connection of who says it.
fn accept(socket: &OwnedFd, ending: &SigSet) -> Result<Channel> {
    let listener = UnixListener::from(socket.try_clone().step("wait to begin")?);
    let signals = SignalFd::with_flags(ending, SfdFlags::SFD_CLOEXEC).step("wait to begin")?;
    loop {
        let mut fds = [
            PollFd::new(listener.as_fd(), PollFlags::POLLIN),
            PollFd::new(signals.as_fd(), PollFlags::POLLIN),
        ];
        match poll(&mut fds, PollTimeout::NONE) {
            Ok(_) => {}
            Err(nix::errno::Errno::EINTR) => continue,
            Err(e) => return Err(Error::new("wait to begin", e)),
        }
        if fds.get(1).and_then(PollFd::any).unwrap_or(false) {
            let signal = signals.read_signal().step("wait to begin")?;
            std::process::exit(signal.map_or(1, |s| signal_code(s.ssi_signo as i32)));
        }
        let (connection, _) = listener.accept().step("wait to begin")?;
        let mut channel = Channel::of(connection);
        // Whoever was killed before it said so may be followed by another.
        if let Ok(Some((ToContainer::Begin, _))) = channel.receive() {
            return Ok(channel);
        }
    }
}

/// Runs the hooks that see the container's namespaces and, still, the host's files.
pub(super) fn inner_hooks(hooks: &Hooks) -> Result<()> {
    let me = std::process::id() as i32;
    let state = hooks::state(&hooks.state, "creating", Some(me));
    hooks::run("createContainer", &hooks.create_container, &state, &hooks.bundle)
}
