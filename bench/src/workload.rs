//! The work that is measured.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A piece of work on a tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Workload {
    /// `tar -xf` of the tree into the union.
    Untar,
    /// `find` with a stat of each object, the second time.
    WarmFind,
    /// Open, read and close of each file, the second time.
    WarmRead,
    /// `rm -rf` of the tree.
    Remove,
}

/// Where the tree is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Layer {
    /// In the upper layer, where untar has put it.
    Upper,
    /// In the lower layer, as an image has it.
    Lower,
}

/// What is measured in each round, in this order.
pub(crate) const ALL: [(Layer, Workload); 7] = [
    (Layer::Upper, Workload::Untar),
    (Layer::Upper, Workload::WarmFind),
    (Layer::Upper, Workload::WarmRead),
    (Layer::Upper, Workload::Remove),
    (Layer::Lower, Workload::WarmFind),
    (Layer::Lower, Workload::WarmRead),
    (Layer::Lower, Workload::Remove),
];

/// Returns the name for reports.
pub(crate) fn name(layer: Layer, work: Workload) -> &'static str {
    match (layer, work) {
        (_, Workload::Untar) => "untar",
        (Layer::Upper, Workload::WarmFind) => "warm find",
        (Layer::Upper, Workload::WarmRead) => "warm read",
        (Layer::Upper, Workload::Remove) => "rm -rf",
        (Layer::Lower, Workload::WarmFind) => "warm find, lower",
        (Layer::Lower, Workload::WarmRead) => "warm read, lower",
        (Layer::Lower, Workload::Remove) => "rm -rf, lower",
    }
}

/// Unpacks the archive into `dir`.
pub(crate) fn untar(archive: &Path, dir: &Path) -> io::Result<()> {
    succeed(Command::new("tar").arg("-xf").arg(archive).arg("-C").arg(dir))
}

/// Walks the tree and looks at each object.
pub(crate) fn find(tree: &Path) -> io::Result<()> {
    // Comparing sizes makes find ask for each, which the type alone wouldn't.
    succeed(Command::new("find").arg(tree).args(["-size", "+1000000k"]))
}

/// Removes the tree.
pub(crate) fn remove(tree: &Path) -> io::Result<()> {
    succeed(Command::new("rm").arg("-rf").arg(tree))
}

/// Reads each of the files.
pub(crate) fn read(files: &[PathBuf]) -> io::Result<()> {
    let mut block = vec![0; 128 << 10];
    for path in files {
        let mut file = File::open(path)?;
        while file.read(&mut block)? > 0 {}
    }
    Ok(())
}

/// Returns the paths of all regular files of a tree.
pub(crate) fn files(tree: &Path) -> io::Result<Vec<PathBuf>> {
    let mut all = Vec::new();
    let mut dirs = vec![tree.to_path_buf()];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            let kind = entry.file_type()?;
            if kind.is_dir() {
                dirs.push(entry.path());
            } else if kind.is_file() {
                all.push(entry.path());
            }
        }
    }
    Ok(all)
}

fn succeed(command: &mut Command) -> io::Result<()> {
    let status = command.stdin(Stdio::null()).stdout(Stdio::null()).status()?;
    if status.success() { Ok(()) } else { Err(io::Error::other(format!("{command:?}: {status}"))) }
}
