//! Texts of cgroup files into types; no I/O.

use super::io::{Device, IoCounts, IoTable};
use super::{CpuTimes, NanoCpus, Version};
use crate::error::ParseError;

/// Nanoseconds a tick of `USER_HZ`.
const NS_A_TICK: u64 = 1_000_000_000 / crate::host::USER_HZ;

/// v1 says "no limit" by the greatest number of pages that fits: pages are at most 64 KiB.
const V1_UNLIMITED: u64 = i64::MAX as u64 - 0xffff;

/// A mounted cgroup hierarchy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CgroupMount {
    /// The cgroup that is the mount's root.
    pub root: String,
    /// Where it is mounted.
    pub at: String,
    /// Version.
    pub version: Version,
    /// Options of the superblock; controllers are among them on v1.
    pub options: Vec<String>,
}

/// Finds the cgroup hierarchies in /proc/self/mountinfo. Of several mounts of one hierarchy the last
/// wins, as it is the one that path look-up finds where they are stacked.
pub fn mountinfo(text: &str) -> Vec<CgroupMount> {
    text.lines().filter_map(mountinfo_line).collect()
}

fn mountinfo_line(line: &str) -> Option<CgroupMount> {
    let (mount, superblock) = line.split_once(" - ")?;
    let mut superblock = superblock.split(' ');
    let version = match superblock.next()? {
        "cgroup" => Version::V1,
        "cgroup2" => Version::V2,
        _ => return None,
    };
    let options = superblock.nth(1)?.split(',').map(str::to_owned).collect();
    let mut fields = mount.split(' ').skip(3);
    let root = unescape(fields.next()?);
    Some(CgroupMount { root, at: unescape(fields.next()?), version, options })
}

/// Undoes the octal escapes of mountinfo for space, tab, newline and backslash.
fn unescape(field: &str) -> String {
    let pairs = [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")];
    pairs.iter().fold(field.to_owned(), |f, (from, to)| f.replace(from, to))
}

/// A line of /proc/PID/cgroup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MembershipLine {
    /// Controllers on v1, empty on v2.
    pub controllers: Vec<String>,
    /// Whether this is the unified hierarchy.
    pub version: Version,
    /// Path below the hierarchy's root.
    pub path: String,
}

/// Parses /proc/PID/cgroup.
///
/// # Errors
/// A line has not three fields between colons.
pub fn membership(text: &str) -> Result<Vec<MembershipLine>, ParseError> {
    let parse = |(i, line): (usize, &str)| {
        let wrong = || ParseError { line: i + 1, expected: "id:controllers:path" };
        let (id, rest) = line.split_once(':').ok_or_else(wrong)?;
        let (names, path) = rest.split_once(':').ok_or_else(wrong)?;
        let version = if id == "0" && names.is_empty() { Version::V2 } else { Version::V1 };
        let controllers = names.split(',').map(str::to_owned).collect();
        Ok(MembershipLine { controllers, version, path: path.to_owned() })
    };
    text.lines().enumerate().map(parse).collect()
}

/// Parses a file that holds one number.
///
/// # Errors
/// It is none.
pub fn number(text: &str) -> Result<u64, ParseError> {
    text.trim().parse().map_err(|_| ParseError { line: 1, expected: "a number" })
}

/// Parses a limit: `max` (v2) or v1's greatest number mean none.
///
/// # Errors
/// Neither a number nor `max`.
pub fn limit(text: &str) -> Result<Option<u64>, ParseError> {
    match text.trim() {
        "max" => Ok(None),
        other => Ok(Some(number(other)?).filter(|&n| n < V1_UNLIMITED)),
    }
}

/// Returns the share of processors that a quota is.
fn share(quota: u64, period: u64) -> Option<NanoCpus> {
    let share = u128::from(quota) * 1_000_000_000 / u128::from(period.max(1));
    Some(NanoCpus(u64::try_from(share).ok()?))
}

