//! runner: memory and swap together, as they are enforced, and limits that change.

use std::process::{Command, Output};

use support::process::run;

use crate::Check;

pub(crate) const CHECKS: &[Check] = &[
    ("runner lets programs swap as much as they may", programs_swap_as_much_as_they_may),
    ("runner says what used more than memory and swap", more_than_memory_and_swap_is_the_end),
    ("runner gives no swap where none is asked for", no_swap_is_given_unasked),
    ("runner changes limits of what runs", limits_of_what_runs_are_changed),
];

/// Eats so many MiB and goes on once they are there; fails where it doesn't come to that.
const EAT: &str = "eat() { load memory $1 > /tmp/said & \
    while ! grep -q ready /tmp/said; do kill -0 $!; sleep 0.2; done; }; ";

fn runner(args: &[&str]) -> Output {
    run(Command::new("/bin/runner").args(args))
}

fn ok(args: &[&str]) -> String {
    let out = runner(args);
    assert!(out.status.success(), "{args:?}: {}", text(&out.stderr));
    text(&out.stdout)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn programs_swap_as_much_as_they_may() {
    let script = format!(
        "{EAT} eat 96; cd /sys/fs/cgroup; cat memory.max memory.swap.max memory.swap.current; \
         free -m | awk '/^Swap:/ {{print $2, $3}}'"
    );
    let limits = ["run", "--strict", "--memory", "48M", "--memory-swap", "176M"];
    let said = ok(&[&limits[..], &["--", "sh", "-euc", &script]].concat());
    let lines: Vec<_> = said.lines().collect();
    let [memory, swap, used, seen] = lines[..] else { panic!("{said}") };
    assert_eq!([memory, swap], ["50331648", "134217728"]);
    // What doesn't fit into memory is in swap, and is what the container sees of it.
    let used = used.parse::<u64>().expect("bytes") >> 20;
    assert!((44..110).contains(&used), "{said}");
    let (total, free) = seen.split_once(' ').expect("two figures");
    assert_eq!(total, "128");
    assert!(free.parse::<u64>().expect("MiB").abs_diff(used) <= 12, "{said}");
}

fn more_than_memory_and_swap_is_the_end() {
    let limits = ["run", "--strict", "--memory", "48M", "--memory-swap", "64M"];
    // Half of it fits into both, of the rest nothing does.
    let out = runner(&[&limits[..], &["--", "load", "memory", "160"]].concat());
    assert_eq!(out.status.code(), Some(137), "{}", text(&out.stderr));
    assert!(text(&out.stderr).contains("memory limit was reached"), "{}", text(&out.stderr));
}

fn no_swap_is_given_unasked() {
    let out = runner(&["run", "--strict", "--memory", "48M", "--", "load", "memory", "64"]);
    assert_eq!(out.status.code(), Some(137), "{}", text(&out.stderr));
    let script = "cat /sys/fs/cgroup/memory.swap.max; awk '/^SwapTotal/ {print $2}' /proc/meminfo";
    assert_eq!(ok(&["run", "--memory", "48M", "--", "sh", "-c", script]), "0\n0\n");
}

fn limits_of_what_runs_are_changed() {
    let begin = ["--memory", "48M", "--cpus", "1", "--pids-limit", "50", "--", "sleep", "1000"];
    ok(&[&["run", "--detach", "--rm", "--name", "grow"][..], &begin].concat());
    let changes =
        ["--memory", "64M", "--memory-swap", "192M", "--cpus", "0.5", "--pids-limit", "40"];
    ok(&[&["update"][..], &changes, &["grow"]].concat());
    // What was too much before is not.
    let script = format!(
        "{EAT} cd /sys/fs/cgroup; cat memory.max memory.swap.max cpu.max pids.max; \
         eat 96; free -m | awk '/^Mem:|^Swap:/ {{print $2}}'"
    );
    let said = ok(&["exec", "grow", "sh", "-euc", &script]);
    let expected = ["67108864", "134217728", "50000 100000", "40", "64", "128"];
    assert_eq!(said.lines().collect::<Vec<_>>(), expected);
    // What is too much now is ended.
    ok(&["update", "--memory", "48M", "--memory-swap", "48M", "grow"]);
    let out = runner(&["exec", "grow", "load", "memory", "64"]);
    assert_eq!(out.status.code(), Some(137), "{}", text(&out.stderr));
    let stats = ok(&["stats", "--no-stream", "--format", "{{.Name}} {{.MemLimit}}"]);
    assert_eq!(stats, "grow 50331648\n");
    ok(&["rm", "--force", "grow"]);
}
