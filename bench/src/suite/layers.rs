//! Lookups through many layers.

use std::io;
use std::path::PathBuf;

use super::Block;
use super::fixture::{BOTTOM, Fixture, name};
use super::ops::readdir;
use super::tree;
use crate::bed::{Bed, Use};
use crate::subject::Family;

pub(super) const BLOCKS: &[Block] = &[Block {
    suite: "layers",
    name: "against their number",
    family: Family::FileSystem,
    kinds: &[],
    fixtures: &[Fixture::Layers],
    counted: false,
    needs: &[],
    extra: false,
    run,
}];

const AXIS: &str = "layers";

fn run(bed: &mut Bed<'_>) -> io::Result<()> {
    if !bed.is_union() {
        return Ok(());
    }
    // Relative names: mount(2) takes one page of options.
    std::env::set_current_dir(bed.fixture("layers"))?;
    for count in bed.job.scale.layers.clone() {
        let lowers: Vec<_> = (0..count).rev().map(|n| PathBuf::from(n.to_string())).collect();
        let x = f64::from(count);
        let curve = "mount, first stat";
        bed.unmount();
        let dir = match bed.mount(&lowers, Use::Read) {
            Ok(point) => point.join("dir"),
            Err(e) => {
                // Reported as a case that failed, so that fewer layers still count.
                let case = bed.case(&format!("{curve}, {count} layers"));
                case.at(curve, AXIS, x).measure(|_| Err(e))?;
                continue;
            }
        };
        let curve = "lookup of a bottom file, cold";
        bed.case(&format!("{curve}, {count} layers")).at(curve, AXIS, x).measure(|t| {
            tree::lstat(&dir)?;
            let mut sum = 0;
            for n in 0..BOTTOM {
                sum += t.op(|| tree::lstat(&dir.join(name(n))))?;
            }
            Ok(sum)
        })?;
        let curve = "negative lookup, cold";
        bed.case(&format!("{curve}, {count} layers")).at(curve, AXIS, x).measure(|t| {
            let mut missing = 0;
            for n in 0..BOTTOM {
                missing += t.op(|| Ok(tree::lstat(&dir.join(format!("no-{n}"))).is_err()))? as u64;
            }
            Ok(missing)
        })?;
        let curve = "readdir, first";
        bed.case(&format!("{curve}, {count} layers"))
            .at(curve, AXIS, x)
            .measure(|t| t.op(|| readdir(&dir)))?;
    }
    Ok(())
}
