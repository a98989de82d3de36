//! The directory tree of the mount, from the table of files: it never changes.

use std::ffi::OsStr;

use fuser::{FileType, INodeNo};

use crate::files::{Row, TABLE};
use crate::host::Host;
use crate::host::sysfs::CPU_DIRECTORY;

/// A directory or file.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) name: &'static str,
    pub(super) parent: INodeNo,
    /// The file, unless it is a directory.
    pub(super) file: Option<&'static Row>,
}

/// All nodes; a node's inode number is its position, from 1 for the root, so a daemon that takes
/// over a mount has the same numbers.
#[derive(Debug)]
pub(super) struct Tree {
    nodes: Vec<Node>,
}

impl Tree {
    /// Makes the tree of the files that the machine has, too: without pressure measurement, say, it
    /// has none of its files.
    pub(super) fn new(host: &Host) -> Tree {
        let root = Node { name: "", parent: INodeNo::ROOT, file: None };
        let mut tree = Tree { nodes: vec![root] };
        for row in TABLE.iter().filter(|row| host.has(row.fallback)) {
            let mut at = INodeNo::ROOT;
            let mut parts = row.path.split('/').peekable();
            while let Some(part) = parts.next() {
                let file = parts.peek().is_none().then_some(row);
                at = tree
                    .find(at, part)
                    .unwrap_or_else(|| tree.add(Node { name: part, parent: at, file }));
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
        self.nodes.push(node);
        INodeNo(self.nodes.len() as u64)
    }

    fn find(&self, parent: INodeNo, name: &str) -> Option<INodeNo> {
        self.children(parent).find(|(_, n)| n.name == name).map(|(ino, _)| ino)
    }

    pub(super) fn lookup(&self, parent: INodeNo, name: &OsStr) -> Option<INodeNo> {
        self.find(parent, name.to_str()?)
    }

    pub(super) fn get(&self, ino: INodeNo) -> Option<&Node> {
        let index = usize::try_from(ino.0).ok()?.checked_sub(1)?;
        self.nodes.get(index)
    }

    /// Returns all nodes in the order of their numbers.
    pub(super) fn nodes(&self) -> impl Iterator<Item = &Node> {
        self.nodes.iter()
    }

    pub(super) fn children(&self, parent: INodeNo) -> impl Iterator<Item = (INodeNo, &Node)> {
        let numbered = (1..).map(INodeNo).zip(&self.nodes);
        numbered.filter(move |(ino, n)| n.parent == parent && *ino != INodeNo::ROOT)
    }
}

impl Node {
    pub(super) fn kind(&self) -> FileType {
        if self.file.is_some() { FileType::RegularFile } else { FileType::Directory }
    }
}
