//! The work that is measured: suites of blocks of cases.

mod commit;
pub(crate) mod containers;
mod copyup;
mod dirsize;
mod engines;
mod install;
mod io;
mod layers;
mod memory;
mod ops;
mod pause;
mod podman;
mod shim;
mod start;
mod threads;
mod work;

pub(crate) mod fixture;
pub(crate) mod tree;

use std::io::Result;

use crate::bed::{Bed, Use};
use crate::subject::{Family, Kind, Subject};

/// A piece of work that is done on one mount of one subject, without another's in between.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Block {
    /// Which suite it is part of.
    pub(crate) suite: &'static str,
    /// Its name.
    pub(crate) name: &'static str,
    /// What it can be done on.
    pub(crate) family: Family,
    /// On which of them; on all, where this is empty.
    pub(crate) kinds: &'static [Kind],
    /// Files that it starts from.
    pub(crate) fixtures: &'static [fixture::Fixture],
    /// Whether its messages and system calls are counted.
    pub(crate) counted: bool,
    /// Programs without which it can't be done.
    pub(crate) needs: &'static [&'static str],
    /// Whether it is done only where it is asked for, or at full size.
    pub(crate) extra: bool,
    /// Does it.
    pub(crate) run: fn(&mut Bed<'_>) -> Result<()>,
}

impl Block {
    /// Whether `name` is that of this block, with its suite's before it, or of its suite.
    pub(crate) fn is_called(&self, name: &str) -> bool {
        match name.split_once('/') {
            Some(both) => both == (self.suite, self.name),
            None => self.suite == name,
        }
    }

    /// Whether it is done on a subject.
    pub(crate) fn suits(&self, subject: &Subject) -> bool {
        let only = &subject.only;
        self.family == subject.kind.family()
            && (self.kinds.is_empty() || self.kinds.contains(&subject.kind))
            && (only.is_empty() || only.iter().any(|name| self.is_called(name)))
    }
}

/// Suites with what they are about, in the order of reports.
pub(crate) const SUITES: [(&str, &str); 14] = [
    ("ops", "single operations, cold and warm"),
    ("io", "sequential and random reads and writes, fsync, mmap"),
    (
        "work",
        "real work: untar, find, tar, rm, chown, append, git, compile, SQLite, jobs side by side",
    ),
    ("install", "packages that are at hand, by dpkg, pip and npm"),
    ("copyup", "the first write to a lower file, against its size"),
    ("layers", "lookups through many layers"),
    ("dirsize", "listing and lookup against the size of the directory"),
    ("threads", "operations by several threads at once"),
    ("memory", "the daemon's memory for each inode that it knows"),
    ("pause", "how long nothing is answered when the process that serves is killed"),
    ("shim", "files of /proc, read by containers"),
    ("start", "containers that start, do nothing and end"),
    ("commit", "an image of what a container changed, against the size of its image"),
    ("engines", "podman's slow moments, by what serves the roots of its containers"),
];

/// Returns all blocks.
pub(crate) fn all() -> Vec<Block> {
    [
        ops::BLOCKS,
        io::BLOCKS,
        work::BLOCKS,
        install::BLOCKS,
        copyup::BLOCKS,
        layers::BLOCKS,
        dirsize::BLOCKS,
        threads::BLOCKS,
        memory::BLOCKS,
        pause::BLOCKS,
        shim::BLOCKS,
        start::BLOCKS,
        commit::BLOCKS,
        engines::BLOCKS,
    ]
    .concat()
}

/// Returns the block of this name.
pub(crate) fn find(suite: &str, name: &str) -> Option<Block> {
    all().into_iter().find(|b| (b.suite, b.name) == (suite, name))
}

/// Finds out whether a file system can be mounted and written here.
pub(crate) fn probe(bed: &mut Bed<'_>) -> Result<()> {
    match bed.job.subject.kind.family() {
        Family::FileSystem => {}
        Family::Shim => return bed.mount_shim().map(drop),
        // It would be started in a user namespace, and makes its own.
        Family::Container if bed.job.subject.kind == Kind::Podman && bed.job.subject.rootless => {
            let why =
                "an ordinary user's podman is measured as podman+overlay, in the suite engines";
            return Err(std::io::Error::other(why));
        }
        Family::Container | Family::Engine => return Ok(()),
    }
    let lower = bed.fixture("probe");
    std::fs::create_dir_all(&lower)?;
    std::fs::write(lower.join("below"), "below")?;
    let point = bed.mount(&[lower], Use::Write)?;
    std::fs::write(point.join("above"), "above")?;
    let seen = std::fs::read_to_string(point.join("below"))?;
    bed.unmount();
    bed.clean()?;
    match seen.as_str() {
        "below" => Ok(()),
        _ => Err(std::io::Error::other("a file of the lower layer reads wrong")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_block_has_a_known_suite_and_a_name_of_its_own() {
        let mut names = std::collections::BTreeSet::new();
        for block in all() {
            assert!(SUITES.iter().any(|(name, _)| *name == block.suite), "{}", block.suite);
            assert!(names.insert((block.suite, block.name)), "{} twice", block.name);
        }
        for (suite, _) in SUITES {
            assert!(names.iter().any(|(s, _)| *s == suite), "{suite} has no block");
        }
    }
}
