//! What procfs-shim does with cgroup v2 beyond single figures: trees of cgroups, changes, kills.

use std::path::Path;
use std::process::Command;

use procfs_shim::host::parse;
use support::cgroups::{Limits, Version, version};
use support::container::{Clock, Container};
use support::figures::server::Server;
use support::process::run;

use crate::{Check, sh};

pub(crate) const CHECKS: &[Check] = &[
    ("the unified hierarchy is the only one", the_unified_hierarchy_is_the_only_one),
    ("doctor finds all controllers", doctor_finds_all_controllers),
    ("explain names the files of v2", explain_names_the_files_of_v2),
    ("a parent's limit counts with the parent's use", a_parents_limit_counts_with_its_use),
    ("an ancestor's quota counts", an_ancestors_quota_counts),
    ("a reader in the root cgroup sees the machine", a_reader_in_the_root_sees_the_machine),
    ("a limit lowered below the use leaves nothing free", a_lowered_limit_leaves_nothing_free),
    ("a cpuset changed live is seen in each file", a_cpuset_changed_live_is_seen),
    ("ticks never step back, whoever else reads", ticks_never_step_back),
    ("a throttled container sees what was written", a_throttled_container_sees_what_was_written),
    ("a killed worker is replaced", a_killed_worker_is_replaced),
];

const MIB: u64 = 1 << 20;

fn shim() -> Server {
    Server::shim(Path::new("/bin/procfs-shim"))
}

fn the_unified_hierarchy_is_the_only_one() {
    assert_eq!(version(), Ok(Version::V2));
    let mounts = std::fs::read_to_string("/proc/mounts").expect("read mounts");
    let cgroups: Vec<_> = mounts.lines().filter(|l| l.contains(" cgroup")).collect();
    assert!(matches!(cgroups[..], [one] if one.contains(" cgroup2 ")), "{cgroups:?}");
}

fn doctor_finds_all_controllers() {
    let out = run(Command::new("/bin/procfs-shim").arg("doctor"));
    let said = String::from_utf8_lossy(&out.stdout).into_owned();
    for controller in ["memory", "cpu", "cpuset", "blkio"] {
        let line = said
            .lines()
            .find(|l| l.starts_with("ok") && l.contains(&format!(" {controller}: cgroup v2")));
        assert!(line.is_some(), "{controller}: {said}");
    }
}

fn explain_names_the_files_of_v2() {
    let limits = Limits { memory: Some(64 * MIB), ..Limits::default() };
    let container = Container::start(&limits, Clock::Machine);
    let pid = container.init().to_string();
    let out = run(Command::new("/bin/procfs-shim").args(["explain", "meminfo", "--pid", &pid]));
    let said = String::from_utf8_lossy(&out.stdout).into_owned();
    let line = said.lines().find(|l| l.contains("MemTotal")).unwrap_or_default();
    assert!(line.contains("65536") && line.contains("memory.max"), "{said}");
}

/// Cgroups of a parent and a child in which nobody is at the end.
struct Tree;

impl Tree {
    fn new() -> Tree {
        let controllers = "+memory +cpu +cpuset +io +pids";
        sh(&format!(
            "cd /sys/fs/cgroup; echo '{controllers}' > cgroup.subtree_control; mkdir -p tree; \
             echo '{controllers}' > tree/cgroup.subtree_control; mkdir -p tree/a tree/b"
        ));
        Tree
    }

    /// Reads a file of the mount as a process of `tree/a`.
    fn read(&self, server: &Server, file: &str) -> String {
        let path = server.path().join(file);
        sh(&format!("echo $$ > /sys/fs/cgroup/tree/a/cgroup.procs; cat {}", path.display()))
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        let script = "cd /sys/fs/cgroup/tree; echo 1 > cgroup.kill; sleep 0.5; cd ..; rmdir tree/a tree/b tree";
        let out = Command::new("sh").args(["-c", script]).output();
        if !out.as_ref().is_ok_and(|o| o.status.success()) {
            eprintln!("end of the cgroups: {out:?}");
        }
    }
}

