//! The greeting, and then message after message until the mount is gone.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread::JoinHandle;

use sys::Errno;
use zerocopy::FromBytes;

use crate::abi::{self, InHeader, InitIn, InitInShort, InitOut, MAJOR, MINOR, init, opcode};
use crate::forgets::Forgets;
use crate::lanes::{self, Lanes};
use crate::message::{self, Buffer, Operation, Rest};
use crate::reply::Reply;

/// Room for a message besides the data of a write: more than its headers, and a page as the kernel
/// has it.
const HEADERS: usize = 4096;
/// Room for a message that carries no data: the kernel refuses to fill less (`FUSE_MIN_READ_BUFFER`).
pub(crate) const SMALLEST: usize = 8192;
/// A page of the machines that Linux calls FUSE's unit.
const PAGE: u32 = 4096;

/// What answers the messages.
pub trait FileSystem: Send + Sync {
    /// Agrees with the kernel, once and before anything else.
    ///
    /// # Errors
    /// The session doesn't begin; the text is for whoever mounts.
    fn init(&mut self, offer: &Offer) -> io::Result<Agreement>;

    /// What is held while a message of the device is answered.
    type Turn<'a>
    where
        Self: 'a;

    /// Begins the answer to a message of the device, for which threads wait together. Threads of
    /// io_uring each wait for themselves.
    fn turn(&self) -> Self::Turn<'_>;

    /// Answers one message. Several threads call this at once.
    fn answer(&self, header: &InHeader, operation: Operation<'_>, reply: Reply<'_>);

    /// Nobody asks any more.
    fn destroy(&self);
}

/// What the kernel can do.
#[derive(Clone, Copy, Debug)]
pub struct Offer {
    /// Flags of [`init`].
    pub flags: u64,
    /// How much it reads ahead at most, in bytes.
    pub max_readahead: u32,
}

/// What a file system wants of it.
#[derive(Clone, Debug)]
pub struct Agreement {
    /// Flags of [`init`]; those that weren't offered are left out.
    pub flags: u64,
    /// Largest write in bytes.
    pub max_write: u32,
    /// How many file systems may be stacked below, for passthrough; 0 without.
    pub max_stack_depth: u32,
    /// Take messages through io_uring, which must have been offered.
    pub lanes: Option<Lanes>,
}

/// How many messages there were, by operation.
#[derive(Debug)]
pub struct Counts {
    by_opcode: [AtomicU64; abi::OPCODES],
    lanes: AtomicUsize,
}

