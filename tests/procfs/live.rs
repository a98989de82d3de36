//! Containers with real load in real cgroups, as the tools inside see them.

use std::path::Path;

use procfs_shim::host::parse;
use support::privilege::{Missing, installed, root};
use support::require;

use crate::container::{Container, Limits, Namespaces, UNIFIED, v1_controllers};
use crate::shim::{SharedDir, Shim};

const MIB: u64 = 1 << 20;

fn fuse() -> Result<(), Missing> {
    root()?;
    if Path::new("/dev/fuse").exists() {
        return Ok(());
    }
    Err(Missing::Setup("there is no /dev/fuse".into()))
}

fn no_args() -> [&'static str; 0] {
    []
}

/// Returns a figure of a meminfo in KiB.
fn kib(meminfo: &str, name: &str) -> u64 {
    parse::meminfo(meminfo).expect("a meminfo").bytes(name) / 1024
}

/// Returns the figures of a `cpu` line: user, nice, system, idle.
fn cpu_line(stat: &str) -> Vec<u64> {
    let line = stat.lines().next().expect("a first line");
    assert!(line.starts_with("cpu "), "{line}");
    line.split_ascii_whitespace().skip(1).take(4).map(|f| f.parse().expect("ticks")).collect()
}

#[test]
fn memory_is_the_limit_and_what_was_eaten() {
    require!("memory_is_the_limit_and_what_was_eaten", fuse(), v1_controllers(), installed("free"));
    let shim = Shim::start(&no_args());
    let limits = Limits { memory: Some(256 * MIB), ..Limits::default() };
    let mut container = Container::start(shim.path(), &limits, Namespaces::Own);
    let before = container.sh("cat /proc/meminfo");
    assert_eq!(kib(&before, "MemTotal"), 256 * 1024);
    // The shell holds 64 MiB in a variable and says so by a file.
    container.spawn(
        "x=$(head -c 67108864 /dev/zero | tr '\\0' x); : > /dev/shm/shim-eaten-$$-; sleep 1000; : $x",
    );
    container.sh("until ls /dev/shm/shim-eaten-*- >/dev/null 2>&1; do sleep 0.05; done; rm -f /dev/shm/shim-eaten-*-");
    let after = container.sh("cat /proc/meminfo");
    let eaten = kib(&before, "MemFree").saturating_sub(kib(&after, "MemFree"));
    assert!(eaten >= 64 * 1024, "{eaten} KiB less free");
    assert!(kib(&after, "AnonPages") >= 64 * 1024);
    assert!(kib(&after, "MemFree") <= kib(&after, "MemAvailable"));
    assert!(kib(&after, "MemAvailable") <= kib(&after, "MemTotal"));
    let free = container.sh("free -k");
    let total = free.lines().nth(1).and_then(|l| l.split_ascii_whitespace().nth(1));
    assert_eq!(total, Some("262144"), "{free}");
}

#[test]
fn tmpfs_is_not_available() {
    require!("tmpfs_is_not_available", fuse(), v1_controllers());
    let shim = Shim::start(&no_args());
    let limits = Limits { memory: Some(256 * MIB), ..Limits::default() };
    let container = Container::start(shim.path(), &limits, Namespaces::Own);
    let script =
        "mount -t tmpfs none /mnt && head -c 62914560 /dev/zero > /mnt/f && cat /proc/meminfo";
    let meminfo = container.sh(script);
    assert!(kib(&meminfo, "Shmem") >= 60 * 1024);
    assert!(kib(&meminfo, "MemAvailable") <= 256 * 1024 - 60 * 1024, "{meminfo}");
}

#[test]
fn a_limit_lowered_below_the_use_leaves_nothing_free() {
    require!("a_limit_lowered_below_the_use_leaves_nothing_free", fuse(), v1_controllers());
    let shim = Shim::start(&no_args());
    let limits = Limits { memory: Some(256 * MIB), ..Limits::default() };
    let container = Container::start(shim.path(), &limits, Namespaces::Own);
    container.groups().limit_memory(64 * MIB);
    let meminfo = container.sh("cat /proc/meminfo");
    assert_eq!(kib(&meminfo, "MemTotal"), 64 * 1024);
    assert!(kib(&meminfo, "MemFree") <= 64 * 1024);
}

