//! How long nothing is answered when the process that serves is killed.

use std::fs;
use std::io;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::Block;
use super::fixture::Fixture;
use crate::bed::{Bed, Use};
use crate::measure::process;
use crate::subject::{Family, Kind};

pub(super) const BLOCKS: &[Block] = &[
    Block {
        suite: "pause",
        name: "a killed union",
        family: Family::FileSystem,
        kinds: &[],
        fixtures: &[Fixture::Flat],
        counted: false,
        needs: &[],
        extra: false,
        run: union,
    },
    Block {
        suite: "pause",
        name: "a killed shim",
        family: Family::Shim,
        kinds: &[],
        fixtures: &[],
        counted: false,
        needs: &[],
        extra: false,
        run: shim,
    },
];

/// How often it is killed in a turn.
const TIMES: u32 = 3;
/// After this long it doesn't come back.
const PATIENCE: Duration = Duration::from_secs(10);

fn end(pid: i32) -> io::Result<()> {
    Ok(kill(Pid::from_raw(pid), Signal::SIGKILL)?)
}

/// Nobody replaces the daemon of a union: what is measured is the time until a file can be read again
/// if its mount is taken away and made anew at once, on the same layers.
fn union(bed: &mut Bed<'_>) -> io::Result<()> {
    if !bed.job.subject.kind.has_daemon() {
        return Ok(());
    }
    let lowers = [bed.fixture("flat")];
    let mut point = bed.mount(&lowers, Use::Write)?;
    let mut pauses = Vec::new();
    for _ in 0..TIMES {
        let pid = bed.daemon().ok_or_else(|| io::Error::other("no daemon"))?;
        fs::write(point.join("written"), "before the kill")?;
        let start = Instant::now();
        end(pid)?;
        point = bed.mount_again(&lowers)?;
        let read = fs::read_to_string(point.join("written"))?;
        pauses.push(start.elapsed());
        if read != "before the kill" {
            return Err(io::Error::other("what was written before the kill is gone"));
        }
    }
    bed.times("from the kill to a read, mounted anew", &pauses)
}

/// A reader reads without pause while the process that serves is killed; what is measured is the time
/// from the kill to the first read that succeeds. A shim that doesn't replace that process is mounted
/// anew at once.
fn shim(bed: &mut Bed<'_>) -> io::Result<()> {
    if bed.job.subject.kind == Kind::RawProc {
        return Ok(());
    }
    let mut path = bed.mount_shim()?.join("proc/meminfo");
    let mut pauses = Vec::new();
    for _ in 0..TIMES {
        fs::read(&path)?;
        let daemon = bed.daemon().ok_or_else(|| io::Error::other("no daemon"))?;
        // The last one of its processes serves; the first one of several only watches.
        let processes = process::tree(daemon);
        let serving = processes.last().copied().unwrap_or(daemon);
        let start = Instant::now();
        end(serving)?;
        if serving == daemon {
            path = bed.mount_shim()?.join("proc/meminfo");
        }
        while let Err(e) = fs::read(&path) {
            if start.elapsed() > PATIENCE {
                return Err(e);
            }
        }
        pauses.push(start.elapsed());
    }
    bed.times("from the kill to a read of meminfo", &pauses)
}
