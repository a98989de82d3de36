//! Serves a connection whose greeting was read by another process: fuser shakes hands with a socket,
//! and the real connection then takes that socket's place.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use fuser::{Config, Filesystem, Session, SessionACL};
use nix::errno::Errno;
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};

use crate::mount::{Mount, Place};

/// Room for any request: the kernel wants more than its largest write, whose size isn't agreed yet.
const ROOM: usize = 1 << 18;

/// `FUSE_INIT` of `linux/fuse.h`.
const INIT: u32 = 26;

/// Where the header of a request has its operation, and where `fuse_init_in` has its second flags.
const OPERATION: usize = 4;
const FLAGS2: usize = 56;

/// `FUSE_HAS_RESEND` (Linux 6.9), bit 39 of all flags.
const HAS_RESEND: u32 = 1 << (39 - 32);

/// `FUSE_NOTIFY_RESEND`.
const NOTIFY_RESEND: i32 = 7;

/// The kernel's first request, which comes once: its version and what it offers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Greeting(Vec<u8>);

/// A connection to the kernel that outlives whoever serves it.
#[derive(Debug)]
pub struct Connection {
    device: OwnedFd,
    place: Option<Place>,
    greeting: Greeting,
    /// A file in memory by which workers may tell their successors something.
    notes: OwnedFd,
    is_resumed: bool,
}

/// What a program needs to go on with a connection: descriptors that stay open in `execve(2)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resume {
    /// The connection.
    pub device: i32,
    /// A file with the greeting.
    pub greeting: i32,
    /// The file by which workers tell their successors something.
    pub notes: i32,
    /// Identity of the mount; 0 for one that is somebody else's to unmount.
    pub mount: u64,
}

impl Greeting {
    /// Takes the greeting from a mounted connection.
    ///
    /// # Errors
    /// `EPERM`: the descriptor isn't mounted. `EPROTO`: somebody else has read it already.
    fn read(device: &OwnedFd) -> nix::Result<Greeting> {
        let mut bytes = vec![0; ROOM];
        let size = loop {
            match nix::unistd::read(device, &mut bytes) {
                Err(Errno::EINTR | Errno::EAGAIN | Errno::ENOENT) => {}
                other => break other?,
            }
        };
        bytes.truncate(size);
        Greeting::checked(bytes)
    }

    fn checked(bytes: Vec<u8>) -> nix::Result<Greeting> {
        let greeting = Greeting(bytes);
        match greeting.word(OPERATION) {
            Some(INIT) => Ok(greeting),
            _ => Err(Errno::EPROTO),
        }
    }

    fn word(&self, at: usize) -> Option<u32> {
        let bytes = self.0.get(at..at + 4)?;
        bytes.try_into().ok().map(u32::from_ne_bytes)
    }

    /// Whether the kernel hands out requests again whose server has ended.
    pub fn offers_resend(&self) -> bool {
        self.word(FLAGS2).is_some_and(|flags| flags & HAS_RESEND != 0)
    }
}

impl Connection {
    /// Takes a mount's connection and waits for the kernel's greeting.
    ///
    /// # Errors
    /// The descriptor isn't mounted, or is served by somebody else.
    pub fn greet(mount: Mount) -> nix::Result<Connection> {
        let (device, place) = mount.into_parts();
        let greeting = Greeting::read(&device)?;
        let notes = memfd_create(c"notes", MFdFlags::MFD_CLOEXEC)?;
        Ok(Connection { device, place, greeting, notes, is_resumed: false })
    }

    /// Takes a connection over from the program that this process was before.
    ///
    /// # Errors
    /// The descriptors are not what [`Connection::hand_over`] gave.
    pub fn resume(from: Resume, place: Option<Place>) -> nix::Result<Connection> {
        let device = sys::process::inherited_fd(from.device)?;
        let file = sys::process::inherited_fd(from.greeting)?;
        let notes = sys::process::inherited_fd(from.notes)?;
        let mut bytes = vec![0; ROOM];
        let size = sys::copy::read_at(&file, &mut bytes, 0)?;
        bytes.truncate(size);
        Ok(Connection {
            device,
            place,
            greeting: Greeting::checked(bytes)?,
            notes,
            is_resumed: true,
        })
    }

    /// Says how to find the connection again, and returns a file with the greeting.
    ///
    /// # Errors
    /// A file in memory can't be made.
    pub(crate) fn hand_over(&self) -> nix::Result<(Resume, OwnedFd)> {
        let file = memfd_create(c"greeting", MFdFlags::MFD_CLOEXEC)?;
        sys::copy::write_at(&file, &self.greeting.0, 0)?;
        let resume = Resume {
            device: self.device.as_raw_fd(),
            greeting: file.as_raw_fd(),
            notes: self.notes.as_raw_fd(),
            mount: self.place.as_ref().map_or(0, Place::id),
        };
        Ok((resume, file))
    }

