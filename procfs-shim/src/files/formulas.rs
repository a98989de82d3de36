//! What each figure is made of, in words: for `explain`.

/// How a figure comes about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Formula {
    /// Where it is from: names of files of a cgroup (v1 | v2), or of the machine.
    pub source: &'static str,
    /// What is done with it.
    pub formula: &'static str,
}

const fn formula(source: &'static str, formula: &'static str) -> Formula {
    Formula { source, formula }
}

/// Returns how the field of a file comes about; the fields of [`split`].
pub fn of(path: &str, field: &str) -> Formula {
    match path {
        "proc/meminfo" => meminfo(field),
        "proc/stat" => stat(field),
        "proc/uptime" => match field {
            "uptime" => formula(
                "/proc/INIT/stat",
                "now - start of the container's init; its own clock in a time namespace",
            ),
            _ => formula(
                "cpuacct.stat | cpu.stat",
                "capacity x time - time used, never less than shown before",
            ),
        },
        "proc/loadavg" => match field {
            "last_pid" => formula("/proc/INIT/status", "newest process, by its own number"),
            "threads" => {
                formula("cgroup.procs, /proc/PID/task", "running / all threads of the container")
            }
            _ => formula(
                "cgroup.procs, /proc/PID/task/TID/stat",
                "running and blocked threads every 5 s, decaying as in the kernel",
            ),
        },
        "proc/swaps" => formula(
            "memory.memsw.* | memory.swap.*",
            "one line: SwapTotal, and SwapTotal - SwapFree, of meminfo",
        ),
        "proc/diskstats" => formula(
            "blkio.throttle.* or blkio.bfq.* | io.stat",
            "operations and bytes of the cgroup for each device of the machine; times are not counted",
        ),
        "proc/partitions" => {
            formula("/proc/partitions, and as diskstats", "the lines of the devices of diskstats")
        }
        "proc/vmstat" => match field {
            "pgpgin" | "pgpgout" => {
                formula("blkio.throttle.* or blkio.bfq.* | io.stat", "KiB of all devices")
            }
            _ => formula("memory.stat", "the same figure as in meminfo, in pages; else 0"),
        },
        "proc/cpuinfo" => formula(
            "/proc/cpuinfo, cpuset.cpus, cpu.cfs_quota_us | cpu.max",
            "blocks of the processors of `online`; counts of siblings and cores made to agree",
        ),
        _ if path.starts_with("proc/pressure/") => {
            formula("*.pressure of the unified hierarchy", "as it is")
        }
        "sys/devices/system/cpu/offline" => formula("nothing", "always empty"),
        _ if path.starts_with("sys/devices/system/cpu/") => formula(
            "cpuset.effective_cpus, cpu.cfs_quota_us | cpuset.cpus.effective, cpu.max",
            "the first ceil(min over ancestors of quota / period) of the allowed processors that are on",
        ),
        _ => formula("the machine", "as it is"),
    }
}

fn meminfo(field: &str) -> Formula {
    const LIMIT: &str = "memory.limit_in_bytes, memory.usage_in_bytes | memory.max, memory.current";
    const SWAP: &str = "memory.memsw.* | memory.swap.max, memory.swap.current";
    let stat = |formula| Formula { source: "memory.stat", formula };
    match field {
        "MemTotal" => formula(LIMIT, "min over the cgroup, its ancestors and the machine of limit"),
        "MemFree" => formula(LIMIT, "min over the same levels of (limit - usage)"),
        "MemAvailable" => formula(
            LIMIT,
            "min over the same levels of (limit - usage + file lists + reclaimable slab), and of the machine's",
        ),
        "SwapTotal" => {
            formula(SWAP, "min over the levels of the limit of swap, and of the machine's")
        }
        "SwapFree" => formula(SWAP, "min over the levels of (limit - used)"),
        "Buffers" | "NFS_Unstable" | "Bounce" | "WritebackTmp" | "Balloon" => {
            formula("nothing", "0: not counted for a cgroup")
        }
        "Cached" => stat("file (v1: cache) - swapcached"),
        "SwapCached" => stat("swapcached"),
        "Active" => stat("active_anon + active_file"),
        "Inactive" => stat("inactive_anon + inactive_file"),
        "Active(anon)" => stat("active_anon"),
        "Inactive(anon)" => stat("inactive_anon"),
        "Active(file)" => stat("active_file"),
        "Inactive(file)" => stat("inactive_file"),
        "Unevictable" => stat("unevictable"),
        "Mlocked" => stat("min(unevictable, the machine's)"),
        "Zswap" => stat("zswap"),
        "Zswapped" => stat("zswapped"),
        "Dirty" => stat("file_dirty (v1: dirty)"),
        "Writeback" => stat("file_writeback (v1: writeback)"),
        "AnonPages" => stat("anon (v1: rss)"),
        "Mapped" => stat("file_mapped (v1: mapped_file)"),
        "Shmem" => stat("shmem"),
        "KReclaimable" | "SReclaimable" => stat("slab_reclaimable"),
        "Slab" => stat("slab_reclaimable + slab_unreclaimable (v1: memory.kmem.usage_in_bytes)"),
        "SUnreclaim" => stat("slab_unreclaimable (v1: memory.kmem.usage_in_bytes)"),
        "KernelStack" => stat("kernel_stack"),
        "PageTables" => stat("pagetables"),
        "SecPageTables" => stat("sec_pagetables"),
        "VmallocUsed" => stat("vmalloc"),
        "Percpu" => stat("percpu"),
        "AnonHugePages" => stat("anon_thp (v1: rss_huge)"),
        "ShmemHugePages" => stat("shmem_thp"),
        "FileHugePages" => stat("file_thp"),
        "ShmemPmdMapped" => stat("min(shmem_thp, the machine's)"),
        "FilePmdMapped" => stat("min(file_thp, the machine's)"),
        "CommitLimit" => formula(
            "/proc/meminfo",
            "the machine's share that overcommit allows, of MemTotal, + SwapTotal",
        ),
        "Committed_AS" => stat("anon + shmem + swap in use: the least that can be committed"),
        _ => formula("/proc/meminfo", "the machine's, at most MemTotal"),
    }
}

