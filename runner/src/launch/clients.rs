//! Others who follow a container, by a socket beside its state: `attach` carries its streams, `wait`
//! learns how it ended.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use nix::poll::{PollFd, PollFlags};

use crate::error::{Context, Error, Result};
use crate::launch::log::Stream;

/// What waits for one slow follower before all wait for it.
const PATIENCE: usize = 1 << 18;
/// The longest frame that is taken.
const LONGEST: usize = 1 << 16;

/// A message: its kind, its length in 4 bytes, its content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Frame {
    /// To the container: it shall be told what the program writes.
    Follow,
    /// To the container: bytes that the program shall read.
    Input(Vec<u8>),
    /// To the container: the program has read everything.
    EndOfInput,
    /// To the container: rows and columns of the terminal.
    Size(u16, u16),
    /// From it: what the program wrote.
    Output(Stream, Vec<u8>),
    /// From it: the program has ended with this code.
    Ended(u8),
}

impl Frame {
    /// Returns the bytes of the message.
    pub(super) fn bytes(&self) -> Vec<u8> {
        let (kind, content): (u8, Vec<u8>) = match self {
            Frame::Follow => (0, Vec::new()),
            Frame::Input(bytes) => (1, bytes.clone()),
            Frame::EndOfInput => (2, Vec::new()),
            Frame::Size(rows, columns) => (3, [rows.to_le_bytes(), columns.to_le_bytes()].concat()),
            Frame::Output(Stream::Out, bytes) => (4, bytes.clone()),
            Frame::Output(Stream::Err, bytes) => (5, bytes.clone()),
            Frame::Ended(code) => (6, vec![*code]),
        };
        let mut all = vec![kind];
        all.extend_from_slice(&(content.len() as u32).to_le_bytes());
        all.extend_from_slice(&content);
        all
    }

    /// Takes the first message off; `None`: it isn't complete yet.
    ///
    /// # Errors
    /// What is there is no message.
    pub(super) fn take(from: &mut Vec<u8>) -> io::Result<Option<Frame>> {
        let bad = || io::Error::from(io::ErrorKind::InvalidData);
        let Some((header, rest)) = from.split_at_checked(5) else { return Ok(None) };
        let (Some(kind), Ok(length)) = (
            header.first(),
            header.get(1..).unwrap_or_default().try_into().map(u32::from_le_bytes),
        ) else {
            return Err(bad());
        };
        let length = length as usize;
        if length > LONGEST {
            return Err(bad());
        }
        let Some(content) = rest.get(..length).map(<[u8]>::to_vec) else { return Ok(None) };
        let frame = match (kind, content.as_slice()) {
            (0, []) => Frame::Follow,
            (1, _) => Frame::Input(content),
            (2, []) => Frame::EndOfInput,
            (3, &[a, b, c, d]) => {
                Frame::Size(u16::from_le_bytes([a, b]), u16::from_le_bytes([c, d]))
            }
            (4, _) => Frame::Output(Stream::Out, content),
            (5, _) => Frame::Output(Stream::Err, content),
            (6, &[code]) => Frame::Ended(code),
            _ => return Err(bad()),
        };
        from.drain(..5 + length);
        Ok(Some(frame))
    }
}

/// One who follows.
struct Client {
    socket: UnixStream,
    /// Received, not yet understood.
    received: Vec<u8>,
    /// Not yet sent.
    pending: Vec<u8>,
    follows: bool,
    gone: bool,
}

/// All who follow.
pub(super) struct Clients {
    listener: UnixListener,
    all: Vec<Client>,
}

impl Clients {
    /// Opens the socket.
    pub(super) fn listen(path: &Path) -> Result<Clients> {
        let failed = |e: io::Error| Error::new("open socket", e).at(path);
        match std::fs::remove_file(path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(failed(e)),
            _ => {}
        }
        let listener = short(path, |p| UnixListener::bind(p)).map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        Ok(Clients { listener, all: Vec::new() })
    }

