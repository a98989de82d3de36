//! What workers tell their successors: load averages, and processor time while another capacity held.
//!
//! A file in memory that the supervisor holds has two places, written in turn: a worker that is killed
//! in the middle of one leaves the other whole.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::load::LoadNote;
use super::meter::MeterNote;
use crate::host::Moment;

/// Where the second place begins. The file has holes: memory is used for what is written.
const SECOND: u64 = 1 << 30;

/// Marks a place, and its form: another number, another form.
const MARK: u64 = 0x7073_6869_6d00_0001;

/// Mark, count, length and sum of the text, eight bytes each.
const HEAD: usize = 32;

/// More than any text: thousands of containers have a few hundred bytes each.
const MOST: u64 = 64 << 20;

/// How long what is known of a container that nobody asks for is passed on, in nanoseconds: the
/// slowest average has forgotten most by then.
const GOOD_FOR: u64 = 15 * 60 * 1_000_000_000;

/// What is passed on of one container.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Note {
    /// Its load averages.
    pub load: LoadNote,
    /// Its processor time.
    pub meter: MeterNote,
}

/// Notes by container.
pub type Notes = HashMap<String, Note>;

/// The file, and what a worker before this one wrote of containers that this one hasn't seen yet.
#[derive(Debug)]
pub struct Notebook {
    file: File,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// How often it was written.
    count: u64,
    earlier: Notes,
}

impl Notebook {
    /// Opens what a worker before this one has left; a file without notes is an empty one.
    pub fn open(file: File) -> Notebook {
        let read = [0, SECOND].into_iter().filter_map(|at| read(&file, at));
        let (count, text) = read.max_by_key(|(count, _)| *count).unwrap_or_default();
        let earlier = serde_json::from_slice(&text).unwrap_or_default();
        Notebook { file, state: Mutex::new(State { count, earlier }) }
    }

    /// Returns what was noted of a container, once.
    pub fn take(&self, key: &str) -> Option<Note> {
        self.state.lock().earlier.remove(key)
    }

    /// Writes what is known now, or says in the log why that can't be done.
    pub fn note(&self, notes: Notes) {
        if let Err(e) = self.write(Moment::now(), notes) {
            log::warn!("note the load averages for a worker after this one: {e}");
        }
    }

    /// Writes what is known now. What is known of other containers from before is kept for a while.
    ///
    /// # Errors
    /// There is no memory left.
    pub fn write(&self, now: Moment, mut notes: Notes) -> io::Result<()> {
        let mut state = self.state.lock();
        state.earlier.retain(|_, note| now.0.saturating_sub(note.load.sampled) < GOOD_FOR);
        for (key, note) in &state.earlier {
            notes.entry(key.clone()).or_insert_with(|| note.clone());
        }
        let text = serde_json::to_vec(&notes)?;
        let count = state.count + 1;
        let at = if count.is_multiple_of(2) { 0 } else { SECOND };
        self.file.write_all_at(&text, at + HEAD as u64)?;
        let head = [MARK, count, text.len() as u64, sum(count, &text)];
        self.file.write_all_at(head.map(u64::to_ne_bytes).as_flattened(), at)?;
        state.count = count;
        Ok(())
    }
}

/// Reads one place: its count and text, if it is whole.
fn read(file: &File, at: u64) -> Option<(u64, Vec<u8>)> {
    let mut head = [0; HEAD];
    file.read_exact_at(&mut head, at).ok()?;
    let mut words = head.as_chunks::<8>().0.iter().map(|w| u64::from_ne_bytes(*w));
    let (mark, count, length, expected) =
        (words.next()?, words.next()?, words.next()?, words.next()?);
    if mark != MARK || length > MOST {
        return None;
    }
    let mut text = vec![0; usize::try_from(length).ok()?];
    file.read_exact_at(&mut text, at + HEAD as u64).ok()?;
    (sum(count, &text) == expected).then_some((count, text))
}

/// FNV-1a over count and text: tells a text that was written to its end.
fn sum(count: u64, text: &[u8]) -> u64 {
    let bytes = count.to_ne_bytes();
    bytes.iter().chain(text).fold(0xcbf2_9ce4_8422_2325, |sum, &byte| {
        (sum ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note(sampled: u64) -> Note {
        let load = LoadNote { averages: [1.0, 0.5, 0.25], processes: 7, sampled };
        Note { load, meter: MeterNote::default() }
    }

    fn file() -> File {
        let name = c"notes";
        nix::sys::memfd::memfd_create(name, nix::sys::memfd::MFdFlags::MFD_CLOEXEC).unwrap().into()
    }

    fn notes(names: &[&str], sampled: u64) -> Notes {
        names.iter().map(|name| ((*name).to_owned(), note(sampled))).collect()
    }

    #[test]
    fn a_successor_finds_what_was_written_last() {
        let file = file();
        let first = Notebook::open(file.try_clone().unwrap());
        assert_eq!(first.take("a"), None);
        for sampled in 1..=5 {
            first.write(Moment(sampled), notes(&["a"], sampled)).unwrap();
        }
        let second = Notebook::open(file);
        assert_eq!(second.take("a"), Some(note(5)));
        assert_eq!(second.take("a"), None);
    }

    #[test]
    fn a_text_that_was_cut_short_is_not_read() {
        let file = file();
        let first = Notebook::open(file.try_clone().unwrap());
        first.write(Moment(1), notes(&["a"], 1)).unwrap();
        first.write(Moment(2), notes(&["a"], 2)).unwrap();
        // The third writing, which goes where the first is, ends in its text.
        file.write_all_at(b"{", SECOND + HEAD as u64 + 3).unwrap();
        assert_eq!(Notebook::open(file).take("a"), Some(note(2)));
    }

    #[test]
    fn what_nobody_asked_for_is_passed_on_for_a_while() {
        let file = file();
        let first = Notebook::open(file.try_clone().unwrap());
        first.write(Moment(1), notes(&["a", "b"], 1)).unwrap();
        let second = Notebook::open(file.try_clone().unwrap());
        assert!(second.take("a").is_some());
        second.write(Moment(2), notes(&["a"], 2)).unwrap();
        let third = Notebook::open(file.try_clone().unwrap());
        third.write(Moment(GOOD_FOR + 1), notes(&[], 0)).unwrap();
        assert_eq!(Notebook::open(file).take("b"), None);
    }
}
