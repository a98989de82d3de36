//! What a container uses now, from its cgroups.

use std::fs;
use std::path::Path;

use serde::Serialize;

use crate::spec::{Cgroup, Version};

/// Counters and gauges; `None`: no cgroup counts it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Usage {
    /// CPU time, in nanoseconds.
    pub(crate) cpu: Option<u64>,
    /// Bytes of memory, without the page cache that could go at once.
    pub(crate) memory: Option<u64>,
    /// The limit of memory in bytes.
    pub(crate) memory_limit: Option<u64>,
    /// Processes and threads.
    pub(crate) pids: Option<u64>,
    /// Bytes that were read from disks.
    pub(crate) read: Option<u64>,
    /// Bytes that were written to disks.
    pub(crate) written: Option<u64>,
}

/// Reads the counters.
pub(crate) fn usage(cgroups: &[Cgroup]) -> Usage {
    let mut all = Usage::default();
    for cgroup in cgroups {
        let dir = Path::new(&cgroup.path);
        let one = match cgroup.version {
            Version::V1 => v1(dir),
            Version::V2 => v2(dir),
        };
        all.cpu = all.cpu.or(one.cpu);
        all.memory = all.memory.or(one.memory);
        all.memory_limit = all.memory_limit.or(one.memory_limit);
        all.pids = all.pids.or(one.pids);
        all.read = all.read.or(one.read);
        all.written = all.written.or(one.written);
    }
    all
}

fn v1(dir: &Path) -> Usage {
    let stat = text(dir, "memory.stat");
    let cache = field(&stat, "total_inactive_file").unwrap_or(0);
    let io = text(dir, "blkio.throttle.io_service_bytes");
    let sum = |kind: &str| {
        let of_device = |l: &str| {
            let mut words = l.split_whitespace().skip(1);
            if words.next() == Some(kind) { words.next()?.parse::<u64>().ok() } else { None }
        };
        io.as_ref().map(|io| io.lines().filter_map(of_device).sum())
    };
    Usage {
        cpu: number(dir, "cpuacct.usage"),
        memory: number(dir, "memory.usage_in_bytes").map(|n| n.saturating_sub(cache)),
        memory_limit: number(dir, "memory.limit_in_bytes").filter(|&n| n < 1 << 60),
        pids: number(dir, "pids.current"),
        read: sum("Read"),
        written: sum("Write"),
    }
}

fn v2(dir: &Path) -> Usage {
    let cache = field(&text(dir, "memory.stat"), "inactive_file").unwrap_or(0);
    let io = text(dir, "io.stat");
    let sum = |key: &str| {
        let words = |io: &String| {
            io.split_whitespace()
                .filter_map(|w| w.strip_prefix(key)?.strip_prefix('=')?.parse::<u64>().ok())
                .sum()
        };
        io.as_ref().map(words)
    };
    Usage {
        cpu: field(&text(dir, "cpu.stat"), "usage_usec").map(|us| us * 1000),
        memory: number(dir, "memory.current").map(|n| n.saturating_sub(cache)),
        memory_limit: number(dir, "memory.max"),
        pids: number(dir, "pids.current"),
        read: sum("rbytes"),
        written: sum("wbytes"),
    }
}

fn text(dir: &Path, file: &str) -> Option<String> {
    fs::read_to_string(dir.join(file)).ok()
}

fn number(dir: &Path, file: &str) -> Option<u64> {
    text(dir, file)?.trim().parse().ok()
}

fn field(text: &Option<String>, name: &str) -> Option<u64> {
    let line = text.as_ref()?.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(' '))?;
    line.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_of_both_versions_are_read() {
        let dir = tempfile::tempdir().unwrap();
        let put = |name: &str, text: &str| fs::write(dir.path().join(name), text).unwrap();
        put("cpu.stat", "usage_usec 1500\nuser_usec 1\n");
        put("memory.current", "100\n");
        put("memory.stat", "anon 5\ninactive_file 30\n");
        put("memory.max", "max\n");
        put("io.stat", "8:0 rbytes=5 wbytes=6 rios=1\n8:16 rbytes=1 wbytes=1\n");
        let v2 = Cgroup { path: dir.path().into(), version: Version::V2 };
        let u = usage(&[v2]);
        assert_eq!((u.cpu, u.memory, u.memory_limit), (Some(1_500_000), Some(70), None));
        assert_eq!((u.read, u.written, u.pids), (Some(6), Some(7), None));
    }
}
