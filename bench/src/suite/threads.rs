//! Operations by several threads at once.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::PathBuf;

use super::Block;
use super::fixture::{Fixture, name};
use super::tree;
use crate::bed::{Bed, Use};
use crate::measure::latency::Timer;
use crate::subject::Family;

pub(super) const BLOCKS: &[Block] = &[Block {
    suite: "threads",
    name: "against their number",
    family: Family::FileSystem,
    kinds: &[],
    fixtures: &[Fixture::Flat],
    counted: false,
    needs: &[],
    extra: false,
    run,
}];

const AXIS: &str = "threads";
fn run(bed: &mut Bed<'_>) -> io::Result<()> {
    let point = bed.mount(&[bed.fixture("flat")], Use::Write)?;
    let cores = std::thread::available_parallelism().map_or(1, |n| n.get() as u32);
    let files = bed.job.scale.flat;
    let each = bed.job.scale.threaded;
    let dir = point.join("flat");
    let paths: Vec<_> = (0..files).map(|n| dir.join(name(n))).collect();
    let mut counts: Vec<_> = (0..).map(|shift| 1 << shift).take_while(|n| *n < 2 * cores).collect();
    counts.push(2 * cores);
    for count in counts {
        let x = f64::from(count);
        let label = if count == 1 { "1 thread".to_owned() } else { format!("{count} threads") };
        let curve = "stat, open, read, close, warm";
        bed.case(&format!("{curve}, {label}")).by_elapsed_time().at(curve, AXIS, x).measure(
            |t| side_by_side(count, t, |thread, timer| read_files(thread, each, &paths, timer)),
        )?;
        let curve = "create, write, unlink";
        let new = point.join(format!("new-{count}"));
        fs::create_dir(&new)?;
        for thread in 0..count {
            fs::create_dir(new.join(thread.to_string()))?;
        }
        bed.case(&format!("{curve}, {label}")).by_elapsed_time().at(curve, AXIS, x).measure(
            |t| {
                side_by_side(count, t, |thread, timer| {
                    let dir = new.join(thread.to_string());
                    for n in 0..each / 4 {
                        let path = dir.join(name(n));
                        timer.op(|| {
                            File::create(&path)?.write_all(&[7; 4096])?;
                            fs::remove_file(&path)
                        })?;
                    }
                    Ok(0)
                })
            },
        )?;
    }
    Ok(())
}

fn read_files(thread: u32, each: u32, paths: &[PathBuf], timer: &mut Timer) -> io::Result<u64> {
    let mut block = [0; 4096];
    let mut sum = 0;
    for n in 0..each {
        let path = &paths[(thread * 7 + n) as usize % paths.len()];
        sum += timer.op(|| {
            let length = tree::lstat(path)?;
            Ok(length + File::open(path)?.read(&mut block)? as u64)
        })?;
    }
    Ok(sum)
}

/// Runs `work` in threads and adds what their timers saw.
fn side_by_side(
    count: u32,
    timer: &mut Timer,
    work: impl Fn(u32, &mut Timer) -> io::Result<u64> + Sync,
) -> io::Result<u64> {
    let done = std::thread::scope(|scope| {
        let start = |thread| {
            let work = &work;
            scope.spawn(move || {
                let mut timer = Timer::new()?;
                work(thread, &mut timer).map(|sum| (timer, sum))
            })
        };
        let threads: Vec<_> = (0..count).map(start).collect();
        let joined = threads
            .into_iter()
            .map(|t| t.join().unwrap_or_else(|_| Err(io::Error::other("a thread panicked"))));
        joined.collect::<io::Result<Vec<_>>>()
    })?;
    let mut sum = 0u64;
    for (other, seen) in done {
        timer.add(&other)?;
        sum = sum.wrapping_add(seen);
    }
    Ok(sum)
}
