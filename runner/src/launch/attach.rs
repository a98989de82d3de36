//! Follows a running container: `attach`, `wait`, and commands that stop one.

use std::io::{IsTerminal, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::Path;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::unistd::read;

use crate::error::{Context, Error, Result};
use crate::launch::clients::{Frame, connect};
use crate::launch::streams::{show, stdin_fd};
use crate::launch::terminal::RawMode;
use crate::spec::{Stdin, Terminal};
use crate::store::Container;

/// Keys that let go of a container that goes on; none: nothing does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Keys(pub(crate) Vec<u8>);

/// How to follow.
#[derive(Clone, Debug)]
pub(crate) struct Attach {
    /// Whether our standard input is carried.
    pub(crate) stdin: Stdin,
    /// Whether the container has a terminal.
    pub(crate) terminal: Terminal,
    /// What lets go.
    pub(crate) keys: Keys,
}

/// How following ended.
enum Ended {
    /// With the program.
    Program(u8),
    /// By the keys.
    Detached,
}

/// Carries the container's streams until its program ends or the user lets go; returns the exit code.
///
/// # Errors
/// The container isn't running, or its supervisor was killed.
pub(crate) fn attach(dir: &Path, attach: &Attach) -> Result<u8> {
    let socket = open(dir)?;
    let taken: SigSet = [Signal::SIGWINCH].into_iter().collect();
    taken.thread_block().step("block signals")?;
    let signals = SignalFd::with_flags(&taken, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
        .step("take signals")?;
    let carries = attach.stdin == Stdin::Inherited;
    let raw = match carries && attach.terminal == Terminal::New && std::io::stdin().is_terminal() {
        true => Some(RawMode::enter()?),
        false => None,
    };
    let mut follower = Follower {
        socket,
        received: Vec::new(),
        input: carries,
        keys: attach.keys.clone(),
        matched: 0,
    };
    follower.send(&Frame::Follow)?;
    if attach.terminal == Terminal::New {
        follower.send_size()?;
    }
    let ended = follower.carry(&signals);
    drop(raw);
    match ended? {
        Ended::Program(code) => Ok(code),
        Ended::Detached => Ok(0),
    }
}

/// Waits until a container has ended and all of it is written down; `None`: it isn't running, or its
/// supervisor was killed.
pub(crate) fn wait_for_end(dir: &Path) -> Option<u8> {
    let mut socket = connect(&Container::socket(dir)).ok()?;
    let mut received = Vec::new();
    let mut buf = [0u8; 512];
    loop {
        while let Some(frame) = Frame::take(&mut received).ok()? {
            if let Frame::Ended(code) = frame {
                return Some(code);
            }
        }
        match socket.read(&mut buf) {
            Ok(0) => return None,
            Ok(n) => received.extend_from_slice(buf.get(..n)?),
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(_) => return None,
        }
    }
}

fn open(dir: &Path) -> Result<UnixStream> {
    connect(&Container::socket(dir)).map_err(|e| {
        Error::new("attach", e).hint("the container isn't running: see `runner ps --all`")
    })
}

struct Follower {
    socket: UnixStream,
    received: Vec<u8>,
    /// Whether there may be more input.
    input: bool,
    keys: Keys,
    /// How many of the keys were pressed one after the other.
    matched: usize,
}

impl Follower {
    fn send(&mut self, frame: &Frame) -> Result<()> {
        self.socket.write_all(&frame.bytes()).step("talk to the container")
    }

    fn send_size(&mut self) -> Result<()> {
        let size = sys::tty::size(std::io::stdout()).or_else(|_| sys::tty::size(std::io::stdin()));
        match size {
            Ok(size) => self.send(&Frame::Size(size.rows, size.columns)),
            // Without a terminal there is no size.
            Err(_) => Ok(()),
        }
    }

    fn carry(&mut self, signals: &SignalFd) -> Result<Ended> {
        loop {
            let ready = {
                let mut fds = vec![
                    PollFd::new(self.socket.as_fd(), PollFlags::POLLIN),
                    PollFd::new(signals.as_fd(), PollFlags::POLLIN),
                ];
                if self.input {
                    fds.push(PollFd::new(stdin_fd(), PollFlags::POLLIN));
                }
                match poll(&mut fds, PollTimeout::NONE) {
                    Ok(_) | Err(Errno::EINTR) => {}
                    Err(e) => return Err(Error::new("wait for the container", e)),
                }
                let ready = |n: usize| fds.get(n).and_then(PollFd::any).unwrap_or(false);
                (ready(0), ready(1), ready(2))
            };
            if ready.0
                && let Some(code) = self.output()?
            {
                return Ok(Ended::Program(code));
            }
            if ready.1 {
                while signals.read_signal().step("take a signal")?.is_some() {}
                self.send_size()?;
            }
            if ready.2 && self.take_input()? {
                return Ok(Ended::Detached);
            }
        }
    }

    /// Shows what came; returns the code if the program has ended.
    fn output(&mut self) -> Result<Option<u8>> {
        let mut buf = [0u8; 16384];
        match self.socket.read(&mut buf) {
            Ok(0) => {
                return Err(Error::new("attach", "the container's supervisor has ended"));
            }
            Ok(n) => self.received.extend_from_slice(buf.get(..n).unwrap_or_default()),
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(e) => return Err(Error::new("talk to the container", e)),
        }
        while let Some(frame) = Frame::take(&mut self.received).step("talk to the container")? {
            match frame {
                Frame::Output(stream, bytes) => show(stream, &bytes).step("write output")?,
                Frame::Ended(code) => return Ok(Some(code)),
                _ => {}
            }
        }
        Ok(None)
    }

    /// Sends what was typed; returns whether the user lets go.
    fn take_input(&mut self) -> Result<bool> {
        let mut buf = [0u8; 8192];
        match read(stdin_fd(), &mut buf) {
            Ok(0) | Err(Errno::EIO) => {
                self.input = false;
                self.send(&Frame::EndOfInput)?;
            }
            Ok(n) => {
                let (bytes, detached) = self.without_keys(buf.get(..n).unwrap_or_default());
                if !bytes.is_empty() {
                    self.send(&Frame::Input(bytes))?;
                }
                return Ok(detached);
            }
            Err(Errno::EAGAIN | Errno::EINTR) => {}
            Err(e) => return Err(Error::new("read standard input", e)),
        }
        Ok(false)
    }

    /// Holds back keys that may let go; returns what isn't held back, and whether all were pressed.
    fn without_keys(&mut self, typed: &[u8]) -> (Vec<u8>, bool) {
        let mut out = Vec::with_capacity(typed.len());
        for &byte in typed {
            if self.keys.0.get(self.matched) == Some(&byte) {
                self.matched += 1;
                if self.matched == self.keys.0.len() {
                    return (out, true);
                }
                continue;
            }
            let held = std::mem::take(&mut self.matched);
            out.extend_from_slice(self.keys.0.get(..held).unwrap_or_default());
            // It may be the first of another attempt.
            if self.keys.0.first() == Some(&byte) {
                self.matched = 1;
                if self.keys.0.len() == 1 {
                    return (out, true);
                }
            } else {
                out.push(byte);
            }
        }
        (out, false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_let_go_only_one_after_the_other() {
        let (socket, _other) = UnixStream::pair().unwrap();
        let keys = Keys(vec![16, 17]);
        let mut f = Follower { socket, received: Vec::new(), input: true, keys, matched: 0 };
        assert_eq!(f.without_keys(b"a\x10b"), (b"a\x10b".to_vec(), false));
        assert_eq!(f.without_keys(b"\x10"), (vec![], false));
        assert_eq!(f.without_keys(b"\x10\x11x"), (b"\x10".to_vec(), true));
    }
}
