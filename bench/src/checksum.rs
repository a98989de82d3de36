//! A checksum of a tree: names, types, modes, owners, sizes, times of files, contents, hard links.

use std::collections::BTreeMap;
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Returns the checksum of the tree at `root`.
pub(crate) fn of(root: &Path) -> io::Result<u64> {
    let mut hash = DefaultHasher::new();
    let mut inodes = BTreeMap::new();
    add(root, &mut hash, &mut inodes)?;
    Ok(hash.finish())
}

fn add(path: &Path, hash: &mut DefaultHasher, inodes: &mut BTreeMap<u64, usize>) -> io::Result<()> {
    let meta = fs::symlink_metadata(path)?;
    (meta.mode(), meta.uid(), meta.gid()).hash(hash);
    if meta.is_dir() {
        let mut names = fs::read_dir(path)?
            .map(|entry| entry.map(|e| e.file_name()))
            .collect::<io::Result<Vec<_>>>()?;
        names.sort();
        for name in names {
            name.hash(hash);
            add(&path.join(name), hash, inodes)?;
        }
        return Ok(());
    }
    // A hard link is told by the place of its first name, not by numbers that differ.
    let next = inodes.len();
    inodes.entry(meta.ino()).or_insert(next).hash(hash);
    (meta.len(), meta.mtime(), meta.nlink()).hash(hash);
    match meta.is_symlink() {
        true => fs::read_link(path)?.hash(hash),
        false => hash.write(&fs::read(path)?),
    }
    Ok(())
}