#[test]
fn half_a_processor_saturated_is_busy_all_the_time() {
    require!(
        "half_a_processor_saturated_is_busy_all_the_time",
        fuse(),
        v1_controllers(),
        installed("top")
    );
    let shim = Shim::start(&no_args());
    let limits = Limits { quota: Some(50_000), ..Limits::default() };
    let mut container = Container::start(shim.path(), &limits, Namespaces::Own);
    container.spawn("while :; do :; done");
    // The readings are taken when the spinner has used so much time, not after some seconds.
    let spent = |user: u64| {
        format!(
            "while [ $(awk '/^cpu /{{print $2}}' /proc/stat) -lt {user} ]; do sleep 0.1; done; cat /proc/stat"
        )
    };
    let first = cpu_line(&container.sh(&spent(50)));
    let last = cpu_line(&container.sh(&spent(200)));
    let busy = last[0] + last[1] + last[2] - first[0] - first[1] - first[2];
    let idle = last[3] - first[3];
    assert!(busy >= 100, "{first:?} {last:?}");
    // On a busy machine the spinner may not get all of its share.
    assert!(idle <= busy, "mostly busy: {first:?} {last:?}");
    let frames = container.sh("top -b -n 2 -d 1");
    let frame = frames.lines().rfind(|l| l.starts_with("%Cpu")).expect("a line");
    assert!(!frame.contains("100.0 id"), "{frame}");
    assert_eq!(container.sh("grep -c ^processor /proc/cpuinfo").trim(), "1");
    assert_eq!(container.sh("cat /sys/devices/system/cpu/online").trim(), "0");
}

#[test]
fn idle_never_steps_back() {
    require!("idle_never_steps_back", fuse(), v1_controllers());
    let shim = Shim::start(&no_args());
    let limits = Limits { quota: Some(150_000), ..Limits::default() };
    let mut container = Container::start(shim.path(), &limits, Namespaces::Own);
    container.spawn("while :; do :; done");
    container.spawn("while :; do :; done");
    let script = "i=0; while [ $i -lt 300 ]; do head -n1 /proc/stat; i=$((i+1)); done";
    let readings = container.sh(script);
    let lines: Vec<Vec<u64>> = readings.lines().map(cpu_line).collect();
    for pair in lines.windows(2) {
        assert!(pair[0].iter().zip(&pair[1]).all(|(a, b)| a <= b), "{pair:?}");
    }
}

#[test]
fn a_file_that_stays_open_is_made_anew_at_its_beginning() {
    require!("a_file_that_stays_open_is_made_anew_at_its_beginning", fuse());
    use std::os::unix::fs::FileExt;
    let shim = Shim::start(&no_args());
    let file = std::fs::File::open(shim.file("proc/uptime")).unwrap();
    let mut texts = std::collections::BTreeSet::new();
    while texts.len() < 3 {
        let mut room = [0; 64];
        let n = file.read_at(&mut room, 0).unwrap();
        texts.insert(room[..n].to_vec());
    }
}

#[test]
fn a_cpuset_changed_live_is_seen_in_each_file() {
    require!("a_cpuset_changed_live_is_seen_in_each_file", fuse(), v1_controllers());
    if std::thread::available_parallelism().map_or(1, usize::from) < 2 {
        let why = Missing::Kernel("one processor only".into());
        return support::privilege::skip("a_cpuset_changed_live_is_seen_in_each_file", &why);
    }
    let shim = Shim::start(&no_args());
    let limits = Limits { cpus: Some("1"), ..Limits::default() };
    let container = Container::start(shim.path(), &limits, Namespaces::Own);
    let seen = "cat /sys/devices/system/cpu/online; grep -c ^processor /proc/cpuinfo; grep -c '^cpu[0-9]' /proc/stat; nproc; sed -n 's/Cpus_allowed_list:.//p' /proc/self/status";
    assert_eq!(container.sh(seen), "1\n1\n1\n1\n1\n");
    container.groups().limit_cpus("0-1");
    assert_eq!(container.sh(seen), "0-1\n2\n2\n2\n0-1\n");
}

