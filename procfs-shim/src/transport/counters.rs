//! What this worker has served, counted without locks. In a static, as a signal's answer knows no file
//! system.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::host::HostFile;

/// Kinds of messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Message {
    Lookup,
    Getattr,
    Readlink,
    Open,
    Read,
    Release,
    Readdir,
    Other,
}

impl Message {
    pub(super) const NAMES: [&str; 8] =
        ["lookup", "getattr", "readlink", "open", "read", "release", "readdir", "other"];
}

/// Files of the table.
const FILES: usize = HostFile::ALL.len();

/// Upper bounds of the time that making a text takes, in microseconds; one more has no bound.
pub(super) const BOUNDS: [u64; 11] = [5, 10, 20, 50, 100, 200, 500, 1000, 5000, 20_000, 100_000];

/// The counters.
#[derive(Debug)]
pub(super) struct Counters {
    messages: [AtomicU64; Message::NAMES.len()],
    opens: [AtomicU64; FILES],
    stand_ins: [AtomicU64; FILES],
    errors: AtomicU64,
    made: [AtomicU64; BOUNDS.len() + 1],
    made_nanoseconds: AtomicU64,
}

/// This worker's.
pub(super) static COUNTERS: Counters = Counters {
    messages: [const { AtomicU64::new(0) }; Message::NAMES.len()],
    opens: [const { AtomicU64::new(0) }; FILES],
    stand_ins: [const { AtomicU64::new(0) }; FILES],
    errors: AtomicU64::new(0),
    made: [const { AtomicU64::new(0) }; BOUNDS.len() + 1],
    made_nanoseconds: AtomicU64::new(0),
};

fn add(counter: Option<&AtomicU64>) {
    if let Some(counter) = counter {
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

fn read<const N: usize>(all: &[AtomicU64; N]) -> [u64; N] {
    all.each_ref().map(|c| c.load(Ordering::Relaxed))
}

impl Counters {
    /// Notes a message of the kernel.
    pub(super) fn message(&self, message: Message) {
        add(self.messages.get(message as usize));
    }

    /// Notes that a file was given to a reader, who was told the machine's figures or his own.
    pub(super) fn given(&self, file: HostFile, is_stand_in: bool) {
        add(self.opens.get(file as usize));
        if is_stand_in {
            add(self.stand_ins.get(file as usize));
        }
    }

    /// Notes that a message was answered by an error.
    pub(super) fn error(&self) {
        add(Some(&self.errors));
    }

    /// Notes how long it took to make a text.
    pub(super) fn made(&self, took: Duration) {
        let micros = took.as_micros();
        let bucket = BOUNDS.iter().position(|&b| micros <= u128::from(b)).unwrap_or(BOUNDS.len());
        add(self.made.get(bucket));
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.made_nanoseconds.fetch_add(nanos, Ordering::Relaxed);
    }

    /// Messages by kind, as [`Message::NAMES`].
    pub(super) fn messages(&self) -> [u64; Message::NAMES.len()] {
        read(&self.messages)
    }

    /// Files given to readers, as [`HostFile::ALL`], and those of them that were the machine's.
    pub(super) fn files(&self) -> ([u64; FILES], [u64; FILES]) {
        (read(&self.opens), read(&self.stand_ins))
    }

    /// Errors answered.
    pub(super) fn errors(&self) -> u64 {
        self.errors.load(Ordering::Relaxed)
    }

    /// Texts made, by the time it took, and the nanoseconds of all of them.
    pub(super) fn times(&self) -> ([u64; BOUNDS.len() + 1], u64) {
        (read(&self.made), self.made_nanoseconds.load(Ordering::Relaxed))
    }
}
