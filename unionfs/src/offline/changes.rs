//! What an upper changed, as a list.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use super::error::Result;
use super::walk::{Node, Stack, Visitor, Was};

/// What happened to a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ChangeKind {
    /// It is new.
    Added,
    /// It, or something in it, is another.
    Changed,
    /// It is gone, with everything below it.
    Deleted,
}

impl ChangeKind {
    /// Returns `A`, `C` or `D`.
    pub fn letter(self) -> char {
        match self {
            ChangeKind::Added => 'A',
            ChangeKind::Changed => 'C',
            ChangeKind::Deleted => 'D',
        }
    }
}

/// A path that is not as in the layers below.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Change {
    /// Absolute path in the union.
    pub path: PathBuf,
    /// What happened to it.
    pub kind: ChangeKind,
}

/// Returns what an upper changed, in the order of paths.
pub fn changes(stack: &Stack) -> Result<Vec<Change>> {
    let mut list = List(Vec::new());
    stack.walk(&mut list)?;
    list.0.sort();
    Ok(list.0)
}

struct List(Vec<Change>);

impl List {
    fn push(&mut self, path: &[u8], kind: ChangeKind) {
        let absolute = [b"/", path].concat();
        self.0.push(Change { path: PathBuf::from(OsString::from_vec(absolute)), kind });
    }
}

impl Visitor for List {
    fn object(&mut self, _: &Stack, node: &Node<'_>) -> Result<()> {
        let kind = match node.was {
            Was::Absent => ChangeKind::Added,
            Was::Dir | Was::Other => ChangeKind::Changed,
        };
        if !node.path.is_empty() {
            self.push(node.path, kind);
        }
        Ok(())
    }

    fn deleted(&mut self, path: &[u8]) -> Result<()> {
        self.push(path, ChangeKind::Deleted);
        Ok(())
    }

    fn hidden(&mut self, path: &[u8]) -> Result<()> {
        self.push(path, ChangeKind::Deleted);
        Ok(())
    }
}
