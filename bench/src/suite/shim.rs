//! Files of /proc as containers read them.

use std::io;

use super::Block;
use super::containers::Containers;
use crate::bed::Bed;
use crate::subject::{Family, Kind};

pub(super) const BLOCKS: &[Block] = &[Block {
    suite: "shim",
    name: "reads",
    family: Family::Shim,
    kinds: &[],
    fixtures: &[],
    counted: false,
    needs: &[],
    extra: false,
    run,
}];

const AXIS: &str = "containers";
const FILES: [&str; 5] = ["meminfo", "cpuinfo", "stat", "uptime", "loadavg"];
fn run(bed: &mut Bed<'_>) -> io::Result<()> {
    let proc = match bed.job.subject.kind {
        Kind::RawProc => "/proc".into(),
        _ => bed.mount_shim()?.join("proc"),
    };
    let reads = bed.job.scale.reads;
    let mut containers = Containers::new(&bed.job.stage_name())?;
    for count in bed.job.scale.containers.clone() {
        containers.grow(count)?;
        let x = f64::from(count);
        let label =
            if count == 1 { "1 container".to_owned() } else { format!("{count} containers") };
        for file in FILES {
            let path = proc.join(file);
            let curve = format!("{file}, one reader");
            bed.case(&format!("{curve}, {label}")).at(&curve, AXIS, x).measure(|timer| {
                // The first read makes what the next ones find.
                containers.read(&path, 1, 1)?;
                for took in containers.read(&path, 1, reads)? {
                    timer.record(took);
                }
                Ok(0)
            })?;
        }
        if count < 8 {
            continue;
        }
        for file in ["meminfo", "stat"] {
            let path = proc.join(file);
            let curve = format!("{file}, 8 readers at once");
            bed.case(&format!("{curve}, {label}")).by_elapsed_time().at(&curve, AXIS, x).measure(
                |timer| {
                    for took in containers.read(&path, 8, reads)? {
                        timer.record(took);
                    }
                    Ok(0)
                },
            )?;
        }
    }
    Ok(())
}