impl Counts {
    fn count(&self, opcode: u32) {
        // What has no name is counted as operation 0.
        if let Some(n) = self.by_opcode.get(opcode as usize).or(self.by_opcode.first()) {
            n.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Returns how many threads take messages through io_uring.
    pub fn lanes(&self) -> usize {
        self.lanes.load(Ordering::Relaxed)
    }

    /// Returns the operations that were asked for, by number, and how often.
    pub fn all(&self) -> impl Iterator<Item = (&'static str, u64)> {
        self.by_opcode.iter().zip(0..).filter_map(|(n, opcode)| match n.load(Ordering::Relaxed) {
            0 => None,
            n => Some((Some(opcode::name(opcode)).filter(|n| !n.is_empty()).unwrap_or("other"), n)),
        })
    }
}

impl Default for Counts {
    fn default() -> Counts {
        Counts {
            by_opcode: [const { AtomicU64::new(0) }; abi::OPCODES],
            lanes: AtomicUsize::new(0),
        }
    }
}

/// A connection that was agreed on.
#[derive(Debug)]
pub struct Session<F> {
    file_system: F,
    device: Arc<OwnedFd>,
    counts: Arc<Counts>,
    room: usize,
    uring: Option<Uring>,
}

/// How messages come through io_uring, and the rest of them.
#[derive(Debug)]
struct Uring {
    lanes: Lanes,
    forgets: Forgets,
}

impl<F: FileSystem> Session<F> {
    /// Reads the kernel's greeting from a mounted connection and answers it.
    ///
    /// # Errors
    /// The connection isn't mounted, is served already, or the file system doesn't agree.
    pub fn begin(mut file_system: F, device: OwnedFd, counts: Arc<Counts>) -> io::Result<Self> {
        let mut buffer = Buffer::new(SMALLEST);
        let n = read(&device, &mut buffer)?;
        let bytes = buffer.bytes();
        let (header, body) = message::split(bytes.get(..n).unwrap_or_default())
            .map_err(|_| io::Error::other("the kernel's greeting is cut off"))?;
        if header.opcode != opcode::INIT {
            return Err(io::Error::other("the connection is served by somebody else"));
        }
        let (greeting, offer) = greeting(body)?;
        let wanted = file_system.init(&offer)?;
        let flags = wanted.flags & offer.flags;
        let answer = answer(&greeting, flags, &wanted);
        let device = Arc::new(device);
        Reply::new(&device, header.unique).value(&answer);
        let room = (wanted.max_write as usize + HEADERS).max(SMALLEST);
        let uring = wanted.lanes.map(|lanes| Uring { lanes, forgets: Forgets::new(room) });
        Ok(Session { file_system, device, counts, room, uring })
    }

    /// The connection.
    pub fn device(&self) -> &Arc<OwnedFd> {
        &self.device
    }

    /// Whether messages come through io_uring, and so only one thread reads the device.
    pub fn has_lanes(&self) -> bool {
        self.uring.is_some()
    }

    pub(crate) fn forgets(&self) -> Option<&Forgets> {
        self.uring.as_ref().map(|u| &u.forgets)
    }

    /// Starts so many threads less one for the device; or those of io_uring, which are ready then.
    ///
    /// # Errors
    /// A thread can't be started, or has no memory or descriptors. Others may wait for messages
    /// already: they end with the mount.
    pub fn start(self, threads: usize) -> io::Result<Running<F>>
    where
        F: 'static,
    {
        let session = Arc::new(self);
        let mut others = Vec::new();
        if let Some(Uring { lanes, .. }) = &session.uring {
            let (ready, are_ready) = mpsc::channel();
            for cpu in lanes.places() {
                let (session, room, ready) = (Arc::clone(&session), lanes.room(), ready.clone());
                let serve = move || {
                    lanes::serve(&session, cpu, room, ready);
                    Ok(())
                };
                others.push(thread(format!("lane-{cpu}"), serve)?);
            }
            drop(ready);
            are_ready.iter().collect::<io::Result<Vec<()>>>()?;
            session.counts.lanes.store(lanes.places().count(), Ordering::Relaxed);
        } else {
            for n in 1..threads {
                let session = Arc::clone(&session);
                others.push(thread(format!("serve-{n}"), move || session.serve())?);
            }
        }
        Ok(Running { session, others })
    }

    fn serve(&self) -> io::Result<()> {
        let mut buffer = Buffer::new(self.room);
        loop {
            match read(&self.device, &mut buffer) {
                Ok(n) => self.take(buffer.bytes().get(..n).unwrap_or_default()),
                Err(Errno::ENODEV) => return Ok(()),
                Err(e) => return Err(e.into()),
            }
        }
    }

    fn take(&self, bytes: &[u8]) {
        match message::split(bytes) {
            Ok((header, body)) => {
                let _turn = self.file_system.turn();
                let reply = Reply::new(&self.device, header.unique);
                self.dispatch(header, Rest::whole(body), reply);
            }
            Err(_) => log::error!("a message of {} bytes is cut off", bytes.len()),
        }
    }

    pub(crate) fn dispatch(&self, header: &InHeader, body: Rest<'_>, reply: Reply<'_>) {
        self.counts.count(header.opcode);
        match message::operation(header, body) {
            // It is left alone, as all are answered soon; with this the kernel stops to send any.
            Ok(Operation::Unknown) => reply.error(Errno::ENOSYS),
            Ok(Operation::Destroy) => reply.done(),
            Ok(operation) => self.file_system.answer(header, operation, reply),
            Err(message::Malformed) => {
                log::error!("a message {} is cut off", opcode::name(header.opcode));
                reply.error(Errno::EIO);
            }
        }
    }
}

/// A session whose threads take messages.
#[derive(Debug)]
pub struct Running<F> {
    session: Arc<Session<F>>,
    others: Vec<JoinHandle<io::Result<()>>>,
}

impl<F: FileSystem> Running<F> {
    /// Serves with the calling thread, too, until the mount is gone.
    ///
    /// # Errors
    /// The device fails.
    pub fn serve(self) -> io::Result<()> {
        let own = match self.session.forgets() {
            Some(forgets) => forgets.serve(&self.session),
            None => self.session.serve(),
        };
        let served = self.others.into_iter().fold(own, |served, thread| {
            let other = thread.join().map_err(|_| io::Error::other("a thread panicked"));
            served.and(other?)
        });
        self.session.file_system.destroy();
        served
    }
}

fn thread<T: Send + 'static>(
    name: String,
    run: impl FnOnce() -> T + Send + 'static,
) -> io::Result<JoinHandle<T>> {
    std::thread::Builder::new().name(name).spawn(run)
}

/// Reads one message.
fn read(device: &OwnedFd, buffer: &mut Buffer) -> sys::Result<usize> {
    loop {
        match nix::unistd::read(device, buffer.bytes()) {
            // A message that was taken back, a signal, or another reader was faster.
            Err(Errno::ENOENT | Errno::EINTR | Errno::EAGAIN) => {}
            other => return other,
        }
    }
}

/// Takes the greeting apart.
fn greeting(body: &[u8]) -> io::Result<(InitIn, Offer)> {
    let greeting = match InitIn::read_from_prefix(body) {
        Ok((full, _)) => full,
        Err(_) => {
            let (short, _) = InitInShort::read_from_prefix(body)
                .map_err(|_| io::Error::other("the kernel's greeting is cut off"))?;
            let InitInShort { major, minor, max_readahead, flags } = short;
            InitIn { major, minor, max_readahead, flags, ..InitIn::default() }
        }
    };
    let InitIn { major, minor, max_readahead, .. } = greeting;
    if major != MAJOR || minor < abi::OLDEST_MINOR {
        return Err(io::Error::other(format!(
            "the kernel speaks FUSE {major}.{minor}, and {MAJOR}.{} or newer is needed",
            abi::OLDEST_MINOR
        )));
    }
    let mut flags = u64::from(greeting.flags);
    if flags & init::INIT_EXT != 0 {
        flags |= u64::from(greeting.flags2) << 32;
    }
    Ok((greeting, Offer { flags, max_readahead }))
}

fn answer(greeting: &InitIn, flags: u64, wanted: &Agreement) -> InitOut {
    let mut flags = flags;
    if wanted.lanes.is_some() {
        flags |= init::OVER_IO_URING;
    }
    if flags >> 32 != 0 {
        flags |= init::INIT_EXT;
    }
    InitOut {
        major: MAJOR,
        minor: MINOR.min(greeting.minor),
        max_readahead: greeting.max_readahead,
        flags: flags as u32,
        flags2: (flags >> 32) as u32,
        max_write: wanted.max_write,
        max_pages: u16::try_from(wanted.max_write.div_ceil(PAGE)).unwrap_or(u16::MAX),
        time_gran: 1,
        max_stack_depth: wanted.max_stack_depth,
        ..InitOut::default()
    }
}

#[cfg(test)]
mod tests {
    use zerocopy::IntoBytes;

