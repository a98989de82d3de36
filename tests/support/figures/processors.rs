//! Figures of processors: how many there are, and how busy.

use super::{Around, Expected, Group, Needs, ROW, Row, group};
use crate::cgroups::Limits;

/// Points of a percentage by which a tool's second of its own may differ from the time around it.
const POINTS: f64 = 15.0;

fn quota(percent: u64) -> Limits {
    Limits { quota: Some(percent * 1000), ..Limits::default() }
}

fn idle(around: &Around) -> Expected {
    let idle = (100.0 - around.busy()).max(0.0);
    Expected::Between(idle, idle)
}

fn busy(around: &Around) -> Expected {
    let busy = around.busy().min(100.0);
    Expected::Between(busy, busy)
}

/// Where nothing but the tool runs, which starts before its own second begins.
fn mostly_idle(around: &Around) -> Expected {
    Expected::Between(100.0 - around.busy().min(100.0), 100.0)
}

fn hardly_busy(around: &Around) -> Expected {
    Expected::Between(0.0, around.busy().min(100.0))
}

/// The processors' number: whole ones for what the quota allows.
fn count(around: &Around) -> Expected {
    Expected::Words((around.capacity().ceil() as usize).to_string())
}

const fn percent(
    figure: &'static str,
    tool: &'static str,
    script: &'static str,
    expected: fn(&Around) -> Expected,
) -> Row {
    Row {
        file: "stat",
        figure,
        tool,
        script,
        expected,
        slack: POINTS,
        unit: "%",
        slow: true,
        ..ROW
    }
}

const fn words(
    file: &'static str,
    figure: &'static str,
    tool: &'static str,
    script: &'static str,
    expected: fn(&Around) -> Expected,
) -> Row {
    Row { file, figure, tool, script, expected, ..ROW }
}

const TOP: Row = percent(
    "idle, second frame",
    "top",
    "top -b -n 2 -d 1.5 | sed -n 's/^%Cpu.*, *\\([0-9.]*\\) id,.*/\\1/p' | tail -n 1",
    idle,
);
const VMSTAT: Row =
    percent("idle, second line", "vmstat", "vmstat 1 2 | awk 'NR == 4 {print $15}'", idle);
const IOSTAT: Row = percent(
    "idle, second report",
    "iostat",
    "iostat -c 1 2 | awk '/^avg-cpu/ {getline; n = $6} END {print n}'",
    idle,
);
const PSUTIL: Row = percent(
    "busy",
    "psutil",
    "/usr/bin/python3 -c 'import psutil; print(psutil.cpu_percent(1.5))'",
    busy,
);
const BUSYBOX: Row = percent(
    "idle, second frame",
    "busybox top",
    "busybox top -b -n 2 -d 1 | awk '/^CPU:/ {for (i = 2; i <= NF; i++) if ($i == \"idle\") n = $(i - 1)} END {sub(\"%\", \"\", n); print n}'",
    idle,
);

/// Reads the first line of stat twice.
macro_rules! two_readings {
    ($what:literal) => {
        concat!(
            "r() { head -n 1 /proc/stat; }; a=$(r); sleep 2; b=$(r); echo $a $b | ",
            "awk '{for (i = 2; i <= 11; i++) {d = $(i + 11) - $i; all += d; if (i == 5 || i == 6) idle += d}} ",
            "END {print ",
            $what,
            "}'"
        )
    };
}

const TICKS_BUSY: Row =
    percent("busy of all ticks", "cat", two_readings!("all ? 100 * (all - idle) / all : -1"), busy);

/// All ticks of two seconds or more: not less than two seconds' worth, and not more than that of the
/// time around them.
const TICKS: Row = Row {
    slack: 30.0,
    unit: "ticks",
    ..percent("all ticks in 2 s", "cat", two_readings!("all"), |around| {
        let a_second = 100.0 * around.capacity();
        Expected::Between(2.0 * a_second, around.seconds() * a_second)
    })
};

/// The first line of vmstat tells of all the time before: no rate in it may be a sum of the machine.
const VMSTAT_FIRST: Row = Row {
    unit: "",
    slack: 0.0,
    ..percent(
        "first line: in, cs below 1,000,000 a second, us to st add up to 100",
        "vmstat",
        "vmstat 1 1 | awk 'NR == 3 {all = $13 + $14 + $15 + $16 + $17; print ($11 < 1e6 && $12 < 1e6 && all > 97 && all < 103) ? \"so\" : \"not: \" $0}'",
        |_| Expected::Words("so".to_owned()),
    )
};

