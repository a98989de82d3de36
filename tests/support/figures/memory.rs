//! Figures of memory.

use super::{Around, Expected, Group, Needs, ROW, Row, group};
use crate::cgroups::Limits;

/// Bytes.
const MIB: u64 = 1 << 20;

/// What the tool itself may use, in kB, and what the kernel's batches of charging hold back.
const TOOL: f64 = 3000.0;

/// The same of Python.
const PYTHON: f64 = 16_000.0;

/// Of figures that a tool doesn't move.
const STILL: f64 = 100.0;

/// A line of meminfo, in kB.
macro_rules! line {
    ($name:literal, $expected:expr) => {
        Row {
            file: "meminfo",
            figure: $name,
            tool: "cat",
            script: concat!("awk -v n='", $name, ":' '$1 == n {print $2}' /proc/meminfo"),
            expected: $expected,
            slack: TOOL,
            unit: "kB",
            ..ROW
        }
    };
}

/// What a tool says of memory, in kB.
const fn tool(
    figure: &'static str,
    tool: &'static str,
    script: &'static str,
    expected: fn(&Around) -> Expected,
) -> Row {
    Row { file: "meminfo", figure, tool, script, expected, slack: TOOL, unit: "kB", ..ROW }
}

/// A figure of psutil, in kB.
macro_rules! psutil {
    ($name:literal, $expected:expr) => {
        Row {
            slack: PYTHON,
            ..tool(
            $name,
            "psutil",
            concat!(
                "/usr/bin/python3 -c 'import psutil; m = psutil.virtual_memory(); s = psutil.swap_memory(); print(",
                $name,
                " // 1024)'"
            ),
            $expected,
        )
        }
    };
}

const fn still(row: Row) -> Row {
    Row { slack: STILL, ..row }
}

fn limits() -> Limits {
    Limits { memory: Some(256 * MIB), ..Limits::default() }
}

fn total(around: &Around) -> Expected {
    let kib = around.limit() / 1024.0;
    Expected::Between(kib, kib)
}

fn free(around: &Around) -> Expected {
    around.span(|look| (around.limit() - look.used as f64).max(0.0) / 1024.0)
}

/// Unused, and what can be had back: pages of files on disks, which a tmpfs's are not, and slab.
fn available(around: &Around) -> Expected {
    around.span(|look| {
        let files = look.stat("active_file") + look.stat("inactive_file");
        let back = files + look.stat("slab_reclaimable");
        (around.limit() - look.used as f64 + back).clamp(0.0, around.limit()) / 1024.0
    })
}

/// The rest.
fn used(around: &Around) -> Expected {
    let kib = around.limit() / 1024.0;
    match available(around) {
        Expected::Between(a, b) => Expected::Between(kib - b, kib - a),
        words => words,
    }
}

fn cached(around: &Around) -> Expected {
    around.span(|look| {
        (look.stat("file") + look.stat("slab_reclaimable") - look.stat("swapcached")) / 1024.0
    })
}

fn swap_total(around: &Around) -> Expected {
    let kib = around.limits.swap.map_or(around.swap, |s| s.min(around.swap)) as f64 / 1024.0;
    Expected::Between(kib, kib)
}

fn swap_used(around: &Around) -> Expected {
    around.span(|look| look.swapped as f64 / 1024.0)
}

fn swap_free(around: &Around) -> Expected {
    let whole = around.limits.swap.map_or(around.swap, |s| s.min(around.swap)) as f64;
    around.span(|look| (whole - look.swapped as f64) / 1024.0)
}

/// No figure of the container is larger than all of it.
const LARGEST: Row = tool(
    "largest, but for Vmalloc",
    "cat",
    "awk '/ kB/ && !/^(Vmalloc|Swap|Commit)/ && $2 > n {n = $2} END {print n}' /proc/meminfo",
    total,
);

/// Groups of rows, one for each load.
pub(super) fn groups() -> Vec<Group> {
    vec![eaten(), tmpfs(), cache(), huge(), mapped(), kernel(), swapped()]
}

fn eaten() -> Group {
    let rows = vec![
        line!("MemTotal", total),
        line!("MemFree", free),
        line!("MemAvailable", available),
        line!("AnonPages", |a| a.kib("anon")),
        line!("Active(anon)", |a| a.kib("active_anon")),
        line!("Inactive(anon)", |a| a.kib("inactive_anon")),
        still(line!("Unevictable", |a| a.kib("unevictable"))),
        // Each locked page is unevictable.
        still(line!("Mlocked", |a| a.kib("unevictable"))),
        line!("Hugetlb", |_| Expected::Between(0.0, 0.0)),
        LARGEST,
        tool("total", "free", "free -k | awk '/^Mem:/ {print $2}'", total),
        tool("used", "free", "free -k | awk '/^Mem:/ {print $3}'", used),
        tool("available", "free", "free -k | awk '/^Mem:/ {print $7}'", available),
        tool("free", "vmstat", "vmstat | awk 'NR == 3 {print $4}'", free),
        tool("total", "top", "top -b -n 1 -E k | awk '/^KiB Mem/ {print $4}'", total),
        tool("free", "top", "top -b -n 1 -E k | awk '/^KiB Mem/ {print $6}'", free),
        psutil!("m.total", total),
        psutil!("m.available", available),
        tool(
            "free",
            "busybox top",
            "busybox top -b -n 1 | sed -n 's/^Mem:.* used, \\([0-9]*\\)K free.*/\\1/p'",
            free,
        ),
        Row {
            limit: Some("sysinfo(2) answers, and not a file"),
            ..tool("total", "busybox free", "busybox free -k | awk '/^Mem:/ {print $2}'", total)
        },
        Row {
            file: "vmstat",
            unit: "pages",
            slack: TOOL / 4.0,
            ..tool(
                "nr_anon_pages",
                "cat",
                "awk '$1 == \"nr_anon_pages\" {print $2}' /proc/vmstat",
                |a| a.span(|look| look.stat("anon") / 4096.0),
            )
        },
        Row {
            file: "vmstat",
            unit: "pages",
            slack: 300.0,
            ..tool("pgfault", "cat", "awk '$1 == \"pgfault\" {print $2}' /proc/vmstat", |a| {
                a.span(|look| look.stat("pgfault"))
            })
        },
    ];
    group("limit 256 MiB, 64 MiB of memory in use", limits(), vec!["{load} memory 64"], rows)
}

