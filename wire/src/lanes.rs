//! Messages through io_uring, taken at the processor of whoever sends them.
//!
//! The kernel has a queue for each processor, and gives a message to that place of the queue that was
//! free last (`fuse_uring_queue_fuse_req` in fs/fuse/dev_uring.c). So each queue has several threads
//! with one place each, all bound to the processor: as long as one is enough the others sleep, and one
//! that waits for a disk delays nobody. What the kernel forgets still comes by the device.

use std::cell::Cell;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::Sender;

use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;
use sys::Errno;
use sys::uring::{Held, Lane};
use zerocopy::{FromBytes, IntoBytes};

use crate::abi::{InHeader, OutHeader, opcode};
use crate::message::{Buffer, Rest};
use crate::reply::{Left, Place, Reply};
use crate::session::{FileSystem, SMALLEST, Session};

/// Where the kernel says which processors there may be, and which there are.
const PROCESSORS: &str = "/sys/devices/system/cpu";
/// With more processors than this, their queues would take too many threads.
const MOST: u16 = 256;
/// Threads of all queues, unless those need more for two each.
const MANY: usize = 32;
/// Names are copied out of the way of the answer; the longest are the two of a SYMLINK.
const NAMES: usize = 8192;
/// Room for the answer to data.
const SHORT: usize = 64;

/// How messages of a connection are taken through io_uring.
#[derive(Clone, Debug)]
pub struct Lanes {
    /// The processor of each thread.
    places: Vec<u16>,
    /// Bytes of the largest payload.
    room: usize,
}

impl Lanes {
    /// Plans the threads for a connection with writes of at most so many bytes, of which `each`, and
    /// two at least, may be at work for the same processor.
    ///
    /// # Errors
    /// This process may not use io_uring, or there are too many processors.
    pub fn new(max_write: u32, each: usize) -> io::Result<Lanes> {
        sys::uring::probe()?;
        let read = |name| std::fs::read_to_string(format!("{PROCESSORS}/{name}"));
        let places = places(&read("possible")?, &read("online")?, each).ok_or_else(|| {
            io::Error::other(format!("{PROCESSORS}/possible: more than {MOST} processors"))
        })?;
        Ok(Lanes { places, room: (max_write as usize).max(SMALLEST) })
    }

    /// Returns the processor of each thread.
    pub(crate) fn places(&self) -> impl Iterator<Item = u16> {
        self.places.iter().copied()
    }

    /// Returns the bytes of the largest payload.
    pub(crate) fn room(&self) -> usize {
        self.room
    }
}

/// Takes messages of one processor until the connection is gone, with the calling thread. Says when it is
/// ready, or why it can't be.
pub(crate) fn serve<F: FileSystem>(
    session: &Session<F>,
    cpu: u16,
    room: usize,
    ready: Sender<io::Result<()>>,
) {
    bind(cpu);
    let made = Lane::new(Arc::clone(session.device()), cpu, room);
    let (lane, said) = match made {
        Ok(lane) => (Some(lane), Ok(())),
        Err(e) => (None, Err(io::Error::other(format!("io_uring: {}", e.desc())))),
    };
    let is_heard = ready.send(said).is_ok();
    drop(ready);
    // Else this lane or another has failed, and with it the session.
    if let (Some(mut lane), true) = (lane, is_heard) {
        take_all(session, &mut lane);
        if let Some(forgets) = session.forgets() {
            forgets.wake();
        }
    }
}

/// Takes messages until no more can come.
fn take_all<F: FileSystem>(session: &Session<F>, lane: &mut Lane) {
    let mut names = Buffer::new(NAMES);
    // Without this place others are served by the rest, and a queue that has none is left to the device. A
    // connection that ends gives several errors.
    while let Ok(()) =
        lane.register().inspect_err(|e| log::info!("io_uring: register: {}", e.desc()))
    {
        loop {
            let len = answer(session, lane.held(), &mut names);
            // `ENOENT`: the message has ended without us, as with a mount that goes. The place is lost.
            if let Err(e) = lane.answer(len) {
                log::info!("io_uring: answer: {}", e.desc());
                break;
            }
        }
    }
}

