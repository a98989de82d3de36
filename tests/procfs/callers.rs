//! Who asks: host pids, nested and shared namespaces, one connection a container.

use std::path::Path;

use support::privilege::Missing;
use support::require;

use crate::container::{Cgroups, Container, Limits, Namespaces, UNIFIED, v1_controllers};
use crate::seen::{MIB, fuse, kib, no_args};
use crate::shim::Shim;

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
fn who_comes_in_from_outside_sees_the_container() {
    require!("who_comes_in_from_outside_sees_the_container", fuse(), v1_controllers());
    let shim = Shim::start(&no_args());
    let limits = Limits { memory: Some(128 * MIB), ..Limits::default() };
    let container = Container::start(shim.path(), &limits, Namespaces::Own);
    // In the namespaces, but in this test's own cgroups, as an administrator's shell is.
    let init = container.init().to_string();
    let out = std::process::Command::new("nsenter")
        .args(["-t", &init, "-m", "-p", "cat", "/proc/meminfo"])
        .output()
        .expect("enter the container");
    assert_eq!(kib(&String::from_utf8_lossy(&out.stdout), "MemTotal"), 128 * 1024);
}

#[test]
fn of_two_containers_in_one_pid_namespace_each_has_its_own_limits() {
    require!(
        "of_two_containers_in_one_pid_namespace_each_has_its_own_limits",
        fuse(),
        v1_controllers()
    );
    let shim = Shim::start(&no_args());
    let pause = Limits { memory: Some(64 * MIB), ..Limits::default() };
    let pause = Container::start(shim.path(), &pause, Namespaces::Own);
    let limits = Limits { memory: Some(128 * MIB), ..Limits::default() };
    let groups = Cgroups::new(&limits);
    // Its own cgroups and mounts, but the pid namespace of the first.
    let script = format!(
        "{}exec nsenter -t {} -p unshare -m cat {}",
        groups.enter(),
        pause.init(),
        shim.file("proc/meminfo").display()
    );
    let out = std::process::Command::new("sh").args(["-c", &script]).output().expect("run");
    assert_eq!(kib(&String::from_utf8_lossy(&out.stdout), "MemTotal"), 128 * 1024);
    assert_eq!(kib(&pause.sh("cat /proc/meminfo"), "MemTotal"), 64 * 1024);
}

#[test]
fn readers_of_many_containers_are_told_apart() {
    require!("readers_of_many_containers_are_told_apart", fuse(), v1_controllers());
    let shim = Shim::start(&no_args());
    let start = |n: u64| {
        let limits = Limits { memory: Some(n * 32 * MIB), ..Limits::default() };
        (n, Container::start(shim.path(), &limits, Namespaces::Own))
    };
    let containers: Vec<_> = (1..=6).map(start).collect();
    let script = "i=0; while [ $i -lt 50 ]; do head -n 1 /proc/meminfo; i=$((i+1)); done";
    std::thread::scope(|scope| {
        for (n, container) in &containers {
            scope.spawn(move || {
                let said = container.sh(script);
                let expected = format!("MemTotal:       {:>8} kB", n * 32 * 1024);
                assert_eq!(said.lines().count(), 50);
                assert!(said.lines().all(|l| l == expected), "{said}");
            });
        }
    });
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
    // Who reads while it ends, or when it has ended, is told the last figures or an error, but never
    // the machine's.
    let is_machine = || {
        let text = std::fs::read_to_string(shim.file("proc/meminfo"));
        text.is_ok_and(|t| kib(&t, "MemTotal") != 96 * 1024)
    };
    std::thread::scope(|scope| {
        let end = scope.spawn(move || drop(container));
        while !end.is_finished() {
            assert!(!is_machine());
        }
    });
    assert!(!is_machine());
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