#[test]
fn each_way_to_count_processors_agrees() {
    require!(
        "each_way_to_count_processors_agrees",
        fuse(),
        v1_controllers(),
        installed("lscpu"),
        installed("getconf")
    );
    let last = std::thread::available_parallelism().map_or(1, usize::from) - 1;
    let cpus: &'static str = last.to_string().leak();
    let shim = Shim::start(&no_args());
    let limits = Limits { cpus: Some(cpus), ..Limits::default() };
    let container = Container::start(shim.path(), &limits, Namespaces::Own);
    let dir = shim.file("sys/devices/system/cpu");
    container.sh(&format!("mount --bind {} /sys/devices/system/cpu", dir.display()));
    let counts = container.sh("nproc; nproc --all; getconf _NPROCESSORS_CONF; getconf _NPROCESSORS_ONLN; ls -d /sys/devices/system/cpu/cpu[0-9]* | wc -l; lscpu | sed -n 's/^CPU(s): *//p'");
    assert_eq!(counts, "1\n1\n1\n1\n1\n1\n");
    let lists = container.sh("cd /sys/devices/system/cpu; cat online present possible; cat cpu*/topology/core_siblings_list; lscpu | sed -n 's/^On-line CPU(s) list: *//p'");
    assert_eq!(lists, format!("{cpus}\n").repeat(5));
    // The number is the kernel's, so a thread can be bound to it.
    container.sh(&format!("taskset -c {cpus} true"));
    let names = container.sh("ls /sys/devices/system/cpu");
    let mut once: Vec<&str> = names.lines().collect();
    once.dedup();
    assert_eq!(once.len(), names.lines().count(), "each name once: {names}");
}

#[test]
fn pressure_is_the_cgroup_s_own() {
    let has = || match Path::new(UNIFIED).join("cgroup.procs").exists()
        && Path::new("/proc/pressure/cpu").exists()
    {
        true => Ok(()),
        false => Err(Missing::Kernel("no unified hierarchy with pressure beside v1".into())),
    };
    require!("pressure_is_the_cgroup_s_own", fuse(), v1_controllers(), has());
    let shim = Shim::start(&no_args());
    let container = Container::start(shim.path(), &Limits::default(), Namespaces::Own);
    let total = |text: &str| {
        let word = text.split_ascii_whitespace().find_map(|w| w.strip_prefix("total="));
        word.and_then(|w| w.parse::<u64>().ok()).expect("a total")
    };
    for resource in ["cpu", "memory", "io"] {
        let ours =
            container.sh(&format!("cat {}", shim.file("proc/pressure").join(resource).display()));
        let host = std::fs::read_to_string(format!("/proc/pressure/{resource}")).unwrap();
        assert!(ours.starts_with("some avg10="), "{ours}");
        assert!(total(&ours) < total(&host) || total(&host) == 0, "{resource}: {ours}{host}");
    }
}

#[test]
fn the_machine_s_figures_are_never_shown_in_silence() {
    require!("the_machine_s_figures_are_never_shown_in_silence", fuse(), v1_controllers());
    // The container has no cgroup of the controller: the machine's file stands in, and is told so.
    let shim = Shim::start(&no_args());
    let container = Container::start_bare(&Limits::default(), Namespaces::Own);
    container.sh(&format!("cat {}", shim.file("proc/diskstats").display()));
    drop(container);
    let said = shim.end();
    assert_eq!(
        said.matches("proc/diskstats: a reader is shown the machine's own").count(),
        1,
        "{said}"
    );
}

#[test]
fn uptime_is_the_container_s_age() {
    require!("uptime_is_the_container_s_age", fuse(), v1_controllers(), installed("uptime"));
    let shim = Shim::start(&no_args());
    let container = Container::start(shim.path(), &Limits::default(), Namespaces::Own);
    let age: f64 = container.sh("cut -d' ' -f1 /proc/uptime").trim().parse().unwrap();
    let host: f64 = std::fs::read_to_string("/proc/uptime")
        .unwrap()
        .split(' ')
        .next()
        .unwrap()
        .parse()
        .unwrap();
    let start = parse::pid_stat(
        &std::fs::read_to_string(format!("/proc/{}/stat", container.init())).unwrap(),
    );
    let started = start.unwrap().start as f64 / 100.0;
    assert!(age > 0.0 && age <= host - started + 0.02, "{age} of {host} - {started}");
    assert!(container.sh("uptime").contains("up 0 min"));
}