    use super::*;

    #[test]
    fn flags_of_both_words_are_offered_and_answered() {
        let mut hello = InitIn { major: 7, minor: 40, ..InitIn::default() };
        hello.flags = (init::INIT_EXT | init::BIG_WRITES) as u32;
        hello.flags2 = (init::PASSTHROUGH >> 32) as u32;
        let (greeting, offer) = greeting(hello.as_bytes()).unwrap();
        assert_eq!(offer.flags, init::INIT_EXT | init::BIG_WRITES | init::PASSTHROUGH);
        let wanted = Agreement { flags: 0, max_write: 1 << 20, max_stack_depth: 1, lanes: None };
        let out = answer(&greeting, init::PASSTHROUGH, &wanted);
        assert_eq!((out.major, out.minor, out.max_pages), (7, 40, 256));
        assert_eq!(out.flags, init::INIT_EXT as u32);
        assert_eq!(out.flags2, (init::PASSTHROUGH >> 32) as u32);
        assert_eq!(answer(&greeting, init::BIG_WRITES, &wanted).flags, 1 << 5);
    }

    #[test]
    fn a_short_greeting_will_do_and_an_old_one_is_refused() {
        let short = InitInShort { major: 7, minor: 31, max_readahead: 9, flags: 1 };
        let (_, offer) = greeting(short.as_bytes()).unwrap();
        assert_eq!((offer.flags, offer.max_readahead), (1, 9));
        for (major, minor) in [(7, 22), (6, 40), (8, 0)] {
            let other = InitIn { major, minor, ..InitIn::default() };
            let said = greeting(other.as_bytes()).unwrap_err().to_string();
            assert!(said.contains(&format!("{major}.{minor}")), "{said}");
        }
        assert!(greeting(&[0; 8]).is_err());
    }

    #[test]
    fn messages_are_counted_by_name() {
        let counts = Counts::default();
        [opcode::LOOKUP, opcode::STATX, opcode::LOOKUP, 4711].iter().for_each(|o| counts.count(*o));
        let all: Vec<_> = counts.all().collect();
        assert_eq!(all, [("other", 1), ("LOOKUP", 2), ("STATX", 1)]);
    }
}
