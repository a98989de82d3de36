//! The directory tree of the mount, from the table of files: it never changes.

use std::collections::HashMap;
use std::ffi::OsStr;

use fuser::{FileType, INodeNo};

use crate::files::{Row, TABLE};
use crate::host::Host;
use crate::host::sysfs::CPU_DIRECTORY;

/// A directory or file.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) number: INodeNo,
    pub(super) name: &'static str,
    pub(super) parent: INodeNo,
    /// The file, unless it is a directory.
    pub(super) file: Option<&'static Row>,
}

/// All nodes. A node's inode number is made of its path, so a daemon that takes over a mount has the
/// same numbers, also where its table has grown.
#[derive(Debug)]
pub(super) struct Tree {
    nodes: Vec<Node>,
    by_number: HashMap<u64, usize>,
}

/// Marks numbers of the table, and keeps them within the 32 bits that old programs have for them.
const IN_TABLE: u64 = 1 << 30;

/// Returns 64 bits that depend on all of a path, always the same (FNV-1a).
pub(super) fn hash(path: &[u8]) -> u64 {
    path.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

fn number(path: &str) -> INodeNo {
    let hash = hash(path.as_bytes());
    INodeNo((hash ^ hash >> 32) & (IN_TABLE - 1) | IN_TABLE)
}

impl Tree {
    /// Makes the tree of the files that the machine has, too: without pressure measurement, say, it
    /// has none of its files.
    pub(super) fn new(host: &Host) -> Tree {
        Tree::of(TABLE.iter().filter(|row| host.has(row.fallback)))
    }

    fn of(rows: impl Iterator<Item = &'static Row>) -> Tree {
        let mut tree = Tree { nodes: Vec::new(), by_number: HashMap::new() };
        let root = INodeNo::ROOT;
        tree.add(Node { number: root, name: "", parent: root, file: None });
        for row in rows {
            let mut at = root;
            let mut end = 0;
            for part in row.path.split('/') {
                end += part.len();
                let path = row.path.get(..end).unwrap_or_default();
                let file = (path.len() == row.path.len()).then_some(row);
                let node = Node { number: number(path), name: part, parent: at, file };
                at = tree.find(at, part).unwrap_or_else(|| tree.add(node));
                end += 1;
            }
        }
        tree
    }

    /// Returns the directory whose other entries are the machine's.
    pub(super) fn cpu_directory(&self) -> Option<INodeNo> {
        let step = |at, part| self.find(at, part);
        CPU_DIRECTORY.split('/').try_fold(INodeNo::ROOT, step)
    }

    fn add(&mut self, node: Node) -> INodeNo {
        let number = node.number;
        self.by_number.insert(number.0, self.nodes.len());
        self.nodes.push(node);
        number
    }

    fn find(&self, parent: INodeNo, name: &str) -> Option<INodeNo> {
        self.children(parent).find(|(_, n)| n.name == name).map(|(ino, _)| ino)
    }

    pub(super) fn lookup(&self, parent: INodeNo, name: &OsStr) -> Option<INodeNo> {
        self.find(parent, name.to_str()?)
    }

    pub(super) fn get(&self, ino: INodeNo) -> Option<&Node> {
        self.nodes.get(*self.by_number.get(&ino.0)?)
    }

    /// Returns all nodes.
    pub(super) fn nodes(&self) -> impl Iterator<Item = &Node> {
        self.nodes.iter()
    }

    pub(super) fn children(&self, parent: INodeNo) -> impl Iterator<Item = (INodeNo, &Node)> {
        let numbered = self.nodes.iter().map(|n| (n.number, n));
        numbered.filter(move |(ino, n)| n.parent == parent && *ino != INodeNo::ROOT)
    }
}

impl Node {
    pub(super) fn kind(&self) -> FileType {
        if self.file.is_some() { FileType::RegularFile } else { FileType::Directory }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_files_have_one_number() {
        let tree = Tree::of(TABLE.iter());
        assert_eq!(tree.by_number.len(), tree.nodes.len());
    }

    #[test]
    fn numbers_stay_the_same_for_ever() {
        // A daemon of this version may take over a mount of an older one.
        assert_eq!(number("proc/meminfo"), INodeNo(1_220_535_305));
    }
}
