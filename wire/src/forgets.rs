//! What still comes by the device beside io_uring: what the kernel forgets, and messages that were
//! sent before io_uring was ready.
//!
//! Whoever removes a file makes the kernel forget it, and would wake a thread that waits for the device,
//! most often on another processor, which takes longer than the removal. So after one such wake nobody
//! waits for a while: what is forgotten is fetched from time to time, and before an object is made, as
//! that may get the number of one that was removed.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::Thread;
use std::time::Duration;

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use parking_lot::Mutex;
use sys::Errno;

use crate::abi::{InHeader, opcode};
use crate::message::{self, Buffer, Rest};
use crate::reply::Reply;
use crate::session::{FileSystem, Session};

/// How long nobody waits for the device after something was forgotten.
const PAUSE: Duration = Duration::from_millis(20);

/// The device, as long as most messages come through io_uring.
#[derive(Debug)]
pub(crate) struct Forgets {
    buffer: Mutex<Buffer>,
    /// Something was removed since the device was last read.
    removed: AtomicBool,
    /// Who reads it in the end.
    reader: OnceLock<Thread>,
}

/// What the device had.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Came {
    Nothing,
    Forgotten,
    Messages,
}

impl Forgets {
    /// With room for the largest message.
    pub(crate) fn new(room: usize) -> Forgets {
        Forgets {
            buffer: Mutex::new(Buffer::new(room)),
            removed: AtomicBool::new(false),
            reader: OnceLock::new(),
        }
    }

    /// Reads the device until the connection is gone, with the calling thread.
    ///
    /// # Errors
    /// The device fails.
    pub(crate) fn serve<F: FileSystem>(&self, session: &Session<F>) -> io::Result<()> {
        let device = session.device();
        unblock(device)?;
        self.reader.get_or_init(std::thread::current);
        loop {
            let mut fds = [PollFd::new(device.as_fd(), PollFlags::POLLIN)];
            match poll(&mut fds, PollTimeout::NONE) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(e) => return Err(e.into()),
            }
            loop {
                match self.read(session) {
                    Ok(Came::Forgotten) => std::thread::park_timeout(PAUSE),
                    Ok(Came::Nothing | Came::Messages) => break,
                    Err(Errno::ENODEV) => return Ok(()),
                    Err(e) => return Err(e.into()),
                }
            }
        }
    }

    /// The connection is gone, or a part of it: whoever pauses shall look.
    pub(crate) fn wake(&self) {
        if let Some(reader) = self.reader.get() {
            reader.unpark();
        }
    }

    /// To be called before a message is answered.
    pub(crate) fn before<F: FileSystem>(&self, session: &Session<F>, header: &InHeader) {
        let makes = matches!(
            header.opcode,
            opcode::CREATE | opcode::MKNOD | opcode::MKDIR | opcode::SYMLINK | opcode::TMPFILE
        );
        // An error ends the reader as well, which reports it.
        if makes
            && self.removed.swap(false, Ordering::Relaxed)
            && let Err(e) = self.read(session)
        {
            log::debug!("read the device: {}", e.desc());
        }
    }

    /// To be called after it was.
    pub(crate) fn after(&self, header: &InHeader) {
        if let opcode::UNLINK | opcode::RMDIR | opcode::RENAME | opcode::RENAME2 = header.opcode {
            self.removed.store(true, Ordering::Relaxed);
        }
    }

    /// Takes all that is there.
    fn read<F: FileSystem>(&self, session: &Session<F>) -> sys::Result<Came> {
        let mut came = Came::Nothing;
        // It would wait for a message.
        if self.reader.get().is_none() {
            return Ok(came);
        }
        let mut buffer = self.buffer.lock();
        loop {
            let n = match nix::unistd::read(session.device(), buffer.bytes()) {
                Ok(n) => n,
                Err(Errno::EAGAIN) => return Ok(came),
                Err(Errno::ENOENT | Errno::EINTR) => continue,
                Err(e) => return Err(e),
            };
            let Ok((header, body)) = message::split(buffer.bytes().get(..n).unwrap_or_default())
            else {
                log::error!("a message of {n} bytes is cut off");
                continue;
            };
            if !matches!(header.opcode, opcode::FORGET | opcode::BATCH_FORGET) {
                came = Came::Messages;
            } else if came == Came::Nothing {
                came = Came::Forgotten;
            }
            let reply = Reply::new(session.device(), header.unique);
            session.dispatch(header, Rest::whole(body), reply);
        }
    }
}

/// Lets reads of a descriptor fail with `EAGAIN` where they would wait.
fn unblock(fd: &OwnedFd) -> io::Result<()> {
    let flags = OFlag::from_bits_retain(fcntl(fd, FcntlArg::F_GETFL)?);
    fcntl(fd, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
    Ok(())
}
