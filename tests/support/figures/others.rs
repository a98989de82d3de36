//! Figures of time, load, pressure and disks.

use super::{Around, Expected, Group, Needs, ROW, Row, group};
use crate::cgroups::Limits;
use crate::container::Clock;

/// Groups of rows, one for each load.
pub(super) fn groups() -> Vec<Group> {
    vec![age(Clock::Machine), age(Clock::Own), load(), threads(), disk()]
}

/// Seconds since the container's init started.
fn seconds(around: &Around) -> Expected {
    around.span(|look| look.at - around.born)
}

/// Unused time of all processors together, at least that of the spinner's quota.
fn idle_seconds(around: &Around) -> Expected {
    around.span(|look| around.capacity() * (look.at - around.born) - look.busy)
}

const fn time(
    file: &'static str,
    figure: &'static str,
    tool: &'static str,
    script: &'static str,
    expected: fn(&Around) -> Expected,
) -> Row {
    Row { file, figure, tool, script, expected, slack: 1.1, unit: "s", ..ROW }
}

const BOOT_TIME: &str =
    "/usr/bin/python3 -c 'import psutil, time; print(time.time() - psutil.boot_time())'";

/// The kernel's start time of the process is added to btime.
const CREATED: &str = "/usr/bin/python3 -c 'import psutil, time; print(time.time() - psutil.Process(1).create_time())'";

const NO_NAMESPACE: &str =
    "the kernel says when a process started, and only a time namespace moves that";

fn age(clock: Clock) -> Group {
    let elapsed = time("uptime", "etimes of process 1", "ps", "ps -o etimes= -p 1", seconds);
    let rows = vec![
        time("uptime", "first", "cat", "cut -d' ' -f1 /proc/uptime", seconds),
        // A clock of its own starts at a whole second, and there are two processors.
        Row {
            slack: 2.2,
            ..time("uptime", "second", "cat", "cut -d' ' -f2 /proc/uptime", idle_seconds)
        },
        Row {
            unit: "",
            ..time("uptime", "up", "uptime", "uptime | grep -o 'up *[0-9]* min'", |_| {
                Expected::Words("up 0 min".to_owned())
            })
        },
        Row {
            limit: match clock {
                Clock::Machine => Some("sysinfo(2) answers, and not a file"),
                Clock::Own => None,
            },
            unit: "",
            ..time(
                "uptime",
                "up",
                "busybox uptime",
                "busybox uptime | grep -o 'up *[0-9]* min'",
                |_| Expected::Words("up 0 min".to_owned()),
            )
        },
        Row {
            limit: match clock {
                Clock::Machine => Some(NO_NAMESPACE),
                Clock::Own => None,
            },
            slack: 2.0,
            ..elapsed
        },
        Row {
            slack: 2.0,
            limit: match clock {
                Clock::Machine => {
                    Some("start times of processes are added to it, as in the next row")
                }
                Clock::Own => None,
            },
            ..time("stat", "age by boot_time", "psutil", BOOT_TIME, seconds)
        },
        Row {
            slack: 2.0,
            ..time("stat", "age of process 1 by create_time", "psutil", CREATED, seconds)
        },
    ];
    let (load, clock) = match clock {
        Clock::Machine => ("nothing, and the machine's clock", clock),
        Clock::Own => ("nothing, and a time namespace", clock),
    };
    Group { clock, ..group(load, Limits::default(), vec!["sleep 3; echo ready"], rows) }
}

/// What the kernel's rule makes of two runnable threads after the seconds of the load; a sample is
/// taken each 5 s. Up to two processes of the tools are runnable while these are at work.
fn one_minute(around: &Around) -> Expected {
    let after = |seconds: f64| 2.0 * (1.0 - (-seconds.max(0.0) / 60.0).exp());
    let age = around.last.at - around.loaded;
    let tools = around.last.at - around.ready;
    Expected::Between(after(age - 8.0), after(age + 5.0) + after(tools))
}

