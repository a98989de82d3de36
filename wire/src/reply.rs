//! Answers: each message gets one, in one system call.

use std::cell::Cell;
use std::ffi::OsStr;
use std::io::IoSlice;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;

use sys::Errno;
use zerocopy::{Immutable, IntoBytes};

use crate::abi::{Dirent, Direntplus, EntryOut, OutHeader};
use crate::backing::Backing;

/// The answer to one message. One that is dropped says `EIO`, so that nobody waits for ever.
#[derive(Debug)]
#[must_use = "somebody waits for it"]
pub struct Reply<'a> {
    device: &'a Arc<OwnedFd>,
    unique: u64,
    is_due: bool,
    /// Where the answer is left, for whoever sends it; without, it is sent to the device.
    place: Option<Place<'a>>,
}

/// Where an answer is left.
#[derive(Debug)]
pub(crate) struct Place<'a> {
    /// For what follows the header.
    pub(crate) room: &'a mut [u8],
    pub(crate) left: &'a Cell<Left>,
}

/// What was left as an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Left {
    /// That it failed, or that nothing is to be said.
    Error(i32),
    /// So many bytes.
    Bytes(usize),
}

impl<'a> Reply<'a> {
    /// An answer that is sent at once.
    pub(crate) fn new(device: &'a Arc<OwnedFd>, unique: u64) -> Reply<'a> {
        Reply { device, unique, is_due: true, place: None }
    }

    /// An answer that is left in a place.
    pub(crate) fn leave(device: &'a Arc<OwnedFd>, unique: u64, place: Place<'a>) -> Reply<'a> {
        Reply { device, unique, is_due: true, place: Some(place) }
    }

    /// The message wants no answer.
    pub fn none(mut self) {
        self.is_due = false;
    }

    /// Answers that it failed.
    pub fn error(mut self, e: Errno) {
        self.send(-(e as i32), &[]);
    }

    /// Answers that it is done.
    pub fn done(mut self) {
        self.send(0, &[]);
    }

    /// Answers with a structure.
    pub fn value<T: IntoBytes + Immutable>(mut self, value: &T) {
        self.send(0, value.as_bytes());
    }

    /// Answers with bytes.
    pub fn bytes(mut self, bytes: &[u8]) {
        self.send(0, bytes);
    }

    /// Answers with a structure and bytes after it.
    pub fn value_and_bytes<T: IntoBytes + Immutable>(mut self, value: &T, bytes: &[u8]) {
        self.send_parts(0, value.as_bytes(), bytes);
    }

    /// Lets the kernel read and write a file by itself, once a reply names it.
    ///
    /// # Errors
    /// `EPERM`: without the capability `CAP_SYS_ADMIN` of the first user namespace. `ELOOP`: the
    /// file's own file system is stacked too deep.
    pub fn open_backing(&self, file: &OwnedFd) -> sys::Result<Backing> {
        Backing::open(self.device, file)
    }

    fn send(&mut self, error: i32, body: &[u8]) {
        self.send_parts(error, body, &[]);
    }

    fn send_parts(&mut self, error: i32, first: &[u8], second: &[u8]) {
        self.is_due = false;
        if let Some(place) = &mut self.place {
            place.leave(self.unique, error, first, second);
            return;
        }
        let len = size_of::<OutHeader>() + first.len() + second.len();
        let header = OutHeader { len: len as u32, error, unique: self.unique };
        let parts = [IoSlice::new(header.as_bytes()), IoSlice::new(first), IoSlice::new(second)];
        match nix::sys::uio::writev(self.device, &parts) {
            Ok(_) => {}
            // The caller was killed meanwhile, or the mount is gone.
            Err(e @ (Errno::ENOENT | Errno::ENODEV)) => {
                log::debug!("reply {}: {}", self.unique, e.desc());
            }
            Err(e) => log::error!("reply {} of {len} bytes: {}", self.unique, e.desc()),
        }
    }
}

impl Place<'_> {
    fn leave(&mut self, unique: u64, error: i32, first: &[u8], second: &[u8]) {
        let (len, room) = (first.len() + second.len(), self.room.len());
        let left = match self.room.get_mut(..len) {
            _ if error != 0 => Left::Error(error),
            Some(room) => {
                let (one, two) = room.split_at_mut(first.len());
                one.copy_from_slice(first);
                two.copy_from_slice(second);
                Left::Bytes(len)
            }
            None => {
                log::error!("reply {unique} of {len} bytes: there is room for {room}");
                Left::Error(-(Errno::EIO as i32))
            }
        };
        self.left.set(left);
    }
}