/// Parses v2's `cpu.max`: quota or `max`, then the period, in microseconds.
///
/// # Errors
/// Another form.
pub fn cpu_max(text: &str) -> Result<Option<NanoCpus>, ParseError> {
    let mut words = text.split_ascii_whitespace();
    let wrong = || ParseError { line: 1, expected: "a quota or max, and a period" };
    let quota = words.next().ok_or_else(wrong)?;
    let period = number(words.next().ok_or_else(wrong)?)?;
    if quota == "max" { Ok(None) } else { Ok(share(number(quota)?, period)) }
}

/// Parses v1's `cpu.cfs_quota_us` (-1 is none) and `cpu.cfs_period_us`.
///
/// # Errors
/// They are no numbers.
pub fn cfs(quota: &str, period: &str) -> Result<Option<NanoCpus>, ParseError> {
    if quota.trim().starts_with('-') {
        return Ok(None);
    }
    Ok(share(number(quota)?, number(period)?))
}

/// Parses v2's `cpu.stat`. `nice_usec` (Linux 6.12) is a part of `user_usec`.
///
/// # Errors
/// A value is no number, or `usage_usec` is missing.
pub fn cpu_stat(text: &str) -> Result<CpuTimes, ParseError> {
    let (mut user, mut system, mut nice, mut usage) = (0, 0, 0, None);
    each_pair(text, |name, value| match name {
        "usage_usec" => usage = Some(value),
        "user_usec" => user = value,
        "system_usec" => system = value,
        "nice_usec" => nice = value,
        _ => {}
    })?;
    if usage.is_none() {
        return Err(ParseError { line: 1, expected: "usage_usec" });
    }
    let ns = |us: u64| us.saturating_mul(1000);
    Ok(CpuTimes { user: ns(user.saturating_sub(nice)), nice: ns(nice), system: ns(system) })
}

/// Parses v1's `cpuacct.stat`, in ticks.
///
/// # Errors
/// A value is no number.
pub fn cpuacct_stat(text: &str) -> Result<CpuTimes, ParseError> {
    let mut times = CpuTimes::default();
    each_pair(text, |name, value| match name {
        "user" => times.user = value.saturating_mul(NS_A_TICK),
        "system" => times.system = value.saturating_mul(NS_A_TICK),
        _ => {}
    })?;
    Ok(times)
}

/// Parses v2's `io.stat`: a line a device, `8:0 rbytes=1 wbytes=2 rios=3 …`.
///
/// # Errors
/// A line has no device, or a value is no number. Values of debugging controllers are passed over.
pub fn io_stat(text: &str) -> Result<IoTable, ParseError> {
    let mut table = IoTable::new();
    for (i, line) in text.lines().enumerate() {
        let wrong = || ParseError { line: i + 1, expected: "a device and its counts" };
        let mut words = line.split_ascii_whitespace();
        let device = words.next().and_then(device).ok_or_else(wrong)?;
        let mut counts = IoCounts::default();
        for (name, value) in words.filter_map(|w| w.split_once('=')) {
            let field = match name {
                "rbytes" => &mut counts.read_bytes,
                "wbytes" => &mut counts.written_bytes,
                "rios" => &mut counts.reads,
                "wios" => &mut counts.writes,
                "dbytes" => &mut counts.discarded_bytes,
                "dios" => &mut counts.discards,
                _ => continue,
            };
            *field = value.parse().map_err(|_| wrong())?;
        }
        table.insert(device, counts);
    }
    Ok(table)
}

/// Parses v1's files of bytes and operations: a line a device and kind, `8:0 Read 123`.
///
/// # Errors
/// A value is no number.
pub fn blkio(bytes: &str, operations: &str) -> Result<IoTable, ParseError> {
    let mut table = IoTable::new();
    each_blkio(bytes, |device, kind, value| {
        let counts = table.entry(device).or_default();
        match kind {
            "Read" => counts.read_bytes = value,
            "Write" => counts.written_bytes = value,
            "Discard" => counts.discarded_bytes = value,
            _ => {}
        }
    })?;
    each_blkio(operations, |device, kind, value| {
        let counts = table.entry(device).or_default();
        match kind {
            "Read" => counts.reads = value,
            "Write" => counts.writes = value,
            "Discard" => counts.discards = value,
            _ => {}
        }
    })?;
    Ok(table)
}

