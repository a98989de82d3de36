//! The archive that a kernel unpacks as its first root: cpio, "newc"
//! (Documentation/driver-api/early-userspace/buffer-format.rst).

use std::collections::BTreeSet;

/// What an entry is.
const DIRECTORY: u32 = 0o040_000;
const FILE: u32 = 0o100_000;
const SYMLINK: u32 = 0o120_000;

/// An archive that is being made. Directories are made as they are needed.
#[derive(Debug, Default)]
pub(crate) struct Archive {
    bytes: Vec<u8>,
    entries: u32,
    seen: BTreeSet<String>,
}

impl Archive {
    /// Adds a directory, and those above it.
    pub(crate) fn dir(&mut self, path: &str, mode: u32) {
        if path.is_empty() || !self.seen.insert(path.to_owned()) {
            return;
        }
        self.parents(path);
        self.entry(path, DIRECTORY | mode, b"");
    }

    /// Adds a file; the first of a name stays.
    pub(crate) fn file(&mut self, path: &str, mode: u32, content: &[u8]) {
        if self.seen.insert(path.to_owned()) {
            self.parents(path);
            self.entry(path, FILE | mode, content);
        }
    }

    /// Adds a symbolic link.
    pub(crate) fn symlink(&mut self, path: &str, target: &str) {
        if self.seen.insert(path.to_owned()) {
            self.parents(path);
            self.entry(path, SYMLINK | 0o777, target.as_bytes());
        }
    }

    /// Whether there is an entry of this name.
    pub(crate) fn has(&self, path: &str) -> bool {
        self.seen.contains(path)
    }

    /// Ends it and returns its bytes.
    pub(crate) fn finish(mut self) -> Vec<u8> {
        self.entry("TRAILER!!!", 0, b"");
        self.bytes
    }

    fn parents(&mut self, path: &str) {
        if let Some((parent, _)) = path.rsplit_once('/') {
            self.dir(parent, 0o755);
        }
    }

    fn entry(&mut self, path: &str, mode: u32, content: &[u8]) {
        self.entries += 1;
        let size = u32::try_from(content.len()).expect("a file of less than 4 GiB");
        let name = u32::try_from(path.len() + 1).expect("a short name");
        // Number, mode, owner, group, links, time, size, device (2), its own device (2), name, sum.
        let fields = [self.entries, mode, 0, 0, 1, 0, size, 0, 0, 0, 0, name, 0];
        self.bytes.extend_from_slice(b"070701");
        for field in fields {
            self.bytes.extend_from_slice(format!("{field:08X}").as_bytes());
        }
        self.bytes.extend_from_slice(path.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend_from_slice(content);
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

#[test]
fn an_archive_has_its_entries_in_order_and_aligned() {
    let mut archive = Archive::default();
    archive.file("a/b/c", 0o644, b"hello");
    archive.file("a/b/c", 0o644, b"again");
    archive.symlink("a/l", "b");
    let bytes = archive.finish();
    assert_eq!(bytes.len() % 4, 0);
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let names: Vec<_> = text.split("070701").skip(1).map(|e| &e[104..]).collect();
    let starts = |entry: &&str, name: &str| entry.starts_with(&format!("{name}\0"));
    let expected = ["a", "a/b", "a/b/c", "a/l", "TRAILER!!!"];
    assert!(names.iter().zip(expected).all(|(entry, name)| starts(entry, name)), "{names:?}");
    assert_eq!(names.len(), expected.len());
    assert!(names[2].contains("hello"));
}
