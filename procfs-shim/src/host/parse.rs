//! Texts of /proc into types; no I/O.

use crate::error::ParseError;

/// Unit of a line of /proc/meminfo.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Kibibytes (`kB`).
    Kib,
    /// A plain count.
    Count,
}

/// A line of /proc/meminfo.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemLine {
    /// Name, without the colon.
    pub name: String,
    /// Value in its unit.
    pub value: u64,
    /// Unit.
    pub unit: Unit,
}

/// /proc/meminfo, its lines in the kernel's order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostMeminfo {
    /// The lines.
    pub lines: Vec<MemLine>,
}

impl HostMeminfo {
    /// Returns a line's value in bytes (0 where the kernel has no such line).
    pub fn bytes(&self, name: &str) -> u64 {
        let line = self.lines.iter().find(|l| l.name == name);
        line.map_or(0, |l| l.value.saturating_mul(1024))
    }
}

/// Parses /proc/meminfo.
///
/// # Errors
/// A line without a colon or a number; no `MemTotal`.
pub fn meminfo(text: &str) -> Result<HostMeminfo, ParseError> {
    let mut lines = Vec::with_capacity(56);
    for (i, line) in text.lines().enumerate() {
        let wrong = ParseError { line: i + 1, expected: "a name, a colon and a number" };
        let Some((name, rest)) = line.split_once(':') else { return Err(wrong) };
        let mut words = rest.split_ascii_whitespace();
        let Some(value) = words.next().and_then(|v| v.parse().ok()) else { return Err(wrong) };
        let unit = if words.next() == Some("kB") { Unit::Kib } else { Unit::Count };
        lines.push(MemLine { name: name.to_owned(), value, unit });
    }
    if !lines.iter().any(|l| l.name == "MemTotal") {
        return Err(ParseError { line: 1, expected: "MemTotal" });
    }
    Ok(HostMeminfo { lines })
}

/// Finds the boot time in /proc/stat.
///
/// # Errors
/// There is no `btime` line.
pub fn btime(text: &str) -> Result<u64, ParseError> {
    let value = text.lines().find_map(|l| l.strip_prefix("btime "));
    let wrong = ParseError { line: 1, expected: "a line `btime SECONDS`" };
    value.and_then(|v| v.trim().parse().ok()).ok_or(wrong)
}

/// Returns the averages of /proc/loadavg and its number of threads.
///
/// # Errors
/// A field is missing.
pub fn loadavg(text: &str) -> Result<([f64; 3], u64), ParseError> {
    let wrong = || ParseError { line: 1, expected: "three averages and RUNNING/THREADS" };
    let mut words = text.split_ascii_whitespace();
    let mut average = || words.next().and_then(|w| w.parse::<f64>().ok()).ok_or_else(wrong);
    let averages = [average()?, average()?, average()?];
    let threads = words.next().and_then(|w| w.split_once('/')?.1.parse().ok());
    Ok((averages, threads.ok_or_else(wrong)?))
}

/// Returns the seconds of /proc/uptime.
///
/// # Errors
/// There is no number.
pub fn uptime(text: &str) -> Result<f64, ParseError> {
    let first = text.split_ascii_whitespace().next();
    first.and_then(|w| w.parse().ok()).ok_or(ParseError { line: 1, expected: "seconds" })
}

/// Bit of field 9 of /proc/PID/stat, from the kernel's sched.h.
const PF_EXITING: u64 = 4;

/// What is used of /proc/PID/stat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PidStat {
    /// State letter.
    pub state: char,
    /// Parent.
    pub ppid: u32,
    /// Whether it is ending or has ended: `PF_EXITING` is set long before it is a zombie if it is an
    /// init, which waits for its whole namespace to end.
    pub is_ending: bool,
    /// Ticks in user mode, own and of children that were waited for.
    pub user: u64,
    /// Ticks in the kernel, own and of children that were waited for.
    pub system: u64,
    /// Threads.
    pub threads: u64,
    /// Ticks after boot when it started.
    pub start: u64,
}

/// Parses /proc/PID/stat (or that of a thread). The name, in parentheses, may hold anything.
///
/// # Errors
/// A field is missing.
pub fn pid_stat(text: &str) -> Result<PidStat, ParseError> {
    let wrong = || ParseError { line: 1, expected: "52 fields after the name" };
    let (_, rest) = text.rsplit_once(')').ok_or_else(wrong)?;
    // Field 3 of proc_pid_stat(5) comes first here.
    let fields: Vec<&str> = rest.split_ascii_whitespace().take(20).collect();
    let number = |n: usize| fields.get(n - 3).and_then(|v| v.parse::<u64>().ok());
    let field = |n: usize| number(n).ok_or_else(wrong);
    let state = fields.first().and_then(|s| s.chars().next()).ok_or_else(wrong)?;
    Ok(PidStat {
        is_ending: field(9)? & PF_EXITING != 0 || matches!(state, 'Z' | 'X'),
        state,
        ppid: u32::try_from(field(4)?).map_err(|_| wrong())?,
        user: field(14)? + field(16)?,
        system: field(15)? + field(17)?,
        threads: field(20)?,
        start: field(22)?,
    })
}

