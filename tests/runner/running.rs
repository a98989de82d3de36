//! What is done to containers while they run: pause, limits, and the end by too much memory.

use std::collections::BTreeSet;

use crate::fixture::{Host, Who};
use crate::for_each_user;

/// How much of files an idle process of ours maps at most, also in a build that isn't optimized, of which
/// each maps more while it works, and a command four times as much.
const MOST_MAPPED_KIB: u64 = 3072;

/// Adds a process and all below it.
fn below(pid: i32, found: &mut BTreeSet<i32>) {
    found.insert(pid);
    let list = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
    for child in list.unwrap_or_default().split_whitespace() {
        below(child.parse().unwrap(), found);
    }
}

fn command(pid: i32) -> String {
    std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default().trim().to_owned()
}

/// Returns how much of files a process has mapped that is as the files have it.
fn mapped_kib(pid: i32) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap();
    let field = |name| text.lines().find_map(|l| l.strip_prefix(name)).unwrap();
    let number = |text: &str| text.trim().trim_end_matches(" kB").parse::<u64>().unwrap();
    number(field("Rss:")) - number(field("Anonymous:"))
}

/// Whether this user's containers have cgroups: on the machines of these tests, root's have.
fn has_cgroups(host: &Host) -> bool {
    matches!(host.who(), Who::Root)
}

for_each_user! {
    a_paused_container_stands_still: |host| {
        host.up("clock", &[], "while :; do echo tick; sleep 0.05; done");
        if !has_cgroups(host) {
            let said = host.refuses(125, "pause", ["clock"]);
            assert!(said.contains("cgroup"), "{said}");
            host.does("rm", ["-f", "clock"]);
            return;
        }
        host.does("pause", ["clock"]);
        assert_eq!(host.does("ps", ["--format", "{{.State}}"]), "paused\n");
        host.refuses(125, "exec", ["clock", "true"]);
        let before = host.does("logs", ["clock"]);
        std::thread::sleep(std::time::Duration::from_millis(300));
        assert_eq!(host.does("logs", ["clock"]), before);
        host.does("unpause", ["clock"]);
        host.until(|| host.does("logs", ["clock"]).len() > before.len());
        // One that is paused can be stopped.
        host.does("pause", ["clock"]);
        host.does("stop", ["-t", "5", "clock"]);
        host.does("rm", ["clock"]);
    };

    what_is_idle_gives_memory_back: |host| {
        host.up("idle", &[], "exec sleep 1000");
        for _ in 0..2 {
            let mut ours = BTreeSet::new();
            for pid in host.new_children() {
                below(pid, &mut ours);
            }
            ours.retain(|pid| command(*pid) != "sleep");
            assert_eq!(ours.len(), 5, "{ours:?}");
            host.until(|| ours.iter().all(|pid| mapped_kib(*pid) < MOST_MAPPED_KIB));
            // What was given back comes again.
            let script = "ls -R /etc; echo more > /file; cat /file";
            let said = host.does("exec", ["idle", "sh", "-c", script]);
            assert!(said.ends_with("more\n"), "{said}");
        }
        host.does("rm", ["-f", "idle"]);
    };

    limits_are_changed_while_it_runs: |host| {
        host.up("grow", &["--memory", "64M", "--pids-limit", "50", "--cpus", "1"], "sleep 1000");
        if !has_cgroups(host) {
            let said = host.refuses(125, "update", ["--memory", "32M", "grow"]);
            assert!(said.contains("no cgroup"), "{said}");
            host.does("rm", ["-f", "grow"]);
            return;
        }
        host.does("update", ["--memory", "128M", "--pids-limit", "60", "--cpus", "0.5", "grow"]);
        let script = "cd /sys/fs/cgroup; cat memory.max memory/memory.limit_in_bytes pids.max \
                      pids/pids.max 2>/dev/null; awk '/MemTotal/ {print $2}' /proc/meminfo";
        let out = host.does("exec", ["grow", "sh", "-c", script]);
        assert_eq!(out.lines().collect::<Vec<_>>(), ["134217728", "60", "131072"]);
        host.does("update", ["--memory", "32M", "grow"]);
        assert_eq!(host.does("inspect", ["-f", "{{.HostConfig.Memory}}", "grow"]), "33554432\n");
        let stats = host.does("stats", ["--no-stream", "--format", "{{.MemLimit}} {{.PIDs}}"]);
        assert_eq!(stats, "33554432 3\n");
        host.does("rm", ["-f", "grow"]);
    };
}

#[test]
fn a_container_that_is_killed_for_its_memory_says_so() {
    support::require!("life::oom", support::privilege::root());
    let host = Host::root().expect("root");
    host.does(
        "create",
        ["--name", "greedy", "--memory", "32M", "--", "sh", "-c", "head -c 300M /dev/zero | tail"],
    );
    let out = support::process::run(host.verb("start").args(["-a", "greedy"]));
    assert_eq!(out.status.code(), Some(137));
    let told = host.does("inspect", ["-f", "{{.State.OOMKilled}} {{.State.ExitCode}}", "greedy"]);
    assert_eq!(told, "true 137\n");
    host.does("rm", ["greedy"]);
}