fn kib(meminfo: &str, name: &str) -> u64 {
    parse::meminfo(meminfo).expect("a meminfo").bytes(name) / 1024
}

fn a_parents_limit_counts_with_its_use() {
    let (server, tree) = (shim(), Tree::new());
    sh("echo 300M > /sys/fs/cgroup/tree/memory.max");
    // A neighbour uses most of what both may.
    let mut eater = Command::new("sh")
        .args(["-c", "echo $$ > /sys/fs/cgroup/tree/b/cgroup.procs; exec /bin/load memory 200"])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("start a neighbour");
    let mut ready = [0; 6];
    std::io::Read::read_exact(eater.stdout.as_mut().expect("a pipe"), &mut ready).expect("ready");
    let meminfo = tree.read(&server, "proc/meminfo");
    eater.kill().expect("end the neighbour");
    eater.wait().expect("wait for the neighbour");
    assert_eq!(kib(&meminfo, "MemTotal"), 300 * 1024);
    let free = kib(&meminfo, "MemFree");
    assert!(free < 101 * 1024 && free > 80 * 1024, "{free} of 100 MiB are free");
    assert!(kib(&meminfo, "MemAvailable") < 110 * 1024, "{meminfo}");
    // Its own figures are its own.
    assert!(kib(&meminfo, "AnonPages") < 20 * 1024, "{meminfo}");
}

fn an_ancestors_quota_counts() {
    let (server, tree) = (shim(), Tree::new());
    sh("cd /sys/fs/cgroup/tree; echo '50000 100000' > cpu.max; echo '150000 100000' > a/cpu.max");
    assert_eq!(tree.read(&server, "sys/devices/system/cpu/online"), "0\n");
    let cpuinfo = tree.read(&server, "proc/cpuinfo");
    assert_eq!(cpuinfo.matches("processor\t").count(), 1, "{cpuinfo}");
}

fn a_reader_in_the_root_sees_the_machine() {
    let server = shim();
    let path = server.path().join("proc/meminfo");
    let (ours, own) = (sh(&format!("cat {}", path.display())), sh("cat /proc/meminfo"));
    assert_eq!(kib(&ours, "MemTotal"), kib(&own, "MemTotal"));
    let apart = kib(&ours, "MemFree").abs_diff(kib(&own, "MemFree"));
    assert!(apart < 8 * 1024, "{apart} kB\n{ours}{own}");
    assert!(kib(&ours, "MemAvailable") <= kib(&ours, "MemTotal"));
}

fn a_lowered_limit_leaves_nothing_free() {
    let (server, tree) = (shim(), Tree::new());
    sh("cd /sys/fs/cgroup/tree/a; echo 256M > memory.max; echo 0 > memory.swap.max");
    let mut eater = Command::new("sh")
        .args(["-c", "echo $$ > /sys/fs/cgroup/tree/a/cgroup.procs; exec /bin/load memory 64"])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("start an eater");
    let mut ready = [0; 6];
    std::io::Read::read_exact(eater.stdout.as_mut().expect("a pipe"), &mut ready).expect("ready");
    let before = tree.read(&server, "proc/meminfo");
    assert!(kib(&before, "MemFree") < 192 * 1024, "{before}");
    // Writing memory.max kills what doesn't fit: then all of the new limit is free but for the reader.
    sh("echo 32M > /sys/fs/cgroup/tree/a/memory.max");
    let after = tree.read(&server, "proc/meminfo");
    eater.wait().expect("the eater was killed");
    let [total, free, available] =
        ["MemTotal", "MemFree", "MemAvailable"].map(|name| kib(&after, name));
    assert_eq!(total, 32 * 1024);
    assert!(free <= available && available <= total, "{after}");
}