    /// Returns what to wait for.
    pub(super) fn poll_fds(&self) -> Vec<PollFd<'_>> {
        let client = |c: &Client| {
            let wanted = if c.pending.is_empty() { PollFlags::empty() } else { PollFlags::POLLOUT };
            wanted | PollFlags::POLLIN
        };
        let mut fds = vec![PollFd::new(self.listener.as_fd(), PollFlags::POLLIN)];
        fds.extend(self.all.iter().map(|c| PollFd::new(c.socket.as_fd(), client(c))));
        fds
    }

    /// Whether somebody is so slow that the program must wait.
    pub(super) fn is_behind(&self) -> bool {
        self.all.iter().any(|c| c.pending.len() > PATIENCE)
    }

    /// Takes new followers, and returns what all have sent.
    pub(super) fn carry(&mut self) -> Vec<Frame> {
        while let Ok((socket, _)) = self.listener.accept() {
            if socket.set_nonblocking(true).is_ok() {
                let (received, pending) = (Vec::new(), Vec::new());
                self.all.push(Client { socket, received, pending, follows: false, gone: false });
            }
        }
        let mut frames = Vec::new();
        for client in &mut self.all {
            client.receive(&mut frames);
            client.send();
        }
        self.all.retain(|c| !c.gone);
        frames
    }

    /// Tells those who follow what the program wrote.
    pub(super) fn output(&mut self, stream: Stream, bytes: &[u8]) {
        if self.all.iter().any(|c| c.follows) {
            let frame = Frame::Output(stream, bytes.to_vec()).bytes();
            for client in self.all.iter_mut().filter(|c| c.follows) {
                client.pending.extend_from_slice(&frame);
                client.send();
            }
        }
    }

    /// Tells all how it ended; each gets what waits for it, as far as it takes it.
    pub(super) fn end(mut self, code: u8) {
        self.carry();
        for client in &mut self.all {
            client.pending.extend_from_slice(&Frame::Ended(code).bytes());
            // One that doesn't read must not keep the container from ending.
            let patience = Some(std::time::Duration::from_secs(1));
            let waits = client.socket.set_nonblocking(false);
            if waits.and_then(|()| client.socket.set_write_timeout(patience)).is_ok() {
                client.send();
            }
        }
    }
}

impl Client {
    fn receive(&mut self, frames: &mut Vec<Frame>) {
        let mut buf = [0u8; 8192];
        loop {
            match self.socket.read(&mut buf) {
                Ok(0) => {
                    self.gone = true;
                    break;
                }
                Ok(n) => self.received.extend_from_slice(buf.get(..n).unwrap_or_default()),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
                Err(_) => {
                    self.gone = true;
                    break;
                }
            }
        }
        loop {
            match Frame::take(&mut self.received) {
                Ok(Some(Frame::Follow)) => self.follows = true,
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => return,
                Err(_) => {
                    self.gone = true;
                    return;
                }
            }
        }
    }

    fn send(&mut self) {
        while !self.pending.is_empty() {
            match self.socket.write(&self.pending) {
                Ok(n) => drop(self.pending.drain(..n)),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return,
                Err(_) => {
                    self.gone = true;
                    return;
                }
            }
        }
    }
}

/// Connects to a container's socket.
///
/// # Errors
/// `NotFound`, `ConnectionRefused`: nobody serves it: the container isn't running.
pub(super) fn connect(path: &Path) -> io::Result<UnixStream> {
    short(path, |p| UnixStream::connect(p))
}

/// Calls with a path that fits into the address of a socket, however long it is.
fn short<T>(path: &Path, call: impl FnOnce(&Path) -> io::Result<T>) -> io::Result<T> {
    let (Some(dir), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let dir = std::fs::File::open(dir)?;
    call(&Path::new(&format!("/proc/self/fd/{}", dir.as_raw_fd())).join(name))
}

impl Clients {
    /// As [`Clients::listen`], for a container.
    pub(super) fn of(dir: &Path) -> Result<Clients> {
        Clients::listen(&crate::store::Container::socket(dir)).step("follow the container")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_arrive_whole() {
        let frames = [
            Frame::Follow,
            Frame::Input(b"abc".to_vec()),
            Frame::Size(24, 80),
            Frame::Output(Stream::Err, vec![0; 300]),
            Frame::Ended(7),
        ];
        let sent: Vec<u8> = frames.iter().flat_map(Frame::bytes).collect();
        let (mut got, mut buf) = (Vec::new(), Vec::new());
        for byte in sent {
            buf.push(byte);
            got.extend(Frame::take(&mut buf).unwrap());
        }
        assert_eq!(got, frames);
        assert!(Frame::take(&mut vec![9, 0, 0, 0, 0]).is_err());
        assert!(Frame::take(&mut vec![1, 255, 255, 255, 255]).is_err());
    }
}
