//! Without privileges: through fusermount3, in a user namespace, and with limits that no cgroup
//! enforces.

use std::process::Output;

use procfs_shim::host::parse;
use support::privilege::{Unprivileged, installed};
use support::process::run;
use support::{Scratch, require};

use crate::shim::PROGRAM;

/// Runs a script as the user in a directory of its own, which holds the program as `shim` and a mount
/// point `m`.
fn script(user: &Unprivileged, before: &[&str], text: &str) -> Output {
    let scratch = Scratch::new();
    scratch.dir("m");
    support::process::copy_program(PROGRAM.as_ref(), &scratch.path().join("shim"));
    user.own(scratch.path());
    let mut command = match before {
        [] => user.command("sh"),
        [first, rest @ ..] => {
            let mut command = user.command(first);
            command.args(rest).arg("sh");
            command
        }
    };
    run(command.args(["-euc", text]).current_dir(scratch.path()))
}

fn said(out: &Output) -> String {
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    assert!(out.status.success(), "{text}{}", String::from_utf8_lossy(&out.stderr));
    text
}

#[test]
fn a_user_mounts_by_the_helper() {
    let test = "a_user_mounts_by_the_helper";
    let user = Unprivileged::find();
    require!(test, user.clone().map(drop), installed("fusermount3"));
    let user = user.expect("found above");
    let work = "./shim m; cat m/proc/meminfo; findmnt -n -o FSTYPE m; fusermount3 -u m";
    let text = said(&script(&user, &[], work));
    assert!(text.starts_with("MemTotal:"), "{text}");
    assert!(text.ends_with("fuse.procfs-shim\n"), "{text}");
}

#[test]
fn a_user_namespace_is_enough_to_mount() {
    let test = "a_user_namespace_is_enough_to_mount";
    let user = Unprivileged::find();
    require!(test, user.clone().map(drop), installed("unshare"));
    let user = user.expect("found above");
    let enter = ["unshare", "-Ur", "-m", "-p", "-f", "--kill-child", "--mount-proc"];
    let work = "./shim m; mount --bind m/proc/uptime /proc/uptime; cat /proc/uptime; umount -l m";
    let text = said(&script(&user, &enter, work));
    let age: f64 = text.split(' ').next().expect("a word").parse().expect("seconds");
    assert!(age < 60.0, "the age of the namespace: {text}");
}

#[test]
fn without_a_cgroup_the_declared_limits_and_the_processes_count() {
    let test = "without_a_cgroup_the_declared_limits_and_the_processes_count";
    let user = Unprivileged::find();
    require!(test, user.clone().map(drop), installed("unshare"), installed("fusermount3"));
    let user = user.expect("found above");
    let work = "
        mkfifo up down
        unshare -Ur -m -p -f --kill-child --mount-proc sh -c '
            x=$(head -c 33554432 /dev/zero | tr \"\\0\" x); echo > up; read line < down; : $x' &
        outer=$!
        read line < up
        init=$(tr -d ' ' < /proc/$outer/task/$outer/children)
        ./shim --init-pid $init --declared-memory 64M --declared-cpus 0.5 m
        cat m/proc/meminfo
        head -n 2 m/proc/stat >&2; cat m/sys/devices/system/cpu/online >&2
        fusermount3 -u m
        echo > down
        wait";
    let out = script(&user, &[], work);
    let meminfo = parse::meminfo(&said(&out)).expect("a meminfo");
    let mib = |name| meminfo.bytes(name) >> 20;
    assert_eq!(mib("MemTotal"), 64);
    assert!((30..=40).contains(&mib("AnonPages")), "{} MiB", mib("AnonPages"));
    assert!(mib("MemFree") < 33, "{} MiB", mib("MemFree"));
    let rest = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(rest.contains("cpu0 ") && rest.ends_with("\n0\n"), "{rest}");
}