fn a_cpuset_changed_live_is_seen() {
    let server = shim();
    let limits = Limits { cpus: Some("1".into()), ..Limits::default() };
    let container = Container::start(&limits, Clock::Machine);
    let window = container.covered(Path::new("/bin/load"), server.path());
    let script = "cat /sys/devices/system/cpu/online; grep -c ^processor /proc/cpuinfo; \
                  grep -c '^cpu[0-9]' /proc/stat; nproc; sed -n 's/Cpus_allowed_list:.//p' /proc/self/status";
    let seen = || container.look(&window, script).expect("look");
    assert_eq!(seen(), "1\n1\n1\n1\n1\n");
    container.groups().set("", "cpuset.cpus", "0-1");
    assert_eq!(seen(), "0-1\n2\n2\n2\n0-1\n");
}

fn ticks_never_step_back() {
    let server = shim();
    let limits = Limits { quota: Some(150_000), ..Limits::default() };
    let mut container = Container::start(&limits, Clock::Machine);
    container.load("/bin/load spin 2");
    let window = container.covered(Path::new("/bin/load"), server.path());
    let read = "i=0; while [ $i -lt 60 ]; do read -r line < /proc/stat; echo \"$line\"; i=$((i + 1)); done";
    let both = std::thread::scope(|scope| {
        let other = scope.spawn(|| container.look(&window, read));
        [container.look(&window, read), other.join().expect("a reader")]
    });
    for said in both {
        let said = said.expect("look");
        let ticks = |line: &str| -> Vec<u64> {
            let fields = line.split_ascii_whitespace().skip(1);
            fields.map(|f| f.parse().expect("ticks")).collect()
        };
        let lines: Vec<_> = said.lines().map(ticks).collect();
        assert_eq!(lines.len(), 60);
        let grows = |pair: &[Vec<u64>]| pair[0].iter().zip(&pair[1]).all(|(a, b)| a <= b);
        assert!(lines.windows(2).all(grows), "{said}");
        assert!(lines[59] > lines[0], "{said}");
    }
}

fn a_throttled_container_sees_what_was_written() {
    let server = shim();
    let container = Container::start(&Limits::default(), Clock::Machine);
    let device = std::fs::read_to_string("/sys/block/vda/dev").expect("the disk");
    container.groups().set("", "io.max", &format!("{} wbps=4194304", device.trim()));
    let window = container.covered(Path::new("/bin/load"), server.path());
    let look = |script: &str| container.look(&window, script).expect("look");
    let write = "dd if=/dev/zero of=/dev/vda bs=1M count=4 oflag=direct 2>/dev/null";
    let sectors = "awk '$3 == \"vda\" {print $10}' /proc/diskstats";
    for sum in ["8192\n", "16384\n"] {
        look(write);
        assert_eq!(look(sectors), sum);
    }
    assert_eq!(look("vmstat -d | awk '$1 == \"vda\" {print $8}'"), "16384\n");
    // While a write waits, a part of it at most is shown.
    let script = format!("{write} & sleep 0.3; {sectors}; wait; {sectors}");
    let shown: Vec<u64> = look(&script).lines().map(|n| n.parse().expect("a number")).collect();
    assert!((16384..=24576).contains(&shown[0]) && shown[1] == 24576, "{shown:?}");
}

fn a_killed_worker_is_replaced() {
    let server = shim();
    let worker = || {
        let pid = server.pid();
        let path = format!("/proc/{pid}/task/{pid}/children");
        std::fs::read_to_string(path).expect("the children").trim().to_owned()
    };
    let first = worker();
    sh(&format!("kill -9 {first}"));
    // This kernel doesn't tell again what the dead one had read: nothing was under way.
    let meminfo = std::fs::read_to_string(server.path().join("proc/meminfo")).expect("read");
    assert!(kib(&meminfo, "MemTotal") > 0);
    assert_ne!(worker(), first);
}