fn each_blkio(text: &str, mut take: impl FnMut(Device, &str, u64)) -> Result<(), ParseError> {
    for (i, line) in text.lines().enumerate() {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        // The sums over all devices have two words.
        if let [device_name, kind, value] = words[..] {
            let wrong = || ParseError { line: i + 1, expected: "device, kind and number" };
            let device = device(device_name).ok_or_else(wrong)?;
            take(device, kind, value.parse().map_err(|_| wrong())?);
        }
    }
    Ok(())
}

fn device(text: &str) -> Option<Device> {
    let (major, minor) = text.split_once(':')?;
    Some(Device { major: major.parse().ok()?, minor: minor.parse().ok()? })
}

/// Calls `take` for each line `name value`.
pub(super) fn each_pair(text: &str, mut take: impl FnMut(&str, u64)) -> Result<(), ParseError> {
    for (i, line) in text.lines().enumerate() {
        let pair = line.split_once(' ').and_then(|(n, v)| Some((n, v.trim().parse().ok()?)));
        let Some((name, value)) = pair else {
            return Err(ParseError { line: i + 1, expected: "a name and a number" });
        };
        take(name, value);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_limit_is_spelled_in_two_ways() {
        assert_eq!(limit("max\n"), Ok(None));
        assert_eq!(limit("9223372036854771712\n"), Ok(None));
        assert_eq!(limit("9223372036854710272\n"), Ok(None));
        assert_eq!(limit("268435456\n"), Ok(Some(268_435_456)));
        assert_eq!(limit("0\n"), Ok(Some(0)));
        assert!(limit("").is_err());
    }

    #[test]
    fn a_quota_is_a_share_of_processors() {
        assert_eq!(cpu_max("max 100000\n"), Ok(None));
        assert_eq!(cpu_max("50000 100000\n"), Ok(Some(NanoCpus(500_000_000))));
        assert_eq!(cfs("-1\n", "100000\n"), Ok(None));
        assert_eq!(cfs("150000\n", "100000\n"), Ok(Some(NanoCpus(1_500_000_000))));
        assert_eq!(cfs("18446744073709551615", "1"), Ok(None));
        assert!(cpu_max("5\n").is_err());
    }

    #[test]
    fn nice_time_is_not_counted_twice() {
        let times = cpu_stat("usage_usec 30\nuser_usec 20\nsystem_usec 10\nnice_usec 5\n").unwrap();
        assert_eq!(times, CpuTimes { user: 15_000, nice: 5_000, system: 10_000 });
        assert!(cpu_stat("user_usec 1\n").is_err());
    }

    #[test]
    fn hierarchies_are_found_in_mountinfo() {
        let text = "\
31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw shared:9 - cgroup cgroup rw,cpu,cpuacct
41 31 0:38 /a\\040b /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw,nsdelegate
";
        let found = mountinfo(text);
        assert_eq!(found.len(), 2);
        assert_eq!(found[0].options, ["rw", "cpu", "cpuacct"]);
        assert_eq!((found[1].root.as_str(), found[1].version), ("/a b", Version::V2));
    }

    #[test]
    fn both_versions_count_devices_alike() {
        let v2 = io_stat("8:0 rbytes=10 wbytes=20 rios=1 wios=2 dbytes=0 dios=0 cost.usage=7\n");
        let v1 = blkio(
            "8:0 Read 10\n8:0 Write 20\n8:0 Sync 30\n8:0 Total 30\nTotal 30\n",
            "8:0 Read 1\n8:0 Write 2\n8:0 Total 3\nTotal 3\n",
        );
        assert_eq!(v1, v2);
        assert_eq!(blkio("Total 0\n", "Total 0\n"), Ok(IoTable::new()));
        assert!(io_stat("x rbytes=1\n").is_err());
        assert!(blkio("8:0 Read x\n", "").is_err());
    }

    #[test]
    fn a_path_may_hold_colons() {
        let lines = membership("2:cpu,cpuacct:/a:b\n1:name=systemd:/x\n0::/y\n").unwrap();
        assert_eq!(lines[0].path, "/a:b");
        assert_eq!(lines[0].controllers, ["cpu", "cpuacct"]);
        assert_eq!(lines[2].version, Version::V2);
        assert!(membership("nonsense\n").is_err());
    }
}