/// Binds the calling thread to a processor, if it is there and allowed.
fn bind(cpu: u16) {
    let mut set = CpuSet::new();
    let bound = set.set(cpu.into()).and_then(|()| sched_setaffinity(Pid::from_raw(0), &set));
    if let Err(e) = bound {
        log::debug!("processor {cpu} isn't ours: {}", e.desc());
    }
}

/// Answers a message in its place; returns how long the payload of the answer is.
fn answer<F: FileSystem>(session: &Session<F>, held: Held<'_>, names: &mut Buffer) -> usize {
    let Held { header: place, operation, payload, len } = held;
    let Ok((header, _)) = InHeader::read_from_prefix(place) else { return 0 };
    if let Some(forgets) = session.forgets() {
        forgets.before(session, &header);
    }
    let left = Cell::new(Left::Error(-(Errno::EIO as i32)));
    let reply = |room| Reply::leave(session.device(), header.unique, Place { room, left: &left });
    // Data stays where it is, and the answer to it is short; names go out of the way of the answer.
    if let opcode::WRITE | opcode::SETXATTR = header.opcode {
        let mut short = [0; SHORT];
        let data = payload.get(..len).unwrap_or_default();
        session.dispatch(&header, Rest::parts(operation, data), reply(&mut short));
        if let Some(room) = payload.first_chunk_mut() {
            *room = short;
        }
    } else {
        let names = match (names.bytes().get_mut(..len), payload.get(..len)) {
            (Some(to), Some(from)) => {
                to.copy_from_slice(from);
                to
            }
            // Longer than any; it is refused as cut off.
            _ => &mut [],
        };
        session.dispatch(&header, Rest::parts(operation, names), reply(payload));
    }
    if let Some(forgets) = session.forgets() {
        forgets.after(&header);
    }
    let (error, len) = match left.get() {
        Left::Error(error) => (error, 0),
        Left::Bytes(len) => (0, len),
    };
    let whole = (size_of::<OutHeader>() + len) as u32;
    let out = OutHeader { len: whole, error, unique: header.unique };
    if let Some(place) = place.get_mut(..size_of::<OutHeader>()) {
        place.copy_from_slice(out.as_bytes());
    }
    len
}

/// Returns the processor of each thread: `each` for one that is there, fewer where that would be many,
/// and one for others, as every queue needs a thread.
fn places(possible: &str, online: &str, each: usize) -> Option<Vec<u16>> {
    let all = ranges(possible).last()?.1.checked_add(1).filter(|n| *n <= MOST)?;
    let is_there = |cpu| ranges(online).any(|(first, last)| (first..=last).contains(&cpu));
    let there = (0..all).filter(|cpu| is_there(*cpu)).count().max(1);
    let each = each.min(MANY / there).max(2);
    let threads = |cpu| std::iter::repeat_n(cpu, if is_there(cpu) { each } else { 1 });
    Some((0..all).flat_map(threads).collect())
}

/// Returns the first and last numbers of a list like `0-3,8`.
fn ranges(list: &str) -> impl Iterator<Item = (u16, u16)> {
    list.trim().split(',').filter_map(|range| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        Some((first.parse().ok()?, last.parse().ok()?))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_queue_has_threads() {
        assert_eq!(places("0-1\n", "0-1\n", 3), Some(vec![0, 0, 0, 1, 1, 1]));
        assert_eq!(places("0", "0", 1), Some(vec![0, 0]), "one may wait for a disk");
        assert_eq!(places("0-4", "0-1,4", 2), Some(vec![0, 0, 1, 1, 2, 3, 4, 4]));
        assert_eq!(places("0-63", "0-63", 4).map(|p| p.len()), Some(128));
        assert_eq!(places("0-256", "0-1", 4), None);
        assert_eq!(places("", "", 4), None);
    }
}
