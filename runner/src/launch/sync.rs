//! Typed messages between the supervisor and the processes that build the container: one type a
//! direction. A message is its length and JSON; a descriptor may come with it.

use std::io::{IoSlice, IoSliceMut, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;

use nix::cmsg_space;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, recvmsg, sendmsg};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::error::{Context, Error, Result};

/// What the supervisor says, beside the [`crate::spec::Spec`] itself.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum ToContainer {
    /// The id maps are written.
    Mapped,
    /// The network is ready.
    Network,
    /// The hooks outside have run.
    Hooked,
    /// The first process was written down: whoever ends the container finds it.
    Noted,
    /// The program shall begin.
    Begin,
}

/// What the processes that build the container say.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum ToSupervisor {
    /// A child of the supervisor that serves a file system.
    Daemon {
        /// Its name.
        name: String,
        /// Its pid.
        pid: i32,
    },
    /// The first process of the container, a child of the supervisor.
    First {
        /// Its pid, as the supervisor sees it.
        pid: i32,
    },
    /// The terminal, whose descriptor comes along.
    Terminal,
    /// Where calls of the program are to be answered; the descriptor comes along.
    Calls,
    /// It is in a new user namespace, whose maps are to be written.
    Unmapped,
    /// What was opened before the container's users were entered, by its numbers.
    Opened {
        /// The root directory.
        root: i32,
        /// Sources of mounts, as in the spec.
        mounts: Vec<Option<i32>>,
    },
    /// The hooks outside are to be run.
    Hooks,
    /// All is ready but the program, which waits to be told.
    Ready,
    /// Something is weaker than planned.
    Weaker(String),
    /// The container can't be built, or the program can't be started.
    Failed(Error),
}

/// One end of the conversation.
#[derive(Debug)]
pub(super) struct Channel(Option<UnixStream>);

impl Channel {
    /// Returns two connected ends, both close-on-exec.
    pub(super) fn pair() -> Result<(Channel, Channel)> {
        let (a, b) = UnixStream::pair().step("make a socket pair")?;
        Ok((Channel(Some(a)), Channel(Some(b))))
    }

    /// Returns a second handle of this end.
    pub(super) fn try_clone(&self) -> Result<Channel> {
        self.socket()?.try_clone().map(|s| Channel(Some(s))).step("copy a socket")
    }

    /// Takes an end that was inherited.
    pub(super) fn inherited(fd: RawFd) -> Result<Channel> {
        let fd = sys::process::inherited_fd(fd).step("take over the socket")?;
        Ok(Channel(Some(UnixStream::from(fd))))
    }

    /// Takes a connection that was accepted.
    pub(super) fn of(socket: UnixStream) -> Channel {
        Channel(Some(socket))
    }

    /// Closes this process's copy of the end; others that were forked keep theirs.
    pub(super) fn close(&mut self) {
        self.0 = None;
    }

    fn socket(&self) -> Result<&UnixStream> {
        self.0.as_ref().ok_or_else(|| Error::new("send a message", "the socket is closed"))
    }

    /// Returns the descriptor.
    pub(super) fn fd(&self) -> Result<BorrowedFd<'_>> {
        Ok(self.socket()?.as_fd())
    }

    /// Sends a message.
    pub(super) fn send(&mut self, message: &impl Serialize) -> Result<()> {
        self.send_parts(message, &[])
    }

    /// Sends a message with a descriptor.
    pub(super) fn send_fd(&mut self, message: &impl Serialize, fd: BorrowedFd<'_>) -> Result<()> {
        self.send_parts(message, &[fd.as_raw_fd()])
    }

    /// Sends a message with up to three descriptors.
    pub(super) fn send_fds(&mut self, message: &impl Serialize, fds: &[OwnedFd]) -> Result<()> {
        let numbers: Vec<RawFd> = fds.iter().map(AsRawFd::as_raw_fd).collect();
        self.send_parts(message, &numbers)
    }

    fn send_parts(&mut self, message: &impl Serialize, fds: &[RawFd]) -> Result<()> {
        let body = serde_json::to_vec(message).step("write a message")?;
        let length = (body.len() as u32).to_ne_bytes();
        let rights = [ControlMessage::ScmRights(fds)];
        let rights = if fds.is_empty() { &[][..] } else { &rights[..] };
        let flags = MsgFlags::MSG_NOSIGNAL;
        let mut socket = self.socket()?;
        // One call for the whole of a message that isn't long: several processes send to one socket.
        let parts = [IoSlice::new(&length), IoSlice::new(&body)];
        let sent = sendmsg::<()>(socket.as_raw_fd(), &parts, rights, flags, None)
            .step("send a message")?;
        let rest = body.get(sent.saturating_sub(length.len())..).unwrap_or_default();
        socket.write_all(rest).step("send a message")
    }

    /// Receives a message; `None`: the other end is closed.
    pub(super) fn receive<T: DeserializeOwned>(&mut self) -> Result<Option<(T, Vec<OwnedFd>)>> {
        let mut length = [0u8; 4];
        let mut space = cmsg_space!([RawFd; 3]);
        let flags = MsgFlags::MSG_CMSG_CLOEXEC | MsgFlags::MSG_WAITALL;
        let mut all = Vec::new();
        let got = {
            let mut iov = [IoSliceMut::new(&mut length)];
            let socket = self.socket()?.as_raw_fd();
            let message = match recvmsg::<()>(socket, &mut iov, Some(&mut space), flags) {
                Err(nix::errno::Errno::ECONNRESET) => return Ok(None),
                r => r.step("receive a message")?,
            };
            for control in message.cmsgs().step("receive a message")? {
                if let ControlMessageOwned::ScmRights(fds) = control {
                    for fd in fds {
                        all.push(sys::process::inherited_fd(fd).step("receive a descriptor")?);
                    }
                }
            }
            message.bytes
        };
        if got < length.len() {
            return Ok(None);
        }
        let mut body = vec![0u8; u32::from_ne_bytes(length) as usize];
        self.socket()?.read_exact(&mut body).step("receive a message")?;
        Ok(Some((serde_json::from_slice(&body).step("read a message")?, all)))
    }

    /// Whether the other end is closed.
    pub(super) fn is_closed(&self) -> Result<bool> {
        let mut fds = [PollFd::new(self.fd()?, PollFlags::empty())];
        poll(&mut fds, PollTimeout::ZERO).step("ask for the runner")?;
        Ok(fds.iter().any(|fd| fd.any().unwrap_or(false)))
    }

    /// Receives a message that must come.
    ///
    /// # Errors
    /// The other end is closed: the runner has ended.
    pub(super) fn expect<T: DeserializeOwned>(&mut self) -> Result<(T, Vec<OwnedFd>)> {
        match self.receive()? {
            Some(both) => Ok(both),
            None => Err(Error::new("build the container", "the runner has ended")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_and_descriptors_arrive_in_order() {
        let (mut a, mut b) = Channel::pair().unwrap();
        a.send(&ToSupervisor::First { pid: 7 }).unwrap();
        let null = std::fs::File::open("/dev/null").unwrap();
        a.send_fd(&ToSupervisor::Terminal, null.as_fd()).unwrap();
        assert!(!b.is_closed().unwrap());
        drop(a);
        assert!(matches!(b.receive().unwrap(), Some((ToSupervisor::First { pid: 7 }, _))));
        let Some((ToSupervisor::Terminal, fds)) = b.receive().unwrap() else { panic!() };
        assert_eq!(fds.len(), 1);
        assert!(b.is_closed().unwrap());
        assert!(b.receive::<ToSupervisor>().unwrap().is_none());
    }
}
