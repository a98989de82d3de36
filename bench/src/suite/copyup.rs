//! The first write to a lower file, against its size.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use super::Block;
use super::fixture::Fixture;
use crate::bed::{Bed, Times, Use};
use crate::subject::Family;

pub(super) const BLOCKS: &[Block] = &[Block {
    suite: "copyup",
    name: "against size",
    family: Family::FileSystem,
    kinds: &[],
    fixtures: &[Fixture::Sizes],
    counted: false,
    needs: &[],
    extra: false,
    run,
}];

fn run(bed: &mut Bed<'_>) -> io::Result<()> {
    let point = bed.mount(&[bed.fixture("sizes")], Use::Write)?;
    for size in bed.job.scale.copyups.clone() {
        let path = point.join(size.to_string());
        let name = label(size);
        let curve = "open for writing, no write";
        bed.case(&format!("{curve}, {name}")).at(curve, "bytes of the file", size as f64).measure(
            |_| {
                File::options().write(true).open(&path)?;
                Ok(0)
            },
        )?;
        let curve = "first write of a byte";
        bed.case(&format!("{curve}, {name}"))
            .settled()
            .bytes(size)
            .at(curve, "bytes of the file", size as f64)
            .leaves(&path, Times::Vary)
            .measure(|_| {
                let file = File::options().write(true).open(&path)?;
                file.write_all_at(b"x", size / 2)?;
                Ok(0)
            })?;
    }
    Ok(())
}

/// Returns a size as people write it.
fn label(size: u64) -> String {
    match size {
        0..0x10_0000 => format!("{} KiB", size >> 10),
        0x10_0000..0x4000_0000 => format!("{} MiB", size >> 20),
        _ => format!("{} GiB", size >> 30),
    }
}
