//! /proc/diskstats: the devices that the container used, and nothing of the others.

use super::formula::{DEVICES, Formula};
use crate::cgroup::io::{Device, IoCounts, IoTable};
use crate::host::trace;

/// Bytes a sector.
const SECTOR: u64 = 512;

/// Renders the file: names and order are the machine's. A cgroup counts no merges and no times:
/// those are zero.
pub fn render(host: &str, counts: &IoTable) -> Vec<u8> {
    let words =
        "operations and bytes of the cgroup for each device of the machine; times are not counted";
    trace::figure("", Formula::new(DEVICES, words));
    let lines = host.lines().filter_map(|line| {
        let (device, name) = device_of(line)?;
        Some(render_line(device, name, counts.get(&device)?))
    });
    lines.collect::<String>().into_bytes()
}

/// Renders /proc/partitions from the machine's: its first two lines, and the devices used.
pub fn render_partitions(host: &str, counts: &IoTable) -> Vec<u8> {
    trace::figure("", Formula::new("/proc/partitions", "the lines of the devices of diskstats"));
    let is_shown = |line: &&str| match device_of(line) {
        Some((device, _)) => counts.contains_key(&device),
        None => true,
    };
    host.split_inclusive('\n').filter(is_shown).collect::<String>().into_bytes()
}

fn device_of(line: &str) -> Option<(Device, &str)> {
    let mut words = line.split_ascii_whitespace();
    let major = words.next()?.parse().ok()?;
    let minor = words.next()?.parse().ok()?;
    Some((Device { major, minor }, words.next()?))
}

fn render_line(device: Device, name: &str, counts: &IoCounts) -> String {
    let Device { major, minor } = device;
    let IoCounts { reads, writes, discards, .. } = counts;
    let read = counts.read_bytes / SECTOR;
    let written = counts.written_bytes / SECTOR;
    let discarded = counts.discarded_bytes / SECTOR;
    format!(
        "{major:>4} {minor:>7} {name} {reads} 0 {read} 0 {writes} 0 {written} 0 0 0 0 {discards} 0 {discarded} 0 0 0\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partitions_are_those_of_the_devices_shown() {
        let host =
            "major minor  #blocks  name\n\n   8        0     100 sda\n 253        0    200 dm-0\n";
        let table = IoTable::from([(Device { major: 8, minor: 0 }, IoCounts::default())]);
        let text = String::from_utf8(render_partitions(host, &table)).unwrap();
        assert_eq!(text, "major minor  #blocks  name\n\n   8        0     100 sda\n");
    }

    #[test]
    fn only_touched_devices_are_shown() {
        let host = "   8       0 sda 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17\n 253       0 dm-0 0 0 0 0 0 0 0 0 0 0 0\n";
        let counts = IoCounts { reads: 3, read_bytes: 4096, ..IoCounts::default() };
        let table = IoTable::from([(Device { major: 253, minor: 0 }, counts)]);
        let text = String::from_utf8(render(host, &table)).unwrap();
        assert_eq!(text, " 253       0 dm-0 3 0 8 0 0 0 0 0 0 0 0 0 0 0 0 0 0\n");
    }
}
