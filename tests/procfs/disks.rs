//! Use of disks by a container whose requests are held back.

use std::path::Path;

use support::Scratch;
use support::cgroups::{Limits, Version, version};
use support::container::{Clock, Container};
use support::figures::measure::Disk;
use support::privilege::{Missing, installed};
use support::require;

use crate::seen::{MIB, fuse, no_args};
use crate::shim::Shim;

const LOAD: &str = env!("CARGO_BIN_EXE_load-under-test");

/// What is written, and how much of it in a second.
const BYTES: u64 = 12 * MIB;
const RATE: u64 = 8 * MIB;

#[test]
fn a_throttled_container_is_shown_what_has_reached_the_disk() {
    const NAME: &str = "a_throttled_container_is_shown_what_has_reached_the_disk";
    require!(NAME, fuse(), version().map(drop), installed("vmstat"));
    let scratch = Scratch::new();
    let file = scratch.path().join("disk");
    std::fs::write(&file, vec![0; BYTES as usize]).expect("make a file");
    nix::unistd::sync();
    let Some(disk) = Disk::of_file(&file) else {
        let why = Missing::Kernel("the scratch directory is on no block device".into());
        return support::privilege::skip(NAME, &why);
    };
    let shim = Shim::start(&no_args());
    let mut container = Container::start(&Limits::default(), Clock::Machine);
    let groups = container.groups();
    match groups.version() {
        Version::V1 => {
            let rule = format!("{} {RATE}", disk.device);
            groups.set("blkio", "blkio.throttle.write_bps_device", &rule);
        }
        Version::V2 => groups.set("", "io.max", &format!("{} wbps={RATE}", disk.device)),
    }
    let window = container.covered(Path::new(LOAD), shim.path());
    let sectors = |container: &Container| -> u64 {
        let script = format!("awk '$3 == \"{}\" {{print $10}}' /proc/diskstats", disk.name);
        let said = container.look(&window, &script).expect("read diskstats");
        said.trim().parse().unwrap_or(0)
    };
    let before = sectors(&container);
    let write = |at: u64| {
        format!(
            "dd if=/dev/zero of={} bs=1M seek={at} count={} oflag=direct conv=notrunc 2>/dev/null",
            file.display(),
            BYTES / MIB / 2
        )
    };
    for (half, at) in [(1, 0), (2, BYTES / MIB / 2)] {
        container.look(&window, &write(at)).expect("write");
        assert_eq!(sectors(&container) - before, half * BYTES / 2 / 512);
    }
    let script = format!("vmstat -d | awk '$1 == \"{}\" {{print $8}}'", disk.name);
    let said = container.look(&window, &script).expect("vmstat");
    assert_eq!(said.trim().parse(), Ok(before + BYTES / 512));
    // While requests wait, what is shown lies between nothing and all of them, and never falls.
    container.load(&format!("echo ready; {}; {}", write(0), write(BYTES / MIB / 2)));
    let (start, all) = (before + BYTES / 512, before + 2 * BYTES / 512);
    let mut seen = vec![start];
    while seen.last() < Some(&all) {
        seen.push(sectors(&container));
    }
    assert!(seen.is_sorted(), "{seen:?}");
    assert_eq!(seen.last(), Some(&all), "{seen:?}");
    assert!(seen.iter().any(|n| start < *n && *n < all), "{seen:?}");
}
