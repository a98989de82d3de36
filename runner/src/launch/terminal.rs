//! Carries bytes between the user's terminal and the container's.

use std::io::{IsTerminal, Write};
use std::os::fd::{AsFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::termios::{SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr};
use nix::unistd::{read, write};

use crate::error::{Context, Result, best_effort};
use crate::spec::Stdin;

/// What is carried at once.
const CHUNK: usize = 8192;
/// Ctrl-D: what says "end of input" on a terminal.
const END_OF_INPUT: u8 = 4;

/// The two terminals.
pub(super) struct Relay {
    master: OwnedFd,
    /// Read from the user, not yet taken by the container.
    pending: Vec<u8>,
    stdin: std::io::Stdin,
    input: Input,
    _raw: Option<RawMode>,
}

/// Whether there may be more input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Input {
    Open,
    Ended,
}

impl Relay {
    /// Begins to carry. Where the user sits at a terminal, every key is the container's from here
    /// on.
    pub(super) fn new(master: OwnedFd, stdin: Stdin) -> Result<Relay> {
        let flags = fcntl(&master, FcntlArg::F_GETFL).step("use the terminal")?;
        let flags = OFlag::from_bits_retain(flags) | OFlag::O_NONBLOCK;
        fcntl(&master, FcntlArg::F_SETFL(flags)).step("use the terminal")?;
        let at_terminal = std::io::stdin().is_terminal();
        let (input, raw) = match stdin {
            Stdin::Inherited if at_terminal => (Input::Open, Some(RawMode::enter()?)),
            Stdin::Inherited => (Input::Open, None),
            Stdin::Null => (Input::Ended, None),
        };
        let relay =
            Relay { master, pending: Vec::new(), stdin: std::io::stdin(), input, _raw: raw };
        relay.resize();
        Ok(relay)
    }

    /// Gives the container's terminal the size of the user's.
    pub(super) fn resize(&self) {
        let user = sys::tty::size(std::io::stdout()).or_else(|_| sys::tty::size(std::io::stdin()));
        // Without a terminal there is no size.
        if let Ok(size) = user {
            best_effort("set the terminal's size", sys::tty::set_size(&self.master, size));
        }
    }

    /// Returns what to wait for.
    pub(super) fn poll_fds(&self) -> Vec<PollFd<'_>> {
        let mut events = PollFlags::POLLIN;
        if !self.pending.is_empty() {
            events |= PollFlags::POLLOUT;
        }
        let mut fds = vec![PollFd::new(self.master.as_fd(), events)];
        if self.input == Input::Open && self.pending.is_empty() {
            fds.push(PollFd::new(self.stdin.as_fd(), PollFlags::POLLIN));
        }
        fds
    }

    /// Carries what there is, in both directions.
    pub(super) fn carry(&mut self) -> Result<()> {
        self.output()?;
        if self.input == Input::Open && self.pending.is_empty() && self.has_input() {
            let mut buf = [0u8; CHUNK];
            match read(std::io::stdin(), &mut buf) {
                Ok(0) | Err(Errno::EIO) => {
                    self.input = Input::Ended;
                    self.pending.push(END_OF_INPUT);
                }
                Ok(n) => self.pending.extend_from_slice(buf.get(..n).unwrap_or_default()),
                Err(Errno::EAGAIN | Errno::EINTR) => {}
                Err(e) => return Err(e).step("read standard input"),
            }
        }
        if !self.pending.is_empty() {
            match write(&self.master, &self.pending) {
                Ok(n) => drop(self.pending.drain(..n)),
                Err(Errno::EAGAIN | Errno::EINTR) => {}
                // The program has closed its terminal.
                Err(_) => self.input = Input::Ended,
            }
        }
        Ok(())
    }

    /// Whether a read of standard input would not wait.
    fn has_input(&self) -> bool {
        let mut fds = [PollFd::new(self.stdin.as_fd(), PollFlags::POLLIN)];
        matches!(poll(&mut fds, PollTimeout::ZERO), Ok(1..))
    }

    /// Carries the rest of the output.
    pub(super) fn finish(&mut self) {
        best_effort("carry the terminal's output", self.output());
    }

    fn output(&self) -> Result<()> {
        let mut buf = [0u8; CHUNK];
        loop {
            match read(&self.master, &mut buf) {
                Ok(0) | Err(Errno::EAGAIN) => return Ok(()),
                Ok(n) => {
                    let mut out = std::io::stdout().lock();
                    out.write_all(buf.get(..n).unwrap_or_default()).step("write output")?;
                    out.flush().step("write output")?;
                }
                Err(Errno::EINTR) => {}
                // Nobody has the other end open: not yet, or not any more.
                Err(_) => return Ok(()),
            }
        }
    }
}

/// Puts the user's terminal back when dropped.
struct RawMode(Termios);

impl RawMode {
    fn enter() -> Result<RawMode> {
        let before = tcgetattr(std::io::stdin()).step("read the terminal's mode")?;
        let mut raw = before.clone();
        cfmakeraw(&mut raw);
        tcsetattr(std::io::stdin(), SetArg::TCSADRAIN, &raw).step("set the terminal's mode")?;
        Ok(RawMode(before))
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        let restored = tcsetattr(std::io::stdin(), SetArg::TCSADRAIN, &self.0);
        best_effort("restore the terminal's mode", restored);
    }
}
