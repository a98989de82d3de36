//! runner: containers whose limits show and hold.

use std::process::{Command, Output};

use support::process::run;

use crate::{Check, sh};

pub(crate) const CHECKS: &[Check] = &[
    ("runner's limits are what its programs see", limits_are_seen),
    ("runner's memory limit ends the program and is said", memory_limit_ends_the_program),
    ("runner's quota holds", quota_holds),
    ("runner's limit of processes stops a fork bomb", process_limit_stops_a_fork_bomb),
    ("runner throws changes away", changes_are_thrown_away),
    ("runner leaves nothing behind", nothing_is_left),
];

fn runner(args: &[&str], script: &str) -> Output {
    let mut command = Command::new("/bin/runner");
    run(command.arg("run").args(args).args(["--", "sh", "-euc", script]))
}

fn ok(args: &[&str], script: &str) -> String {
    let out = runner(args, script);
    let said = String::from_utf8_lossy(&out.stdout).into_owned();
    assert!(out.status.success(), "{script}: {said}{}", text(&out.stderr));
    said
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn limits_are_seen() {
    let script = "free -m | awk '/^Mem:/ {print $2}'; nproc; cat /sys/fs/cgroup/memory.max; \
                  cat /sys/fs/cgroup/cpu.max; cat /sys/fs/cgroup/pids.max; ps -o etimes= -p 1; \
                  cut -d. -f1 /proc/uptime";
    let args = ["--memory", "128M", "--cpus", "1", "--pids-limit", "50", "--strict"];
    let said = ok(&args, script);
    let lines: Vec<_> = said.lines().map(str::trim).collect();
    let [memory, cpus, max, quota, pids, elapsed, up] = lines[..] else { panic!("{said}") };
    assert_eq!([memory, cpus, max, quota, pids], ["128", "1", "134217728", "100000 100000", "50"]);
    let seconds = |s: &str| s.parse::<u64>().expect("seconds");
    assert!(seconds(elapsed) < 60 && seconds(up) < 60, "{said}");
}

fn memory_limit_ends_the_program() {
    // `tail` keeps what it reads, as there is no newline in it.
    let out = runner(&["--memory", "32M"], "head -c 200M /dev/zero | tail");
    assert_eq!(out.status.code(), Some(137), "{}", text(&out.stderr));
    assert!(text(&out.stderr).contains("memory limit was reached"), "{}", text(&out.stderr));
}

fn quota_holds() {
    let script = "load spin 2 > /dev/null & sleep 5; cat /proc/uptime /sys/fs/cgroup/cpu.stat";
    let said = ok(&["--cpus", "0.5"], script);
    let number = |name: &str| -> f64 {
        let line = said.lines().find_map(|l| l.strip_prefix(name));
        line.and_then(|l| l.trim().parse().ok()).unwrap_or_else(|| panic!("{name} in {said}"))
    };
    let up: f64 = said.split(' ').next().and_then(|s| s.parse().ok()).expect("seconds");
    let used = number("usage_usec") / 1e6;
    // The container's clock starts up to a second early.
    assert!(used >= 0.5 && used <= 0.5 * (up + 0.5), "{used} s of {up} s\n{said}");
    assert!(number("nr_throttled") > 5.0, "{said}");
}

fn process_limit_stops_a_fork_bomb() {
    let script = "n=0; while [ $n -lt 60 ]; do sleep 60 & n=$((n + 1)); done; echo all";
    let out = runner(&["--pids-limit", "20"], script);
    assert!(!text(&out.stdout).contains("all"), "{}", text(&out.stderr));
    assert!(text(&out.stderr).contains("fork"), "{}", text(&out.stderr));
}

fn changes_are_thrown_away() {
    sh("echo before > /etc/of-the-machine");
    let script = "echo after > /etc/of-the-machine; cat /etc/of-the-machine; rm /etc/passwd";
    assert_eq!(ok(&[], script), "after\n");
    assert_eq!(sh("cat /etc/of-the-machine; cat /etc/passwd | wc -l").trim(), "before\n1");
}

fn nothing_is_left() {
    let cgroups = sh("find /sys/fs/cgroup -mindepth 1 -type d -name 'palimpsest-*'");
    assert_eq!(cgroups, "", "no container's cgroup is left");
    let mounts = std::fs::read_to_string("/proc/mounts").expect("read mounts");
    assert!(!mounts.contains("palimpsest"), "{mounts}");
    let names = sh("cat /proc/[0-9]*/comm 2>/dev/null || true");
    assert!(!names.lines().any(|n| n == "unionfs" || n == "runner"), "{names}");
}