fn stat(field: &str) -> Formula {
    match field {
        "intr" | "ctxt" | "softirq" => formula("nothing", "0: not counted for a cgroup"),
        "btime" => formula("/proc/stat", "the machine's, moved by the container's clock"),
        "processes" => formula("cgroup.procs, /proc/PID/task", "processes seen so far"),
        "procs_running" => formula("/proc/PID/task/TID/stat", "threads that run, at least 1"),
        "procs_blocked" => formula("/proc/PID/task/TID/stat", "threads that wait for a device"),
        "cpu" => formula(
            "cpuacct.stat | cpu.stat",
            "user, nice, system as used; idle = capacity x time - used, never less than shown before",
        ),
        _ => formula("cpuacct.stat | cpu.stat", "an equal share of `cpu`"),
    }
}

/// Takes a file's text apart into fields and their values.
pub fn split<'a>(path: &str, text: &'a str) -> Vec<(&'a str, &'a str)> {
    let words = |names: &[&'static str]| {
        names.iter().copied().zip(text.split_ascii_whitespace()).collect::<Vec<_>>()
    };
    match path {
        "proc/uptime" => words(&["uptime", "idle"]),
        "proc/loadavg" => words(&["1min", "5min", "15min", "threads", "last_pid"]),
        "proc/meminfo" => pairs(text, ':'),
        "proc/cpuinfo" => pairs(text, ':'),
        "proc/stat" | "proc/vmstat" => pairs(text, ' '),
        "proc/partitions" => {
            let of = |line: &'a str| (line.split_ascii_whitespace().last(), line.trim());
            let named = text.lines().skip(2).map(of);
            named.filter_map(|(name, line)| Some((name?, line))).collect()
        }
        "proc/swaps" => pairs(text, '\t'),
        "proc/diskstats" => text.lines().map(|line| (name_of_device(line), line.trim())).collect(),
        _ if path.starts_with("proc/pressure/") => pairs(text, ' '),
        _ => vec![("value", text.trim())],
    }
}

fn pairs(text: &str, between: char) -> Vec<(&str, &str)> {
    let pair = text.lines().filter_map(|line| line.split_once(between));
    pair.map(|(name, value)| (name.trim(), value.trim())).collect()
}

fn name_of_device(line: &str) -> &str {
    line.split_ascii_whitespace().nth(2).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_field_has_a_name_and_a_value() {
        assert_eq!(split("proc/uptime", "1.00 2.00\n"), [("uptime", "1.00"), ("idle", "2.00")]);
        assert_eq!(split("proc/meminfo", "MemTotal:   5 kB\n"), [("MemTotal", "5 kB")]);
        assert_eq!(split("proc/stat", "cpu  1 2\nbtime 7\n"), [("cpu", "1 2"), ("btime", "7")]);
        assert_eq!(split("proc/diskstats", "   8  0 sda 1 2\n"), [("sda", "8  0 sda 1 2")]);
        assert_eq!(split("sys/devices/system/cpu/online", "0-1\n"), [("value", "0-1")]);
    }
}