fn tmpfs() -> Group {
    let fill = "mount -t tmpfs none /mnt; head -c 62914560 /dev/zero > /mnt/f; echo ready";
    let rows = vec![
        still(line!("Shmem", |a| a.kib("shmem"))),
        line!("Cached", |a| a.kib("file")),
        line!("MemFree", free),
        line!("MemAvailable", available),
        tool("used", "free", "free -k | awk '/^Mem:/ {print $3}'", used),
        tool("shared", "free", "free -k | awk '/^Mem:/ {print $5}'", |a| a.kib("shmem")),
        psutil!("m.available", available),
        psutil!("m.shared", |a| a.kib("shmem")),
    ];
    group("limit 256 MiB, 60 MiB in a tmpfs", limits(), vec![fill], rows)
}

fn cache() -> Group {
    let fill = "dd if=/dev/zero of={disk} bs=1M count=24 conv=notrunc 2>/dev/null; sync; dd if={disk} of=/dev/null bs=1M count=24 2>/dev/null; \
                dd if=/dev/zero of={disk} bs=1M count=8 conv=notrunc 2>/dev/null; echo ready";
    let rows = vec![
        still(line!("Dirty", |a| a.kib("file_dirty"))),
        line!("Cached", |a| a.kib("file")),
        line!("Active(file)", |a| a.kib("active_file")),
        line!("Inactive(file)", |a| a.kib("inactive_file")),
        line!("MemFree", free),
        line!("MemAvailable", available),
        tool("buff/cache", "free", "free -k | awk '/^Mem:/ {print $6}'", cached),
        tool("used", "free", "free -k | awk '/^Mem:/ {print $3}'", used),
        tool("cache", "vmstat", "vmstat | awk 'NR == 3 {print $6}'", cached),
        psutil!("m.available", available),
    ];
    let all = group(
        "limit 256 MiB, 24 MiB of a file on disk read, 8 MiB written",
        limits(),
        vec![fill],
        rows,
    );
    Group { needs: Needs::Disk, ..all }
}

fn huge() -> Group {
    let fill = "GLIBC_TUNABLES=glibc.malloc.hugetlb=1 {load} memory 64";
    let rows = vec![
        Row { steady: false, ..still(line!("AnonHugePages", |a| a.kib("anon_thp"))) },
        line!("AnonPages", |a| a.kib("anon")),
    ];
    group("limit 256 MiB, 64 MiB in transparent huge pages", limits(), vec![fill], rows)
}

fn mapped() -> Group {
    let fill = "mount -t tmpfs none /mnt; cp {load} /mnt/load; exec /mnt/load threads 1";
    let rows = vec![still(line!("Mapped", |a| a.kib("file_mapped")))];
    group("limit 256 MiB, a program of its own running", limits(), vec![fill], rows)
}

/// What the kernel keeps for the processes of the tool.
const fn kernel_line(row: Row) -> Row {
    Row { slack: 400.0, ..row }
}

fn kernel() -> Group {
    let rows = vec![
        kernel_line(line!("KernelStack", |a| a.kib("kernel_stack"))),
        kernel_line(line!("PageTables", |a| a.kib("pagetables"))),
        kernel_line(line!("Percpu", |a| a.kib("percpu"))),
        kernel_line(line!("Slab", |a| a.kib("slab"))),
        kernel_line(line!("SReclaimable", |a| a.kib("slab_reclaimable"))),
        kernel_line(line!("KReclaimable", |a| a.kib("slab_reclaimable"))),
        kernel_line(line!("SUnreclaim", |a| a.kib("slab_unreclaimable"))),
    ];
    let all = group("limit 256 MiB, 500 threads", limits(), vec!["{load} threads 500"], rows);
    Group { needs: Needs::V2, ..all }
}

fn swapped() -> Group {
    let limits = Limits { memory: Some(48 * MIB), swap: Some(96 * MIB), ..Limits::default() };
    let rows = vec![
        line!("SwapTotal", swap_total),
        line!("SwapFree", swap_free),
        still(line!("SwapCached", |a| a.kib("swapcached"))),
        Row {
            file: "swaps",
            ..tool("Size", "cat", "awk 'NR == 2 {print $3}' /proc/swaps", swap_total)
        },
        Row {
            file: "swaps",
            ..tool("Used", "cat", "awk 'NR == 2 {print $4}' /proc/swaps", swap_used)
        },
        tool("Swap used", "free", "free -k | awk '/^Swap:/ {print $3}'", swap_used),
        tool("swpd", "vmstat", "vmstat | awk 'NR == 3 {print $3}'", swap_used),
        psutil!("s.used", swap_used),
    ];
    let all = group(
        "limit 48 MiB and 96 MiB of swap, 80 MiB in use",
        limits,
        vec!["{load} memory 80"],
        rows,
    );
    Group { needs: Needs::Swap, ..all }
}