#[test]
fn in_a_time_namespace_uptime_btime_and_ps_agree() {
    require!(
        "in_a_time_namespace_uptime_btime_and_ps_agree",
        fuse(),
        v1_controllers(),
        installed("ps")
    );
    let shared = SharedDir::new();
    let mut container = Container::start_bare(&Limits::default(), Namespaces::OwnTime);
    // The kernel applies the reader's offset by itself.
    let kernel = container.sh("grep btime /proc/stat; cat /proc/uptime; ps -o etimes= -p 1");
    let init = container.init().to_string();
    for args in [vec!["--init-pid", &init], vec![]] {
        let shim = Shim::start_in(&shared, &args);
        container.bind(shim.path());
        let ours = container.sh("grep btime /proc/stat; cat /proc/uptime; ps -o etimes= -p 1");
        let number = |text: &str, line: usize, word: usize| -> f64 {
            let line = text.lines().nth(line).unwrap_or_default();
            let word = line.split_ascii_whitespace().nth(word).unwrap_or_default();
            word.parse().unwrap_or_else(|_| panic!("a number in {text}"))
        };
        assert!((number(&kernel, 0, 1) - number(&ours, 0, 1)).abs() <= 1.0, "{kernel}{ours}");
        let (uptime, elapsed) = (number(&ours, 1, 0), number(&ours, 2, 0));
        assert!(uptime >= number(&kernel, 1, 0) && uptime < 1000.0, "{kernel}{ours}");
        assert!(elapsed <= uptime + 1.0, "{ours}");
        container.sh("umount -l /proc/stat /proc/uptime");
    }
}

#[test]
fn a_host_pid_container_is_known_by_its_cgroup() {
    require!("a_host_pid_container_is_known_by_its_cgroup", fuse(), v1_controllers());
    let shim = Shim::start(&no_args());
    let limits = Limits { memory: Some(128 * MIB), quota: Some(50_000), ..Limits::default() };
    let container = Container::start(shim.path(), &limits, Namespaces::HostPid);
    assert_eq!(kib(&container.sh("cat /proc/meminfo"), "MemTotal"), 128 * 1024);
    assert_eq!(container.sh("grep -c ^processor /proc/cpuinfo").trim(), "1");
    let age: f64 = container.sh("cut -d' ' -f1 /proc/uptime").trim().parse().unwrap();
    let host: f64 = std::fs::read_to_string("/proc/uptime")
        .unwrap()
        .split(' ')
        .next()
        .unwrap()
        .parse()
        .unwrap();
    assert!(age < host, "{age} of {host}");
}

#[test]
fn a_nested_pid_namespace_has_the_limits_around_it() {
    require!("a_nested_pid_namespace_has_the_limits_around_it", fuse(), v1_controllers());
    let shim = Shim::start(&no_args());
    let limits = Limits { memory: Some(128 * MIB), ..Limits::default() };
    let container = Container::start(shim.path(), &limits, Namespaces::Own);
    let meminfo = container.sh("unshare -p -f cat /proc/meminfo");
    assert_eq!(kib(&meminfo, "MemTotal"), 128 * 1024);
}

#[test]
fn one_container_s_connection_shows_it_to_whoever_reads() {
    require!("one_container_s_connection_shows_it_to_whoever_reads", fuse(), v1_controllers());
    let limits = Limits { memory: Some(96 * MIB), quota: Some(50_000), ..Limits::default() };
    let container = Container::start_bare(&limits, Namespaces::Own);
    let shim = Shim::start(&["--init-pid", &container.init().to_string()]);
    assert_eq!(kib(&shim.read("proc/meminfo"), "MemTotal"), 96 * 1024);
    assert_eq!(shim.read("sys/devices/system/cpu/online"), "0\n");
    // Who reads when it has ended is never told the machine's figures.
    drop(container);
    assert!(std::fs::read_to_string(shim.file("proc/meminfo")).is_err());
}

