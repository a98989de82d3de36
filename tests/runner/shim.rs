//! A container whose own figures are served by somebody who is killed.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, ChildStdout, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use support::privilege::{kernel_at_least, skip};

use crate::fixture::{Host, text};
use crate::for_each_user;
use crate::kill::{daemon, kill_daemon};
use crate::left::describe;

/// Workers killed one after the other.
const KILLS: usize = 20;

/// Reads figures again and again, until a line comes: a dot for each whole file, and the name of one that
/// could not be read or was cut short.
const READER: &str = r#"perl -e '$| = 1; undef $/; until (-e "/stop") {
    for (qw(/proc/meminfo /proc/stat /proc/uptime /proc/loadavg /sys/devices/system/cpu/online)) {
        print +((open(F, "<", $_) and defined($text = <F>) and $text =~ /\n\z/) ? "." : "$_: $!\n");
        close(F);
    }
}'"#;

for_each_user! {
    a_killed_worker_of_the_shim_is_not_noticed: |host| {
        // `FUSE_NOTIFY_RESEND`.
        if let Err(missing) = kernel_at_least(6, 9) {
            return skip("runner::shim::a_killed_worker_of_the_shim_is_not_noticed", &missing);
        }
        let script = format!("for i in 1 2 3 4; do {READER} & done; wait");
        let (mut child, mut out) = start(host, &["--name", "read", "--memory", "64M"], &script);
        let mut first = [0];
        out.read_exact(&mut first).unwrap();
        let told = std::thread::spawn(move || {
            let mut told = String::new();
            out.read_to_string(&mut told).map(|_| told).unwrap()
        });
        let shim = daemon(child.id(), "procfs-shim");
        let mut killed = BTreeSet::new();
        for _ in 0..KILLS {
            let worker = next_worker(shim, &killed);
            // It serves, and does so for others at the moment at which it is killed.
            host.does("exec", ["read", "cat", "/proc/uptime"]);
            kill(Pid::from_raw(worker), Signal::SIGKILL).unwrap();
            killed.insert(worker);
        }
        next_worker(shim, &killed);
        let total = host.does("exec", ["read", "sh", "-c", "awk '/MemTotal/ {print $2}' /proc/meminfo; touch /stop"]);
        assert_eq!(total, "65536\n");
        let told = told.join().unwrap();
        assert!(told.bytes().all(|b| b == b'.'), "{}", told.trim_matches('.'));
        let said = text(&ended(&mut child, 0));
        assert_eq!(said.matches("killed by SIGKILL").count(), KILLS, "{said}");
        // Orphans come to this process.
        let orphans: Vec<String> = orphans("procfs-shim").into_iter().map(describe).collect();
        assert!(orphans.is_empty(), "{}", orphans.join("\n"));
        host.assert_clean();
    };

    a_container_that_loses_its_shim_goes_on: |host| {
        // A read that has begun fails as the others do.
        let script = "echo up; while cat /proc/meminfo /proc/stat >/dev/null 2>&1; do :; done; \
                      cat /proc/loadavg 2>&1; cat /proc/version >/dev/null && echo alive";
        let (mut child, mut out) = start(host, &["--name", "bereft"], script);
        let mut told = String::new();
        out.read_line(&mut told).unwrap();
        kill_daemon(child.id(), "procfs-shim");
        out.read_to_string(&mut told).unwrap();
        assert!(told.ends_with("alive\n") && told.contains("not connected"), "{told}");
        let said = text(&ended(&mut child, 0));
        assert!(said.contains("procfs-shim: it ended with status 137"), "{said}");
        host.assert_clean();
    };

    a_strict_container_ends_with_its_shim: |host| {
        let (mut child, mut out) = start(host, &["--strict"], "echo up; exec sleep 1000");
        let mut told = String::new();
        out.read_line(&mut told).unwrap();
        kill_daemon(child.id(), "procfs-shim");
        let said = text(&ended(&mut child, 125));
        assert!(said.contains("procfs-shim: it ended with status 137"), "{said}");
        host.assert_clean();
    };
}

fn start(host: &Host, options: &[&str], script: &str) -> (Child, BufReader<ChildStdout>) {
    let mut command = host.command();
    command.arg("--rm").args(options).args(["--", "sh", "-c", script]);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let out = BufReader::new(child.stdout.take().unwrap());
    (child, out)
}

/// Waits for a runner's end, and returns what it said.
#[track_caller]
fn ended(child: &mut Child, code: i32) -> Vec<u8> {
    let mut said = Vec::new();
    child.stderr.take().unwrap().read_to_end(&mut said).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(code), "{}", text(&said));
    said
}

/// Returns the children of this process that go by a name, the ended ones too.
fn orphans(name: &str) -> Vec<i32> {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    let lists = tasks.map(|task| std::fs::read_to_string(task.unwrap().path().join("children")));
    // A thread may have ended meanwhile.
    let all: Vec<i32> = lists
        .filter_map(Result::ok)
        .flat_map(|list| list.split_whitespace().map(|p| p.parse().unwrap()).collect::<Vec<_>>())
        .collect();
    let comm = |pid: &i32| std::fs::read_to_string(format!("/proc/{pid}/comm"));
    all.into_iter().filter(|pid| comm(pid).is_ok_and(|c| c.trim_end() == name)).collect()
}

/// Returns the running worker of a daemon, once there is one that isn't among `old`.
fn next_worker(daemon: i32, old: &BTreeSet<i32>) -> i32 {
    loop {
        let list = std::fs::read_to_string(format!("/proc/{daemon}/task/{daemon}/children"));
        let list = list.unwrap_or_else(|e| {
            panic!("the daemon has ended after {} kills: {e}: {}", old.len(), describe(daemon))
        });
        let pids = list.split_whitespace().filter_map(|p| p.parse().ok());
        if let Some(pid) = pids.into_iter().find(|pid| !old.contains(pid)) {
            return pid;
        }
        // The next one may not come for a second, and needs the processors.
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
}