/// What is used of /proc/PID/status.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PidStatus {
    /// The process's number in each pid namespace that it is in, ours first.
    pub ns_pids: Vec<u32>,
    /// Parent.
    pub ppid: u32,
    /// Resident anonymous memory in bytes.
    pub rss_anon: u64,
    /// Resident mapped file pages in bytes.
    pub rss_file: u64,
    /// Resident shared memory (tmpfs, System V, shared anonymous) in bytes.
    pub rss_shmem: u64,
}

/// Parses /proc/PID/status. Kernel threads and zombies have no memory lines.
pub fn pid_status(text: &str) -> PidStatus {
    let mut status = PidStatus::default();
    let kib = |v: &str| {
        let number = v.split_ascii_whitespace().next().and_then(|n| n.parse::<u64>().ok());
        number.unwrap_or(0).saturating_mul(1024)
    };
    for (name, value) in text.lines().filter_map(|l| l.split_once(':')) {
        match name {
            "NSpid" => {
                status.ns_pids =
                    value.split_ascii_whitespace().filter_map(|n| n.parse().ok()).collect();
            }
            "PPid" => status.ppid = value.trim().parse().unwrap_or(0),
            "RssAnon" => status.rss_anon = kib(value),
            "RssFile" => status.rss_file = kib(value),
            "RssShmem" => status.rss_shmem = kib(value),
            _ => {}
        }
    }
    status
}

/// Returns the boot time offset of /proc/PID/timens_offsets in nanoseconds.
///
/// # Errors
/// A number is missing.
pub fn boottime_offset(text: &str) -> Result<i128, ParseError> {
    for (i, line) in text.lines().enumerate() {
        let mut words = line.split_ascii_whitespace();
        // Linux before 5.6.5 numbers the clocks: 7 is CLOCK_BOOTTIME.
        if !matches!(words.next(), Some("boottime" | "7")) {
            continue;
        }
        let wrong = || ParseError { line: i + 1, expected: "seconds and nanoseconds" };
        let mut number = || words.next().and_then(|w| w.parse::<i128>().ok()).ok_or_else(wrong);
        return Ok(number()? * 1_000_000_000 + number()?);
    }
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_may_be_called_anything() {
        let text = "7 (a) R (b) S 3 7 7 0 -1 0 0 0 0 0 10 20 1 2 20 0 4 0 5555 1 2\n";
        let stat = pid_stat(text).unwrap();
        assert_eq!((stat.state, stat.ppid, stat.is_ending), ('S', 3, false));
        assert_eq!((stat.user, stat.system, stat.threads, stat.start), (11, 22, 4, 5555));
        let ending = |text: &str| pid_stat(text).unwrap().is_ending;
        assert!(ending("7 (a) S 3 7 7 0 -1 4194308 0 0 0 0 1 2 3 4 20 0 4 0 5 1 2"));
        assert!(ending("7 (a) Z 3 7 7 0 -1 0 0 0 0 0 1 2 3 4 20 0 4 0 5 1 2"));
    }

    #[test]
    fn load_and_uptime_are_read() {
        assert_eq!(loadavg("0.50 1.25 2.00 1/321 99\n"), Ok(([0.5, 1.25, 2.0], 321)));
        assert!(loadavg("0.50 1.25\n").is_err());
        assert_eq!(uptime("12.34 5.6\n"), Ok(12.34));
        assert!(uptime("").is_err());
    }

    #[test]
    fn a_short_stat_is_an_error() {
        assert!(pid_stat("7 (a) S 3 7").is_err());
        assert!(pid_stat("").is_err());
    }

    #[test]
    fn meminfo_keeps_order_and_unit() {
        let m = meminfo("MemTotal:  10 kB\nHugePages_Total:   3\n").unwrap();
        assert_eq!(m.bytes("MemTotal"), 10240);
        assert_eq!(m.lines[1].unit, Unit::Count);
        assert_eq!(meminfo("MemTotal 3\n").unwrap_err().line, 1);
        assert!(meminfo("MemFree: 3 kB\n").is_err());
    }

    #[test]
    fn the_boot_time_offset_is_read_in_both_spellings() {
        let text = "monotonic           0         0\nboottime         -100  250000000\n";
        assert_eq!(boottime_offset(text).unwrap(), -99_750_000_000);
        assert_eq!(boottime_offset("1 0 0\n7 5 0\n").unwrap(), 5_000_000_000);
    }
}
