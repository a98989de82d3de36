//! Listing and lookup against the size of the directory.

use std::fs::{self, File};
use std::io;

use super::Block;
use super::fixture::Fixture;
use super::ops::readdir;
use super::tree;
use crate::bed::{Bed, Use};
use crate::subject::Family;

pub(super) const BLOCKS: &[Block] = &[Block {
    suite: "dirsize",
    name: "against entries",
    family: Family::FileSystem,
    kinds: &[],
    fixtures: &[Fixture::Directories],
    counted: false,
    needs: &[],
    extra: false,
    run,
}];

const AXIS: &str = "entries of the directory";

fn run(bed: &mut Bed<'_>) -> io::Result<()> {
    let lower = bed.fixture("directories");
    for entries in bed.job.scale.directories.clone() {
        let x = f64::from(entries);
        // For each a fresh mount, of which nothing is known yet.
        let dir = bed.mount(std::slice::from_ref(&lower), Use::Read)?.join(entries.to_string());
        let one = dir.join(format!("entry-{:07}", entries / 2));
        let curve = "first lookup";
        bed.case(&format!("{curve}, {entries} entries"))
            .at(curve, AXIS, x)
            .measure(|t| t.op(|| tree::lstat(&one)))?;
        for curve in ["readdir, first", "readdir, again"] {
            bed.case(&format!("{curve}, {entries} entries"))
                .at(curve, AXIS, x)
                .measure(|t| t.op(|| readdir(&dir)))?;
        }
        if bed.is_union() {
            let curve = "create and unlink";
            bed.case(&format!("{curve}, {entries} entries")).at(curve, AXIS, x).measure(|t| {
                for n in 0..20 {
                    let path = dir.join(format!("new-{n}"));
                    t.op(|| {
                        File::create(&path)?;
                        fs::remove_file(&path)
                    })?;
                }
                Ok(0)
            })?;
        }
    }
    Ok(())
}
