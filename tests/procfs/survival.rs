//! Workers that are killed, and programs that are replaced, under readers that notice nothing.

use std::collections::BTreeSet;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use procfs_shim::view::load::PERIOD;
use support::privilege::Missing;
use support::require;

use crate::container::{Container, Limits, Namespaces, v1_controllers};
use crate::seen::{fuse, no_args};
use crate::shim::{PROGRAM, Shim};

/// Readers at the same time.
const READERS: usize = 50;

/// Workers killed one after the other.
const KILLS: usize = 15;

/// Says what is missing for unanswered requests to come again.
pub(crate) fn resend() -> Result<(), Missing> {
    fuse()?;
    // `FUSE_NOTIFY_RESEND`.
    support::privilege::kernel_at_least(6, 9)
}

/// The number of the running worker, once there is one that isn't among `old`.
pub(crate) fn next_worker(supervisor: i32, old: &BTreeSet<i32>) -> i32 {
    let path = format!("/proc/{supervisor}/task/{supervisor}/children");
    loop {
        let children = std::fs::read_to_string(&path).expect("the supervisor lives");
        let pids = children.split_ascii_whitespace().filter_map(|p| p.parse().ok());
        if let Some(pid) = pids.into_iter().find(|pid| !old.contains(pid)) {
            return pid;
        }
        std::thread::yield_now();
    }
}

/// Waits until `count` more reads are done, so that the new worker has work when it is killed.
pub(crate) fn reads(done: &AtomicU64, count: u64) {
    let until = done.load(Ordering::Relaxed) + count;
    while done.load(Ordering::Relaxed) < until {
        std::thread::yield_now();
    }
}

