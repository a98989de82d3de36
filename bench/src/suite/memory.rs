//! The daemon's memory for each inode that it knows.

use std::fs;
use std::io;
use std::path::Path;

use super::Block;
use super::fixture::Fixture;
use crate::bed::{Bed, Use};
use crate::measure::process;
use crate::subject::Family;

pub(super) const BLOCKS: &[Block] = &[Block {
    suite: "memory",
    name: "known inodes",
    family: Family::FileSystem,
    kinds: &[],
    fixtures: &[Fixture::Known],
    counted: false,
    needs: &[],
    extra: false,
    run,
}];

fn run(bed: &mut Bed<'_>) -> io::Result<()> {
    if !bed.is_union() {
        return Ok(());
    }
    let point = bed.mount(&[bed.fixture("known")], Use::Read)?;
    let Some(daemon) = bed.daemon() else { return Ok(()) };
    // What the first use needs once isn't counted.
    walk(&point.join("known/d000"))?;
    let before = process::resident(daemon);
    let count = walk(&point.join("known"))?;
    let after = process::resident(daemon);
    let each = after.saturating_sub(before) as f64 / count as f64;
    bed.value("resident bytes per known inode", each, count)
}

/// Looks at each object of a tree, and returns how many there are.
fn walk(dir: &Path) -> io::Result<u64> {
    let mut count = 0;
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        count += 1;
        if fs::symlink_metadata(&path)?.is_dir() {
            count += walk(&path)?;
        }
    }
    Ok(count)
}
