//! Open files: what was rendered for each.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use dashmap::DashMap;
use fuser::FileHandle;

/// Texts of open files.
#[derive(Debug)]
pub(super) struct Handles {
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
        // time since boot, in nanoseconds, is beyond all of those.
        let first = crate::host::since_boot().as_nanos() as u64;
        Handles { next: AtomicU64::new(first), texts: DashMap::new() }
    }

    /// Files what was rendered at open.
    pub(super) fn add(&self, bytes: Arc<[u8]>) -> FileHandle {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        self.texts.insert(number, Text { bytes, is_fresh: true });
        FileHandle(number)
    }

    /// Files what was rendered at a read.
    pub(super) fn replace(&self, handle: FileHandle, bytes: Arc<[u8]>) {
        self.texts.insert(handle.0, Text { bytes, is_fresh: false });
    }

    /// Returns the text to read from at `offset`, or `None` if it is to be rendered anew. That is so
    /// at each return to the beginning, as the kernel's own files have it: `top` keeps its files open
    /// and rewinds. It is so too for a file that was opened at a daemon before this one.
    pub(super) fn get(&self, handle: FileHandle, offset: u64) -> Option<Arc<[u8]>> {
        let mut text = self.texts.get_mut(&handle.0)?;
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