fn load() -> Group {
    let rows = vec![
        Row {
            slack: 0.05,
            steady: false,
            ..time("loadavg", "first minute", "cat", "cut -d' ' -f1 /proc/loadavg", one_minute)
        },
        Row {
            slack: 0.05,
            steady: false,
            ..time(
                "loadavg",
                "first minute",
                "uptime",
                "uptime | sed 's/.*average: \\([0-9.]*\\),.*/\\1/'",
                one_minute,
            )
        },
        Row {
            slack: 0.0,
            unit: "",
            steady: false,
            ..time("loadavg", "running", "cat", "cut -d' ' -f4 /proc/loadavg | cut -d/ -f1", |_| {
                Expected::Between(2.0, 4.0)
            })
        },
        Row {
            slack: 0.0,
            // The machine's own is in between now and then.
            steady: false,
            unit: "",
            ..time(
                "stat",
                "procs_running",
                "cat",
                "sed -n 's/^procs_running //p' /proc/stat",
                |_| Expected::Between(2.0, 4.0),
            )
        },
        Row {
            limit: Some("sysinfo(2) answers, and not a file"),
            slack: 0.05,
            steady: false,
            ..time(
                "loadavg",
                "first minute",
                "busybox uptime",
                "busybox uptime | sed 's/.*average: \\([0-9.]*\\),.*/\\1/'",
                one_minute,
            )
        },
        Row {
            unit: "µs, some",
            slack: 400_000.0,
            ..time(
                "pressure/cpu",
                "total",
                "cat",
                "sed -n 's/^some .*total=//p' /proc/pressure/cpu",
                |around| {
                    // Two threads share half a processor: one of them waits nearly all the time.
                    let waited = |look: &super::Look| 1e6 * (look.at - around.loaded);
                    match around.span(waited) {
                        Expected::Between(a, b) => Expected::Between(0.7 * a, b),
                        words => words,
                    }
                },
            )
        },
    ];
    let limits = Limits { quota: Some(50_000), ..Limits::default() };
    let scripts = vec!["{load} spin 2", "sleep 12; echo ready"];
    group("quota 0.5, two threads spin for 12 s", limits, scripts, rows)
}

fn threads() -> Group {
    let rows = vec![
        Row {
            slack: 8.0,
            // lxcfs counts each 5 s, from the first read on.
            steady: false,
            unit: "threads",
            ..time("loadavg", "all", "cat", "cut -d' ' -f4 /proc/loadavg | cut -d/ -f2", |a| {
                a.span(|look| look.threads as f64)
            })
        },
        Row {
            unit: "",
            steady: false,
            ..time(
                "loadavg",
                "last pid is one of its own",
                "cat",
                "n=$(cut -d' ' -f5 /proc/loadavg); own=$(sh -c 'echo $$'); [ $n -gt 0 ] && [ $n -le $own ] && echo so || echo $n",
                |_| Expected::Words("so".to_owned()),
            )
        },
    ];
    group(
        "2,000 threads",
        Limits::default(),
        vec!["{load} threads 2000", "sleep 6; echo ready"],
        rows,
    )
}

fn disk() -> Group {
    let sectors = |of: fn(&Around) -> Expected| of;
    let read = sectors(|a| a.span(|look| (look.disk.read / 512) as f64));
    let written = sectors(|a| a.span(|look| (look.disk.written / 512) as f64));
    let line = |figure, script, expected| Row {
        slack: 64.0,
        unit: "sectors",
        ..time("diskstats", figure, "cat", script, expected)
    };
    let rows = vec![
        line("sectors read", "awk '$3 == \"{name}\" {print $6}' /proc/diskstats", read),
        line("sectors written", "awk '$3 == \"{name}\" {print $10}' /proc/diskstats", written),
        Row {
            unit: "",
            ..time(
                "diskstats",
                "devices",
                "cat",
                "awk '{print $3}' /proc/diskstats | grep .",
                |_| Expected::Words("{name}".to_owned()),
            )
        },
        Row {
            slack: 64.0,
            unit: "kB",
            ..time(
                "diskstats",
                "sectors written, by vmstat -d",
                "vmstat",
                "vmstat -d | awk '$1 == \"{name}\" {print $8 / 2}'",
                |a| a.span(|look| (look.disk.written / 1024) as f64),
            )
        },
        Row {
            limit: Some("it asks /sys/block, which is not served"),
            slack: 64.0,
            unit: "kB",
            ..time(
                "diskstats",
                "kB_wrtn",
                "iostat",
                "iostat -d -k | awk '$1 == \"{name}\" {print $7}'",
                |a| a.span(|look| (look.disk.written / 1024) as f64),
            )
        },
        Row {
            slack: 64.0,
            unit: "kB",
            ..time(
                "diskstats",
                "read_bytes",
                "psutil",
                "/usr/bin/python3 -c 'import psutil; print(psutil.disk_io_counters(perdisk=True)[\"{name}\"].read_bytes // 1024)'",
                |a| a.span(|look| (look.disk.read / 1024) as f64),
            )
        },
        Row {
            file: "vmstat",
            slack: 64.0,
            unit: "kB",
            ..time(
                "vmstat",
                "pgpgout",
                "cat",
                "awk '$1 == \"pgpgout\" {print $2}' /proc/vmstat",
                |a| a.span(|look| (look.disk.written / 1024) as f64),
            )
        },
    ];
    let script = "dd if=/dev/zero of={disk} bs=1M count=16 oflag=direct conv=notrunc 2>/dev/null; \
                  dd if={disk} of=/dev/null bs=1M count=12 iflag=direct 2>/dev/null; echo ready";
    let all = group(
        "16 MiB written and 12 MiB read, around the page cache",
        Limits::default(),
        vec![script],
        rows,
    );
    Group { needs: Needs::Disk, ..all }
}