#[test]
fn declared_limits_are_shown_without_a_cgroup() {
    require!("declared_limits_are_shown_without_a_cgroup", fuse());
    let script = "x=$(head -c 33554432 /dev/zero | tr '\\0' x); echo up; read line; : $x";
    let mut child = std::process::Command::new("unshare")
        .args(["-p", "-f", "--kill-child", "--mount-proc", "sh", "-c", script])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("start a namespace");
    let mut up = [0; 3];
    std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut up).expect("it is up");
    let children = format!("/proc/{0}/task/{0}/children", child.id());
    let init = std::fs::read_to_string(children).unwrap().trim().to_owned();
    let args = ["--init-pid", &init, "--declared-memory", "64M", "--declared-cpus", "0.5"];
    let shim = Shim::start(&args);
    let meminfo = shim.read("proc/meminfo");
    let (stat, online) = (shim.read("proc/stat"), shim.read("sys/devices/system/cpu/online"));
    drop(child.stdin.take());
    child.wait().expect("the namespace ends");
    assert_eq!(kib(&meminfo, "MemTotal"), 64 * 1024);
    assert!(kib(&meminfo, "MemFree") <= 32 * 1024, "{meminfo}");
    assert!(kib(&meminfo, "AnonPages") >= 32 * 1024, "{meminfo}");
    assert_eq!(online.trim(), "0");
    assert_eq!(stat.lines().filter(|l| l.starts_with("cpu")).count(), 2);
}

#[test]
fn load_counts_the_container_s_own_threads() {
    require!("load_counts_the_container_s_own_threads", fuse(), v1_controllers());
    let shim = Shim::start(&no_args());
    let mut container = Container::start(shim.path(), &Limits::default(), Namespaces::Own);
    container.spawn("while :; do :; done");
    // The first sample is taken within one period after the container began.
    let script = "while :; do read a b c d e < /proc/loadavg; [ $a != 0.00 ] && break; sleep 0.2; done; echo $d $e";
    let seen = container.sh(script);
    let (tasks, last) = seen.trim().split_once(' ').expect("two words");
    let (running, threads) = tasks.split_once('/').expect("running/threads");
    assert!(running.parse::<u64>().unwrap() >= 1);
    assert!(threads.parse::<u64>().unwrap() <= 20, "{seen}");
    let last: u64 = last.parse().unwrap();
    let newest = container.sh("sh -c 'echo $$'").trim().parse::<u64>().unwrap();
    assert!(last <= newest, "a number of its own namespace: {last}, {newest}");
}

#[test]
fn poll_returns_at_once() {
    require!("poll_returns_at_once", fuse());
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    use std::os::fd::AsFd;
    let shim = Shim::start(&no_args());
    let file = std::fs::File::open(shim.file("proc/swaps")).unwrap();
    let mut fds = [PollFd::new(file.as_fd(), PollFlags::POLLIN | PollFlags::POLLPRI)];
    assert_eq!(poll(&mut fds, PollTimeout::NONE), Ok(1));
}

#[test]
fn files_are_read_only_and_directories_list_each_name_once() {
    require!("files_are_read_only_and_directories_list_each_name_once", fuse());
    let shim = Shim::start(&no_args());
    let open = std::fs::File::options().write(true).open(shim.file("proc/meminfo"));
    assert!(open.is_err());
    assert!(std::fs::write(shim.file("proc/new"), "x").is_err());
    assert!(std::fs::read(shim.file("proc/absent")).is_err());
    let mut names: Vec<_> = std::fs::read_dir(shim.file("sys/devices/system/cpu"))
        .unwrap()
        .map(|e| e.unwrap().file_name())
        .collect();
    let count = names.len();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), count);
}

#[test]
fn a_reader_outside_any_container_sees_the_machine() {
    require!("a_reader_outside_any_container_sees_the_machine", fuse());
    let shim = Shim::start(&no_args());
    let host = std::fs::read_to_string("/proc/meminfo").unwrap();
    assert_eq!(kib(&shim.read("proc/meminfo"), "MemTotal"), kib(&host, "MemTotal"));
    let names =
        |t: &str| t.lines().map(|l| l.split(' ').next().map(String::from)).collect::<Vec<_>>();
    let stat = std::fs::read_to_string("/proc/stat").unwrap();
    assert_eq!(names(&shim.read("proc/stat")).len(), names(&stat).len());
}