const fn count_in(file: &'static str, script: &'static str) -> Row {
    words(file, "processors", "cat", script, count)
}

/// Groups of rows, one for each load.
pub(super) fn groups() -> Vec<Group> {
    let saturated = vec![TOP, VMSTAT, IOSTAT, PSUTIL, BUSYBOX, TICKS_BUSY, TICKS];
    // lxcfs moves idle time back and forth there.
    let fraction = |rows: &[Row]| {
        let all = saturated.iter().map(|row| Row { steady: false, ..*row });
        all.chain(rows.iter().copied()).collect::<Vec<_>>()
    };
    let quiet = [TOP, VMSTAT, IOSTAT, TICKS_BUSY].map(|row| match row.figure {
        "busy of all ticks" => Row { expected: hardly_busy, ..row },
        _ => Row { expected: mostly_idle, ..row },
    });
    let counts = [
        count_in("cpuinfo", "grep -c ^processor /proc/cpuinfo"),
        count_in("stat", "grep -c '^cpu[0-9]' /proc/stat"),
        VMSTAT_FIRST,
    ];
    let beside = group(
        "nothing, while the machine is busy beside it",
        quota(100),
        Vec::new(),
        quiet.into_iter().chain([Row { expected: hardly_busy, ..PSUTIL }, TICKS]).collect(),
    );
    vec![
        group("quota 0.5, one thread spins", quota(50), vec!["{load} spin 1"], fraction(&counts)),
        group("quota 1, one thread spins", quota(100), vec!["{load} spin 1"], saturated.clone()),
        Group {
            needs: Needs::Processors,
            ..group(
                "quota 1.5, two threads spin",
                quota(150),
                vec!["{load} spin 2"],
                fraction(&counts),
            )
        },
        Group { outside: Some("spin 1"), ..beside },
        cpuset(),
    ]
}

fn one(_: &Around) -> Expected {
    Expected::Words("1".to_owned())
}

fn cpuset() -> Group {
    let rows = vec![
        words("cpu/online", "list", "cat", "cat /sys/devices/system/cpu/online", one),
        words("cpu/present", "list", "cat", "cat /sys/devices/system/cpu/present", one),
        words("cpu/possible", "list", "cat", "cat /sys/devices/system/cpu/possible", one),
        words("cpu", "directories", "ls", "cd /sys/devices/system/cpu; echo cpu[0-9]*", |_| {
            Expected::Words("cpu1".to_owned())
        }),
        words("cpuinfo", "processor", "cat", "awk '/^processor/ {print $3}' /proc/cpuinfo", one),
        words("cpuinfo", "siblings", "cat", "awk '/^siblings/ {print $3}' /proc/cpuinfo", one),
        words("cpuinfo", "cpu cores", "cat", "awk '/^cpu cores/ {print $4}' /proc/cpuinfo", one),
        words(
            "stat",
            "processor",
            "cat",
            "sed -n 's/^cpu\\([0-9]*\\) .*/\\1/p' /proc/stat | grep .",
            one,
        ),
        words("cpu", "count", "nproc", "nproc", one),
        words("cpu", "count, all", "nproc", "nproc --all", one),
        words("cpu", "count", "busybox nproc", "busybox nproc", one),
        words("cpu", "_NPROCESSORS_CONF", "getconf", "getconf _NPROCESSORS_CONF", one),
        words("cpu", "CPU(s)", "lscpu", "lscpu | sed -n 's/^CPU(s): *//p'", one),
        words(
            "cpu",
            "count",
            "psutil",
            "/usr/bin/python3 -c 'import psutil; print(psutil.cpu_count())'",
            one,
        ),
        Row { slack: POINTS, unit: "%", ..TOP },
        TICKS,
    ];
    let limits = Limits { cpus: Some("1".to_owned()), ..Limits::default() };
    let all = group("cpuset 1, one thread spins", limits, vec!["{load} spin 1"], rows);
    Group { needs: Needs::Processors, ..all }
}