/// Reads files again and again in many threads while `disturb` runs; a read that fails or doesn't
/// give a whole file is a panic.
pub(crate) fn under_readers(shim: &Shim, disturb: impl FnOnce(&AtomicU64)) {
    const FILES: [&str; 5] = [
        "proc/meminfo",
        "proc/stat",
        "proc/uptime",
        "sys/devices/system/cpu/online",
        "sys/devices/system/cpu/cpu0/topology/core_id",
    ];
    let (stop, done) = (AtomicBool::new(false), AtomicU64::new(0));
    let (stop, done) = (&stop, &done);
    struct Stop<'a>(&'a AtomicBool, &'a AtomicU64);
    impl Drop for Stop<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
            if std::thread::panicking() {
                // Nobody waits for more reads: there are none.
                self.1.fetch_add(1 << 40, Ordering::Relaxed);
            }
        }
    }
    std::thread::scope(|scope| {
        for reader in 0..READERS {
            let path = shim.file(FILES[reader % FILES.len()]);
            scope.spawn(move || {
                let _stop = Stop(stop, done);
                while !stop.load(Ordering::Relaxed) {
                    let text = std::fs::read_to_string(&path)
                        .unwrap_or_else(|e| panic!("{}: {e}", path.display()));
                    assert!(text.ends_with('\n'), "{}: {text:?}", path.display());
                    done.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let _stop = Stop(stop, done);
        disturb(done);
        reads(done, READERS as u64);
    });
}

#[test]
fn a_killed_worker_is_replaced_and_no_read_fails() {
    require!("a_killed_worker_is_replaced_and_no_read_fails", resend());
    let shim = Shim::start(&no_args());
    let mut killed = BTreeSet::new();
    under_readers(&shim, |done| {
        for _ in 0..KILLS {
            reads(done, 20);
            let worker = next_worker(shim.pid(), &killed);
            kill(Pid::from_raw(worker), Signal::SIGKILL).expect("kill the worker");
            killed.insert(worker);
        }
    });
    let said = shim.end();
    assert_eq!(killed.len(), KILLS);
    assert_eq!(said.matches("killed by SIGKILL").count(), KILLS, "{said}");
}

#[test]
fn open_files_and_directories_survive_the_worker_that_opened_them() {
    require!("open_files_and_directories_survive_the_worker", resend());
    use std::io::{Read, Seek};
    let shim = Shim::start(&no_args());
    let open = |name: &str| std::fs::File::open(shim.file(name)).expect("open");
    let names = ["proc/meminfo", "sys/devices/system/cpu/cpu0/topology/core_id"];
    let mut files = names.map(open);
    let mut directory = std::fs::read_dir(shim.file("sys/devices/system/cpu")).expect("open");
    let worker = next_worker(shim.pid(), &BTreeSet::new());
    kill(Pid::from_raw(worker), Signal::SIGKILL).expect("kill the worker");
    for file in &mut files {
        let mut text = String::new();
        file.read_to_string(&mut text).expect("read on");
        assert!(text.ends_with('\n'));
        file.rewind().expect("rewind");
        assert!(file.read_to_string(&mut text).expect("read again") > 0);
    }
    assert!(directory.all(|entry| entry.is_ok()));
}

#[test]
fn who_has_read_a_file_gets_no_more_of_it_from_another_worker() {
    let test = "who_has_read_a_file_gets_no_more_of_it_from_another_worker";
    require!(test, resend(), v1_controllers());
    let shim = Shim::start(&no_args());
    let limits = Limits { cpus: Some("0"), ..Limits::default() };
    let container = Container::start(shim.path(), &limits, Namespaces::HostPid);
    let worker = next_worker(shim.pid(), &BTreeSet::new());
    // The text becomes longer between the reading of all of it and that of its end.
    let script = format!(
        "exec 3</sys/devices/system/cpu/online; dd bs=99 count=1 <&3 2>/dev/null; kill -9 {worker}
        cat /sys/fs/cgroup/cpuset/cpuset.cpus >/sys/fs/cgroup/cpuset$(sed -n s/.*:cpuset://p /proc/self/cgroup)/cpuset.cpus
        dd bs=99 count=1 <&3 2>/dev/null | wc -c; cat /sys/devices/system/cpu/online"
    );
    let said = container.sh(&script);
    let all = said.strip_prefix("0\n0\n").unwrap_or_else(|| panic!("{said}"));
    assert_eq!(
        all,
        std::fs::read_to_string("/sys/devices/system/cpu/online").expect("all of them")
    );
    assert_ne!(next_worker(shim.pid(), &BTreeSet::new()), worker);
}

#[test]
fn the_program_is_replaced_in_place() {
    require!("the_program_is_replaced_in_place", resend());
    let shim = Shim::start(&no_args());
    under_readers(&shim, |done| {
        for _ in 0..3 {
            let before = next_worker(shim.pid(), &BTreeSet::new());
            let pid = shim.pid().to_string();
            let out = Command::new(PROGRAM).args(["upgrade", &pid]).output().expect("run");
            assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
            assert_ne!(next_worker(shim.pid(), &BTreeSet::from([before])), before);
            reads(done, 100);
        }
    });
    let asked = kill(Pid::from_raw(shim.pid()), Signal::SIGTERM);
    asked.expect("ask it to end");
    assert!(shim.wait_for_its_end().success());
}

#[test]
fn load_averages_outlive_the_worker() {
    require!("load_averages_outlive_the_worker", resend(), v1_controllers());
    let shim = Shim::start(&no_args());
    let mut container = Container::start(shim.path(), &Limits::default(), Namespaces::Own);
    container.spawn("while :; do :; done");
    let average = || -> f64 {
        let text = container.sh("cat /proc/loadavg");
        text.split(' ').next().and_then(|n| n.parse().ok()).expect("an average")
    };
    while average() < 0.2 {
        std::thread::sleep(Duration::from_millis(100));
    }
    // One more round, at whose end it is noted.
    std::thread::sleep(2 * PERIOD);
    let worker = next_worker(shim.pid(), &BTreeSet::new());
    kill(Pid::from_raw(worker), Signal::SIGKILL).expect("kill the worker");
    // One that knew nothing would say 0.08.
    let after = average();
    assert!(after > 0.14, "{after}");
}

#[test]
fn the_program_is_replaced_though_its_files_cover_its_own_proc() {
    require!("the_program_is_replaced_though_its_files_cover_its_own_proc", resend());
    let dir = tempfile::tempdir().expect("a directory");
    let at = dir.path().display();
    let script = format!(
        "mkdir {at}/m; {PROGRAM} -p {at}/pid {at}/m; cd {at}/m
         for f in meminfo stat uptime loadavg cpuinfo swaps; do mount --bind proc/$f /proc/$f; done
         mount --bind sys/devices/system/cpu /sys/devices/system/cpu
         {PROGRAM} upgrade -p {at}/pid
         cat /proc/meminfo /proc/stat /proc/uptime /proc/loadavg /sys/devices/system/cpu/online
         cd /; umount -l /sys/devices/system/cpu
         umount -l /proc/meminfo /proc/stat /proc/uptime /proc/loadavg /proc/cpuinfo /proc/swaps
         umount {at}/m"
    );
    let out = support::process::run(Command::new("unshare").args(["-m", "sh", "-euc", &script]));
    let said = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "{said}");
    assert!(String::from_utf8_lossy(&out.stdout).lines().count() > 60, "{said}");
}

#[test]
fn the_worker_ends_with_its_supervisor() {
    require!("the_worker_ends_with_its_supervisor", fuse());
    let shim = Shim::start(&no_args());
    let worker = next_worker(shim.pid(), &BTreeSet::new());
    let pidfd = sys::process::pidfd_open(worker).expect("a pidfd of the worker");
    kill(Pid::from_raw(shim.pid()), Signal::SIGKILL).expect("kill the supervisor");
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    use std::os::fd::AsFd;
    let mut fds = [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)];
    assert_eq!(poll(&mut fds, PollTimeout::NONE), Ok(1));
    assert!(std::fs::read(shim.file("proc/meminfo")).is_err());
}
