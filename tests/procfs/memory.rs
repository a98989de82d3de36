//! Memory of containers in real cgroups, as `free` and /proc/meminfo show it.

use support::privilege::installed;
use support::require;

use crate::container::{Container, Limits, Namespaces, v1_controllers};
use crate::seen::{MIB, fuse, kib, no_args};
use crate::shim::Shim;

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
    // The kernel charges and uncharges in batches, so that a cgroup's usage may be off by some pages
    // for each processor; the buffers of the shell's start are gone by then, too.
    assert!(eaten >= 63 * 1024, "{eaten} KiB less free");
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
