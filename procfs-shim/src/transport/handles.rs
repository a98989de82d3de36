//! Open files: what was rendered for each.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use dashmap::DashMap;
use fuser::FileHandle;

/// Low bits of a handle that tell how long the text was at open. With that, a daemon that takes over knows
/// which reader has seen the end: a text that it makes anew may be longer by a digit, and the reader would
/// get the rest of it as well.
const LENGTH_BITS: u32 = 20;

/// The length of a text as long as this, or longer, isn't known.
const MOST: u64 = (1 << LENGTH_BITS) - 1;

/// Texts of open files.
#[derive(Debug)]
pub(super) struct Handles {
    /// What is above the length in the next handle.
    next: AtomicU64,
    texts: DashMap<u64, Text>,
}

/// What was rendered for an open file.
#[derive(Debug)]
struct Text {
    bytes: Arc<[u8]>,
    /// Rendered at open, and not read from yet.
    is_fresh: bool,
}

impl Handles {
    pub(super) fn new() -> Handles {
        // A daemon that takes over a mount must not give a number that its predecessor gave: the
        // time since boot, in microseconds, is beyond all of those. It comes round after half a year.
        let first = crate::host::since_boot().as_micros() as u64;
        Handles { next: AtomicU64::new(first), texts: DashMap::new() }
    }

    /// Files what was rendered at open.
    pub(super) fn add(&self, bytes: Arc<[u8]>) -> FileHandle {
        let length = u64::try_from(bytes.len()).unwrap_or(MOST).min(MOST);
        let number = self.next.fetch_add(1, Ordering::Relaxed) << LENGTH_BITS | length;
        self.texts.insert(number, Text { bytes, is_fresh: true });
        FileHandle(number)
    }

    /// Files what was rendered at a read.
    pub(super) fn replace(&self, handle: FileHandle, bytes: Arc<[u8]>) {
        self.texts.insert(handle.0, Text { bytes, is_fresh: false });
    }

    /// Returns the text to read from at `offset`, or `None` if it is to be rendered anew. That is so
    /// at each return to the beginning, as the kernel's own files have it: `top` keeps its files open
    /// and rewinds. It is so too for a file that was opened at a daemon before this one, unless its
    /// reader has come to the end.
    pub(super) fn get(&self, handle: FileHandle, offset: u64) -> Option<Arc<[u8]>> {
        let Some(mut text) = self.texts.get_mut(&handle.0) else {
            let length = handle.0 & MOST;
            let is_read = offset > 0 && offset >= length && length < MOST;
            return is_read.then(Arc::default);
        };
        let is_fresh = std::mem::replace(&mut text.is_fresh, false);
        (offset > 0 || is_fresh).then(|| text.bytes.clone())
    }

    pub(super) fn remove(&self, handle: FileHandle) {
        self.texts.remove(&handle.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_seen_the_end_of_a_text_is_given_no_more_by_a_successor() {
        let file = Handles::new().add(b"one"[..].into());
        let successor = Handles::new();
        assert_eq!(*successor.get(file, 3).unwrap(), *b"");
        assert!(successor.get(file, 2).is_none());
        assert!(successor.get(file, 0).is_none());
        successor.replace(file, b"three"[..].into());
        assert_eq!(*successor.get(file, 3).unwrap(), *b"three");
        let long = Handles::new().add(vec![0; 2 << LENGTH_BITS].into());
        assert!(successor.get(long, 2 << LENGTH_BITS).is_none());
    }

    #[test]
    fn a_return_to_the_beginning_asks_for_a_new_text() {
        let handles = Handles::new();
        let file = handles.add(b"one"[..].into());
        assert!(handles.get(file, 0).is_some());
        assert!(handles.get(file, 3).is_some());
        assert!(handles.get(file, 0).is_none());
        handles.replace(file, b"two"[..].into());
        assert_eq!(*handles.get(file, 1).unwrap(), *b"two");
        assert!(handles.get(file, 0).is_none());
        handles.remove(file);
        assert!(handles.get(file, 1).is_none());
    }
}
