//! Reading ahead over files. The kernel reads ahead in a file, but of a tree of small files it waits for
//! each; who reads the files of a directory in the order in which it lists them (tar, cp, rsync, grep) gets
//! the next ones into memory while it works on the last.

use std::ffi::OsString;
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};
use parking_lot::Mutex;
use sys::{Errno, copy};

use crate::error::Result;
use crate::inode::{Cookie, Core, Ino, Inode, Listing};
use crate::layer::Spot;

/// Files in a row that weren't in memory.
const MISSES: u32 = 2;
/// How far the next file may stand behind the last: there are others than regular files between.
const REACH: u64 = 8;
/// Files that are fetched at once; the next so many when half of them were read.
const BATCH: usize = 16;
/// Bytes of each, about what the kernel reads ahead by itself when a file is opened.
const BYTES: i64 = 128 << 10;
/// Readers at different directories.
const READERS: usize = 4;

/// Who reads where.
#[derive(Debug, Default)]
pub(super) struct Ahead {
    /// Somebody is read ahead for, so that reads from memory are of interest as well.
    is_at_work: AtomicBool,
    /// The last one at the end.
    readers: Mutex<Vec<Reader>>,
    worker: OnceLock<Option<Worker>>,
}

/// One reader of a directory's files.
#[derive(Clone, Copy, Debug)]
struct Reader {
    dir: Ino,
    /// The last file.
    at: u64,
    /// Files in a row that weren't in memory.
    misses: u32,
    /// The last that was fetched.
    until: u64,
}

/// The thread that fetches.
#[derive(Debug)]
struct Worker {
    jobs: SyncSender<Vec<Spot>>,
    /// All files of a job were in memory.
    was_idle: Arc<AtomicBool>,
}

impl Reader {
    /// Notes that a file is read, and returns after which one more are to be fetched.
    fn step(&mut self, at: u64, is_missing: bool) -> Option<u64> {
        let is_in_order = at > self.at && at - self.at <= REACH;
        self.at = at;
        if !is_in_order {
            (self.misses, self.until) = (0, at);
        }
        self.misses = self.misses.saturating_add(is_missing.into());
        let is_due = self.misses >= MISSES && self.until < at.saturating_add(BATCH as u64 / 2);
        is_due.then_some(self.until.max(at))
    }
}

impl Ahead {
    /// Notes that a file is read from its start, which may not be in memory.
    pub(super) fn note(&self, core: &Core, inode: &Arc<Inode>, is_missing: bool) {
        let is_of_interest = is_missing || self.is_at_work.load(Ordering::Relaxed);
        if is_of_interest && let Err(e) = self.follow(core, inode, is_missing) {
            log::debug!("read ahead: {}", e.desc());
        }
    }

    fn follow(&self, core: &Core, inode: &Arc<Inode>, is_missing: bool) -> Result<()> {
        let (dir, name) = {
            let place = inode.place.read();
            let Some(first) = place.first_name().filter(|_| place.child_slot().is_some()) else {
                return Ok(());
            };
            (Arc::clone(first.parent), first.name.to_os_string())
        };
        let next = {
            let listing = core.dir(&dir)?.listing.read();
            let Some(listing) = listing.as_ref() else { return Ok(()) };
            let Some(entry) = listing.get(&name) else { return Ok(()) };
            let mut readers = self.readers.lock();
            let Some(reader) = reader_of(&mut readers, dir.id) else { return Ok(()) };
            let from = reader.step(entry.cookie.0, is_missing);
            let next = from.map(|from| next_files(listing, from));
            if let Some((_, until)) = &next {
                reader.until = *until;
            }
            self.is_at_work.store(readers.iter().any(|r| r.misses >= MISSES), Ordering::Relaxed);
            next
        };
        if let Some((names, _)) = next.filter(|(names, _)| !names.is_empty()) {
            let spot = |(name, slot)| Ok(Spot::At(core.lower_dir(&dir, usize::from(slot))?, name));
            self.fetch(names.into_iter().map(spot).collect::<Result<_>>()?);
        }
        Ok(())
    }

    fn fetch(&self, files: Vec<Spot>) {
        let Some(worker) = self.worker.get_or_init(Worker::start) else { return };
        if worker.was_idle.swap(false, Ordering::Relaxed) {
            // Until files are missing again.
            self.readers.lock().clear();
            self.is_at_work.store(false, Ordering::Relaxed);
        } else if worker.jobs.try_send(files).is_err() {
            log::debug!("read ahead: the disk is behind");
        }
    }
}

/// Returns the files of lowers that stand behind a place of a listing, each with the lower of the directory
/// that has it, and up to where these are all.
fn next_files(listing: &Listing, from: u64) -> (Vec<(OsString, u16)>, u64) {
    let mut next = Vec::new();
    for (name, seat) in listing.after(Cookie(from)).filter(|(_, s)| s.kind == libc::DT_REG) {
        let entry = listing.get(name).filter(|e| !e.in_upper);
        let slot = entry.and_then(|e| e.lowers.single());
        next.extend(slot.map(|slot| (name.to_os_string(), slot)));
        if next.len() == BATCH {
            return (next, seat.cookie.0);
        }
    }
    (next, u64::MAX)
}

/// Returns the reader of a directory. Who comes from another directory goes on as before.
fn reader_of(readers: &mut Vec<Reader>, dir: Ino) -> Option<&mut Reader> {
    let known = readers.iter().position(|r| r.dir == dir).map(|i| readers.remove(i));
    let reader = known.unwrap_or_else(|| {
        let is_on = readers.last().is_some_and(|r| r.misses >= MISSES);
        let misses = if is_on { MISSES - 1 } else { 0 };
        Reader { dir, at: 0, misses, until: 0 }
    });
    if readers.len() == READERS {
        readers.remove(0);
    }
    readers.push(reader);
    readers.last_mut()
}

impl Worker {
    /// Starts the thread, which ends with the worker; `None`: there can be no more threads.
    fn start() -> Option<Worker> {
        let was_idle = Arc::new(AtomicBool::new(false));
        let (jobs, receive) = sync_channel(2);
        let told = Arc::clone(&was_idle);
        let run = move || work(&receive, &told);
        match std::thread::Builder::new().name("ahead".into()).spawn(run) {
            Ok(_) => Some(Worker { jobs, was_idle }),
            Err(e) => {
                log::warn!("no reading ahead: {e}");
                None
            }
        }
    }
}

/// Fetches until the mount is gone.
fn work(jobs: &Receiver<Vec<Spot>>, was_idle: &AtomicBool) {
    for files in jobs {
        let missing = files.iter().filter(|file| fetch(file).unwrap_or(false)).count();
        if missing == 0 {
            was_idle.store(true, Ordering::Relaxed);
        }
    }
}

/// Has the kernel read a file, and returns whether it wasn't in memory. Whoever reads it is told what can't be.
fn fetch(file: &Spot) -> Result<bool> {
    let fd = file.open(libc::O_RDONLY | libc::O_NONBLOCK)?;
    let is_missing = copy::read_cached(&fd, &mut [0], 0) == Err(Errno::EAGAIN);
    if is_missing {
        posix_fadvise(&fd, 0, BYTES, PosixFadviseAdvice::POSIX_FADV_WILLNEED)?;
    }
    Ok(is_missing)
}