    /// Makes the connection survive `execve(2)`, and says how to find it again.
    ///
    /// # Errors
    /// A file in memory can't be made.
    pub(crate) fn keep_on_exec(&self) -> nix::Result<(Resume, OwnedFd)> {
        let (resume, file) = self.hand_over()?;
        sys::process::keep_on_exec(&self.device)?;
        sys::process::keep_on_exec(&self.notes)?;
        sys::process::keep_on_exec(&file)?;
        Ok((resume, file))
    }

    /// Returns a second handle of the same connection.
    ///
    /// # Errors
    /// No descriptor is free.
    pub(crate) fn try_clone(&self) -> io::Result<Connection> {
        Ok(Connection {
            device: self.device.try_clone()?,
            place: self.place.clone(),
            greeting: self.greeting.clone(),
            notes: self.notes.try_clone()?,
            is_resumed: self.is_resumed,
        })
    }

    /// The connection itself.
    pub(crate) fn device(&self) -> BorrowedFd<'_> {
        self.device.as_fd()
    }

    /// A file in memory that outlives workers and programs: empty at first.
    pub fn notes(&self) -> BorrowedFd<'_> {
        self.notes.as_fd()
    }

    /// Whether it is from a program before this one.
    pub fn is_resumed(&self) -> bool {
        self.is_resumed
    }

    /// The kernel's greeting.
    pub fn greeting(&self) -> &Greeting {
        &self.greeting
    }

    /// Where it is mounted, if that is ours to unmount.
    pub fn place(&self) -> Option<&Place> {
        self.place.as_ref()
    }

    /// Begins a session: the first one answers the kernel's greeting; each asks for the requests that
    /// one before it has read and not answered.
    pub(crate) fn session<FS: Filesystem>(
        self,
        fs: FS,
        config: Config,
    ) -> io::Result<(Session<FS>, Option<Place>)> {
        let (here, there) =
            socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)?;
        nix::unistd::write(&there, &self.greeting.0)?;
        let session = Session::from_fd(fs, here, SessionACL::All, config)?;
        let mut answer = vec![0; 4096];
        let size = nix::unistd::read(&there, &mut answer)?;
        answer.truncate(size);
        // The session owns the number, and the connection is closed with it.
        sys::process::replace_fd(&self.device, &session)?;
        match nix::unistd::write(&self.device, &answer) {
            // The kernel waits for no such answer: it had one from a worker before this.
            Ok(_) | Err(Errno::ENOENT) => {}
            Err(e) => return Err(e.into()),
        }
        if self.greeting.offers_resend() {
            nix::unistd::write(&self.device, &resend())?;
        }
        Ok((session, self.place))
    }
}

/// Returns `struct fuse_out_header` of the notification.
fn resend() -> [u8; 16] {
    let mut header = [0; 16];
    let (len, rest) = header.split_at_mut(4);
    len.copy_from_slice(&16u32.to_ne_bytes());
    let (code, _unique) = rest.split_at_mut(4);
    code.copy_from_slice(&NOTIFY_RESEND.to_ne_bytes());
    header
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A greeting of Linux 6.9: header, version 7.40, flags.
    fn greeting(flags2: u32) -> Vec<u8> {
        let mut bytes = vec![0; 104];
        bytes[OPERATION..OPERATION + 4].copy_from_slice(&INIT.to_ne_bytes());
        bytes[FLAGS2..FLAGS2 + 4].copy_from_slice(&flags2.to_ne_bytes());
        bytes
    }

    #[test]
    fn the_offer_to_resend_is_found() {
        assert!(Greeting::checked(greeting(HAS_RESEND)).unwrap().offers_resend());
        assert!(!Greeting::checked(greeting(0)).unwrap().offers_resend());
        assert_eq!(Greeting::checked(vec![0; 104]), Err(Errno::EPROTO));
        assert_eq!(Greeting::checked(Vec::new()), Err(Errno::EPROTO));
    }

    #[test]
    fn a_connection_is_found_again_by_what_was_handed_over() {
        let device = std::fs::File::open("/dev/null").unwrap().into();
        let greeting = Greeting(greeting(HAS_RESEND));
        let notes = std::fs::File::open("/dev/null").unwrap().into();
        let first = Connection { device, place: None, greeting, notes, is_resumed: false };
        let (resume, file) = first.keep_on_exec().unwrap();
        // As after `execve`: the numbers are open, and nobody owns them.
        let expected = first.greeting.clone();
        std::mem::forget((first, file));
        let second = Connection::resume(resume, None).unwrap();
        assert_eq!(second.greeting, expected);
        assert!(second.is_resumed());
    }

    #[test]
    fn the_notification_is_a_header_alone() {
        let header = resend();
        assert_eq!(header[..4], 16u32.to_ne_bytes());
        assert_eq!(header[4..8], 7i32.to_ne_bytes());
        assert_eq!(header[8..], [0; 8]);
    }
}
