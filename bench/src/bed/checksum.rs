//! Checksums of a tree: names, types, modes, owners, sizes, contents; and hard links and times.

use std::collections::BTreeMap;
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::bed::Times;

/// Checksums of one tree.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sums {
    /// Of names, types, modes, owners, sizes and contents.
    pub(crate) contents: u64,
    /// Of hard links, and of times where they count.
    pub(crate) links_and_times: u64,
}

/// Returns the checksums of the tree at `root`; of what isn't there they are 0.
pub(crate) fn of(root: &Path, times: Times) -> io::Result<Sums> {
    let (hash, exact) = (DefaultHasher::new(), DefaultHasher::new());
    let mut sum = Sum { hash, exact, inodes: BTreeMap::new(), times };
    match fs::symlink_metadata(root) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Sums::default()),
        Err(e) => return Err(e),
        Ok(_) => sum.add(root)?,
    }
    Ok(Sums { contents: sum.hash.finish(), links_and_times: sum.exact.finish() })
}

/// Returns a digest of two.
pub(crate) fn mix(a: u64, b: u64) -> u64 {
    let mut hash = DefaultHasher::new();
    (a, b).hash(&mut hash);
    hash.finish()
}

/// Returns a digest of anything. Sums of such digests don't depend on the order of what is summed.
pub(crate) fn digest(of: impl Hash) -> u64 {
    let mut hash = DefaultHasher::new();
    of.hash(&mut hash);
    hash.finish()
}

struct Sum {
    hash: DefaultHasher,
    exact: DefaultHasher,
    inodes: BTreeMap<u64, usize>,
    times: Times,
}

impl Sum {
    fn add(&mut self, path: &Path) -> io::Result<()> {
        let meta = fs::symlink_metadata(path)?;
        (meta.mode(), meta.uid(), meta.gid()).hash(&mut self.hash);
        if meta.is_dir() {
            let mut names = fs::read_dir(path)?
                .map(|entry| entry.map(|e| e.file_name()))
                .collect::<io::Result<Vec<_>>>()?;
            names.sort();
            for name in names {
                name.hash(&mut self.hash);
                self.add(&path.join(name))?;
            }
            return Ok(());
        }
        // A hard link is told by the place of its first name, not by numbers that differ.
        let next = self.inodes.len();
        self.inodes.entry(meta.ino()).or_insert(next).hash(&mut self.exact);
        meta.nlink().hash(&mut self.exact);
        meta.len().hash(&mut self.hash);
        if self.times == Times::Count {
            meta.mtime().hash(&mut self.exact);
        }
        match meta.is_symlink() {
            true => fs::read_link(path)?.hash(&mut self.hash),
            false => self.contents(path)?,
        }
        Ok(())
    }

    fn contents(&mut self, path: &Path) -> io::Result<()> {
        let mut file = fs::File::open(path)?;
        let mut block = vec![0; 128 << 10];
        loop {
            match file.read(&mut block)? {
                0 => return Ok(()),
                n => self.hash.write(&block[..n]),
            }
        }
    }
}
