//! Sizes for readers that go through the page cache.
//!
//! Reads are direct, so the kernel doesn't look at a file's size; but sendfile(2) and splice(2), with
//! which busybox's `cat` begins, read pages, and end at the size. So files have a size that is larger
//! than any content. The kernel then takes the end of the content for the size, for all later
//! readers, whose content may be longer: before the next one gets its file, the size is set right
//! again. A thread does it, as the kernel may make it wait for a page that a server is to fill.

use std::collections::{HashMap, HashSet};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use daemon::Turns;
use fuser::{FileHandle, INodeNo, Notifier};
use parking_lot::Mutex;

use super::tree::Tree;
use crate::host::{Host, HostFile};

const PAGE: u64 = 4096;

/// What is taken for the length of /proc/slabinfo: to make it, the kernel looks at each object of the
/// machine's caches, longer than all else takes until the daemon serves.
const SLABS: u64 = 29 * PAGE;

/// How long a reader's open waits at most until the size is right.
const PATIENCE: Duration = Duration::from_millis(10);

/// The size of one file.
#[derive(Debug)]
struct Size {
    bytes: u64,
    /// The kernel takes the end of some content for it.
    shrunk: AtomicBool,
    /// Handles that pages were read for: until they are closed, the size must stay, as their
    /// reader ends at it.
    readers: Mutex<HashSet<FileHandle>>,
}

/// A wish for a size, and where to tell that it is fulfilled.
type Wish = (INodeNo, u64, Sender<()>);

/// The sizes of all files of the table, by number.
#[derive(Debug)]
pub(super) struct Sizes {
    sizes: HashMap<u64, Size>,
    wishes: OnceLock<Sender<Wish>>,
}

impl Sizes {
    /// Chooses a size for each file: room for the machine's content and more, and an odd number of
    /// pages, at least three, by which a page reader's request can be told from a program's buffer.
    pub(super) fn new(tree: &Tree, host: &Host) -> Sizes {
        let bytes = |fallback: HostFile| {
            let known = match fallback {
                HostFile::Slabinfo => SLABS,
                read => host.text(read).map_or(0, |text| text.len() as u64),
            };
            ((known / PAGE + 2) | 1) * PAGE
        };
        // A daemon before this one may have served readers of pages.
        let size = |bytes| Size { bytes, shrunk: AtomicBool::new(true), readers: Mutex::default() };
        let files = tree.nodes().filter_map(|n| Some((n.number.0, n.file?.fallback)));
        let sizes = files.map(|(number, file)| (number, size(bytes(file))));
        Sizes { sizes: sizes.collect(), wishes: OnceLock::new() }
    }

    fn get(&self, ino: INodeNo) -> Option<&Size> {
        self.sizes.get(&ino.0)
    }

    /// Returns the size of a file, 0 for a directory.
    pub(super) fn of(&self, ino: INodeNo) -> u64 {
        self.get(ino).map_or(0, |s| s.bytes)
    }

    /// Sets the size right before a file is opened.
    pub(super) fn before_open(&self, ino: INodeNo, turns: &Turns) {
        let Some(size) = self.get(ino).filter(|s| s.shrunk.load(Ordering::Relaxed)) else { return };
        if !size.readers.lock().is_empty() || !size.shrunk.swap(false, Ordering::Relaxed) {
            return;
        }
        // The kernel may wait for a page that this very file system is to fill.
        turns.blocking();
        let (done, fulfilled) = channel();
        if let Some(wishes) = self.wishes.get()
            && wishes.send((ino, size.bytes, done)).is_ok()
            && fulfilled.recv_timeout(PATIENCE).is_err()
        {
            log::debug!("the size of node {ino} could not be set right in time");
        }
    }

    /// Notes a read: one for all pages of a file comes from the page cache.
    pub(super) fn note_read(&self, ino: INodeNo, fh: FileHandle, offset: u64, bytes: u32) {
        if let Some(size) = self.get(ino).filter(|s| offset == 0 && u64::from(bytes) == s.bytes) {
            size.readers.lock().insert(fh);
            size.shrunk.store(true, Ordering::Relaxed);
        }
    }

    /// Notes that a file was closed.
    pub(super) fn note_release(&self, ino: INodeNo, fh: FileHandle) {
        if let Some(size) = self.get(ino).filter(|s| s.shrunk.load(Ordering::Relaxed)) {
            size.readers.lock().remove(&fh);
        }
    }

    /// Returns what sets sizes right, to be run in a thread with a notifier.
    pub(super) fn restorer(&self) -> Option<Restorer> {
        let (send, wishes) = channel();
        self.wishes.set(send).is_ok().then_some(Restorer { wishes })
    }
}

/// Sets the sizes of files right again.
#[derive(Debug)]
pub(super) struct Restorer {
    wishes: Receiver<Wish>,
}

impl Restorer {
    /// Works until the file system is gone.
    pub(super) fn run(self, notifier: Notifier) {
        for (ino, bytes, done) in self.wishes {
            // One byte at the very end of the last page, which no content reaches: the kernel makes
            // the file as long, and throws the page away at the next open.
            if let Err(e) = notifier.store(ino, bytes.saturating_sub(1), &[0]) {
                log::debug!("set the size of node {ino} right: {e}");
            }
            if done.send(()).is_err() {
                log::debug!("the reader of node {ino} didn't wait");
            }
        }
    }
}