impl Drop for Reply<'_> {
    fn drop(&mut self) {
        if self.is_due {
            log::error!("message {} was left without an answer", self.unique);
            self.send(-(Errno::EIO as i32), &[]);
        }
    }
}

/// Entries of a directory, up to the size that the kernel has room for.
#[derive(Debug)]
pub struct Entries {
    bytes: Vec<u8>,
    room: usize,
}

impl Entries {
    /// Makes an empty answer with so much room.
    pub fn new(room: u32) -> Entries {
        // The kernel asks for a page, or for as much as its reader's buffer has.
        Entries { bytes: Vec::with_capacity(room as usize), room: room as usize }
    }

    /// Adds a name; returns whether it had no room any more. `next` is where reading goes on after it,
    /// `kind` the type as `DT_*`.
    pub fn add(&mut self, ino: u64, next: u64, kind: u8, name: &OsStr) -> bool {
        self.put(&[], dirent(ino, next, kind, name), name)
    }

    /// Adds a name with its object's attributes. An entry with node 0 has none.
    pub fn add_plus(&mut self, entry: &EntryOut, next: u64, kind: u8, name: &OsStr) -> bool {
        self.put(entry.as_bytes(), dirent(entry.attr.ino, next, kind, name), name)
    }

    fn put(&mut self, before: &[u8], dirent: Dirent, name: &OsStr) -> bool {
        let size = (before.len() + size_of::<Dirent>() + name.len()).next_multiple_of(8);
        let end = self.bytes.len() + size;
        if end > self.room {
            return true;
        }
        self.bytes.extend_from_slice(before);
        self.bytes.extend_from_slice(dirent.as_bytes());
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.resize(end, 0);
        false
    }

    /// Answers with what was added.
    pub fn send(self, reply: Reply<'_>) {
        reply.bytes(&self.bytes);
    }
}

fn dirent(ino: u64, off: u64, kind: u8, name: &OsStr) -> Dirent {
    Dirent { ino, off, namelen: name.len() as u32, kind: kind.into() }
}

const _: () = assert!(size_of::<Direntplus>() == size_of::<EntryOut>() + size_of::<Dirent>());

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_padded_and_end_with_the_room() {
        let mut entries = Entries::new(70);
        assert!(!entries.add(1, 1, libc::DT_REG, OsStr::new("a")));
        assert!(!entries.add(2, 2, libc::DT_DIR, OsStr::new("12345678")));
        assert_eq!(entries.bytes.len(), 32 + 32);
        assert!(entries.add(3, 3, libc::DT_REG, OsStr::new("b")), "6 bytes are left");
        assert_eq!(entries.bytes[..8], 1u64.to_ne_bytes());
        assert_eq!(entries.bytes[16..20], 1u32.to_ne_bytes());
        assert_eq!(entries.bytes[24..32], *b"a\0\0\0\0\0\0\0");
        let entry = EntryOut::default();
        assert!(!Entries::new(160).add_plus(&entry, 1, libc::DT_REG, OsStr::new("a")));
        assert!(Entries::new(159).add_plus(&entry, 1, libc::DT_REG, OsStr::new("a")));
    }

    #[test]
    fn an_answer_that_was_forgotten_says_so() {
        let (read, write) = nix::unistd::pipe().unwrap();
        let write = Arc::new(write);
        drop(Reply::new(&write, 5));
        Reply::new(&write, 6).value_and_bytes(&1u64, b"xy");
        Reply::new(&write, 7).none();
        drop(write);
        let mut bytes = [0; 64];
        let n = nix::unistd::read(&read, &mut bytes).unwrap();
        assert_eq!(n, 16 + 16 + 10);
        let eio = -(Errno::EIO as i32);
        assert_eq!(bytes[..8], [16u32.to_ne_bytes(), eio.to_ne_bytes()].concat());
        assert_eq!(bytes[16..20], 26u32.to_ne_bytes());
        assert_eq!(bytes[24..32], 6u64.to_ne_bytes());
        assert_eq!(bytes[40..42], *b"xy");
    }
}
