//! Processors of containers in real cgroups: count, numbers, time.

use std::path::Path;

use support::privilege::{Missing, installed};
use support::require;

use crate::container::{Container, Limits, Namespaces, Time, UNIFIED, v1_controllers};
use crate::seen::{cpu_line, fuse, no_args};
use crate::shim::Shim;

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
    // The readings are taken when the spinner has used so much time, not after some seconds; each
    // between two looks at the clock, as on a busy machine anything may happen in between.
    let spent = |user: u64| {
        let script = format!(
            "while [ $(awk '/^cpu /{{print $2 + $3}}' /proc/stat) -lt {user} ]; do sleep 0.1; done; cut -d' ' -f1 /proc/uptime; head -n 1 /proc/stat; cut -d' ' -f1 /proc/uptime"
        );
        let said = container.sh(&script);
        let lines: Vec<&str> = said.lines().collect();
        let clock = |n: usize| lines[n].parse::<f64>().expect("seconds");
        (clock(0), cpu_line(lines[1]), clock(2))
    };
    let (first_from, first, first_to) = spent(50);
    let (last_from, last, last_to) = spent(200);
    let busy = last[0] + last[1] + last[2] - first[0] - first[1] - first[2];
    assert!(busy >= 100, "{first:?} {last:?}");
    // All its time is half of the clock's, used or not. Within a period of 100 ms it may be ahead.
    let all = (busy + last[3] - first[3]) as f64;
    let (least, most) = (50.0 * (last_from - first_to), 50.0 * (last_to - first_from));
    assert!(all >= least - 10.0 && all <= most + 10.0, "{all} ticks, not {least} to {most}");
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
fn on_a_hybrid_machine_time_is_counted_in_the_unified_hierarchy() {
    let has = || match Path::new(UNIFIED).join("cgroup.procs").exists() {
        true => Ok(()),
        false => Err(Missing::Kernel("no unified hierarchy beside v1".into())),
    };
    require!(
        "on_a_hybrid_machine_time_is_counted_in_the_unified_hierarchy",
        fuse(),
        v1_controllers(),
        has()
    );
    let shim = Shim::start(&no_args());
    let limits = Limits { quota: Some(50_000), time: Time::Unified, ..Limits::default() };
    let mut container = Container::start(shim.path(), &limits, Namespaces::Own);
    let before = cpu_line(&container.sh("cat /proc/stat"));
    container.spawn("while :; do :; done");
    let script = format!(
        "while [ $(awk '/^cpu /{{print $2 + $3}}' /proc/stat) -lt {} ]; do sleep 0.1; done; cat /proc/stat",
        before[0] + before[1] + 60
    );
    let after = cpu_line(&container.sh(&script));
    assert!(after.iter().zip(&before).all(|(a, b)| a >= b), "{before:?} {after:?}");
}
