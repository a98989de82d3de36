//! What only shows after long: containers that come and go, workers that are killed again and again.
//! Short by default; `PALIMPSEST_SHIM_SECONDS`, `PALIMPSEST_SHIM_GONE` and `PALIMPSEST_SHIM_AT_ONCE` ask
//! for more (60, 5000 and 500 are what docs/procfs-shim.md tells of).

use std::collections::BTreeSet;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use support::process::run;
use support::require;

use crate::container::{Cgroups, Limits, v1_controllers};
use crate::seen::{MIB, fuse, no_args};
use crate::shim::{PROGRAM, Shim};
use crate::survival::{next_worker, reads, resend, under_readers};

/// Reads of each container that goes.
const READS: usize = 200;

/// Containers made at the same time.
const MAKERS: u64 = 4;

fn asked(name: &str, usual: u64) -> u64 {
    std::env::var(name).map_or(usual, |n| n.parse().unwrap_or_else(|e| panic!("{name}: {e}")))
}

/// Resident bytes and open descriptors of a process.
fn use_of(pid: i32) -> (u64, usize) {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("its status");
    let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:")).expect("VmRSS");
    let kib: u64 = line.split_ascii_whitespace().next().expect("a number").parse().expect("KiB");
    let fds = std::fs::read_dir(format!("/proc/{pid}/fd")).expect("its descriptors").count();
    (kib * 1024, fds)
}

/// Waits until the daemon has forgotten what is gone: it looks around every five seconds.
fn settled(pid: i32, fds: usize) -> (u64, usize) {
    loop {
        let now = use_of(pid);
        if now.1 <= fds {
            return now;
        }
        std::thread::sleep(Duration::from_millis(200));
    }
}

#[test]
fn readers_notice_nothing_for_as_long_as_is_asked() {
    require!("readers_notice_nothing_for_as_long_as_is_asked", resend());
    let lasts = Duration::from_secs(asked("PALIMPSEST_SHIM_SECONDS", 3));
    let shim = Shim::start_for(lasts, &no_args());
    let (mut killed, mut upgrades, mut total) = (0, 0, 0);
    under_readers(&shim, |done| {
        let began = Instant::now();
        while began.elapsed() < lasts {
            std::thread::sleep(Duration::from_millis(200));
            reads(done, 1);
            let worker = next_worker(shim.pid(), &BTreeSet::new());
            if (killed + upgrades) % 10 == 9 {
                let pid = shim.pid().to_string();
                let out = run(Command::new(PROGRAM).args(["upgrade", &pid]));
                assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
                upgrades += 1;
            } else {
                kill(Pid::from_raw(worker), Signal::SIGKILL).expect("kill the worker");
                killed += 1;
            }
            next_worker(shim.pid(), &BTreeSet::from([worker]));
        }
        total = done.load(Ordering::Relaxed);
    });
    println!(
        "{total} reads by 50 readers, {killed} workers killed, {upgrades} upgrades in {lasts:?}"
    );
    assert!(killed > 0);
}

/// Runs a script in a pid namespace and cgroups of its own, from its beginning on.
fn container(groups: &Cgroups, script: &str) -> Child {
    let script = format!("{}exec unshare -p -f --kill-child sh -c '{script}'", groups.enter());
    Command::new("sh")
        .args(["-c", &script])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .expect("start a container")
}

/// Makes containers, each of which reads, checks its own limit, and goes.
fn come_and_go(shim: &Shim, containers: u64) {
    let left = AtomicU64::new(containers);
    let take = || left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1));
    let meminfo = shim.file("proc/meminfo");
    let names = [meminfo.to_str().expect("a path"), " "].concat().repeat(READS);
    std::thread::scope(|scope| {
        for _ in 0..MAKERS {
            scope.spawn(|| {
                while let Ok(number) = take() {
                    let total = (32 + number % 32) * MIB;
                    let groups = Cgroups::new(&Limits { memory: Some(total), ..Limits::default() });
                    let child = container(&groups, &format!("cat {names}"));
                    let out = child.wait_with_output().expect("its reads");
                    let text = String::from_utf8_lossy(&out.stdout);
                    let expected = format!("MemTotal: {:>15} kB\n", total / 1024);
                    let expected = expected.split_ascii_whitespace().collect::<Vec<_>>();
                    let shown = text.lines().filter(|l| l.starts_with("MemTotal:"));
                    let shown = shown.map(|l| l.split_ascii_whitespace().collect::<Vec<_>>());
                    assert_eq!(shown.filter(|l| *l == expected).count(), READS, "{text:.200}");
                }
            });
        }
    });
}

#[test]
fn containers_that_are_gone_leave_nothing_behind() {
    require!("containers_that_are_gone_leave_nothing_behind", fuse(), v1_controllers());
    let containers = asked("PALIMPSEST_SHIM_GONE", 40);
    let shim = Shim::start_for(Duration::from_millis(200 * containers), &no_args());
    let worker = next_worker(shim.pid(), &BTreeSet::new());
    let (_, fds) = use_of(worker);
    // What other tests run beside this one are containers, too.
    let room = fds + 200;
    come_and_go(&shim, (containers / 5).max(1));
    let (before, _) = settled(worker, room);
    come_and_go(&shim, containers);
    let (after, fds) = settled(worker, room);
    let (mib, count) = (|bytes: u64| bytes as f64 / MIB as f64, containers as usize * READS);
    println!(
        "{containers} containers, {count} reads: {:.1} MiB resident before, {:.1} after, {fds} descriptors",
        mib(before),
        mib(after)
    );
    assert!(after < before + 2 * MIB, "{before} {after}");
    assert_eq!(next_worker(shim.pid(), &BTreeSet::new()), worker, "it was never replaced");
}

#[test]
fn many_containers_at_once_need_little_memory() {
    require!("many_containers_at_once_need_little_memory", fuse(), v1_controllers());
    let containers = asked("PALIMPSEST_SHIM_AT_ONCE", 30);
    let shim = Shim::start_for(Duration::from_millis(500 * containers), &no_args());
    let worker = next_worker(shim.pid(), &BTreeSet::new());
    let paths = ["meminfo", "stat", "uptime", "loadavg", "cpuinfo"];
    let paths = paths.map(|name| shim.file(&format!("proc/{name}")).display().to_string());
    let script = format!("cat {} >/dev/null; echo read; sleep 1000000", paths.join(" "));
    let all: Vec<(Child, Cgroups)> = (0..containers)
        .map(|_| {
            let groups = Cgroups::new(&Limits { memory: Some(64 * MIB), ..Limits::default() });
            let mut child = container(&groups, &script);
            let mut said = [0; 5];
            std::io::Read::read_exact(child.stdout.as_mut().expect("a pipe"), &mut said)
                .expect("it has read");
            (child, groups)
        })
        .collect();
    let (resident, fds) = use_of(worker);
    println!(
        "{containers} containers at once: {:.1} MiB resident, {fds} descriptors",
        resident as f64 / MIB as f64
    );
    for (mut child, groups) in all {
        child.kill().expect("end a container");
        child.wait().expect("wait for a container");
        drop(groups);
    }
    assert!(resident <= 10 * MIB, "{resident}");
}
