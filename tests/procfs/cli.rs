//! The command as people start it.

use std::path::Path;
use std::process::{Command, Output};

use support::privilege::{Missing, root};
use support::require;

use crate::shim::PROGRAM;

fn run(args: &[&str]) -> Output {
    Command::new(PROGRAM).args(args).output().expect("run the program")
}

fn said(out: &Output) -> String {
    String::from_utf8_lossy(&out.stderr).into_owned()
}

#[test]
fn wrong_usage_is_one_line_that_names_the_option() {
    for (args, named) in [
        (&["--no-such-option", "/m"][..], "--no-such-option"),
        (&["--enable-cgroup", "/m"], "--enable-cgroup"),
        (&["--enable-psi-poll", "/m"], "--enable-psi-poll"),
        (&["-o", "nonsense", "/m"], "nonsense"),
        (&["--init-pid", "x", "/m"], "--init-pid"),
        (&["--init-pid", "1", "--declared-memory", "much", "/m"], "--declared-memory"),
        (&["--init-pid", "1", "--declared-cpus", "few", "/m"], "--declared-cpus"),
        (&[], "MOUNTPOINT"),
    ] {
        let out = run(args);
        assert_eq!(out.status.code(), Some(2), "{args:?}");
        assert_eq!(said(&out).lines().count(), 1, "{}", said(&out));
        assert!(said(&out).contains(named), "{}", said(&out));
    }
}

#[test]
fn what_is_missing_is_named_and_ends_with_1() {
    let out = run(&["-f", "/no/such/directory"]);
    assert_eq!(out.status.code(), Some(1));
    assert!(said(&out).contains("/no/such/directory"), "{}", said(&out));
    let out = run(&["-f", "--init-pid", "4194305", "/tmp"]);
    assert_eq!(out.status.code(), Some(1));
    assert!(said(&out).contains("--init-pid 4194305"), "{}", said(&out));
}

#[test]
fn without_any_cgroup_it_does_not_start() {
    require!("without_any_cgroup_it_does_not_start", root());
    let script = format!("umount -R /sys/fs/cgroup && exec {PROGRAM} -f /mnt");
    let out = Command::new("unshare").args(["-m", "sh", "-c", &script]).output().expect("run");
    assert_eq!(out.status.code(), Some(1), "{}", said(&out));
    assert!(said(&out).contains("no cgroup hierarchy is mounted"), "{}", said(&out));
}

#[test]
fn help_and_version_are_asked_for_and_fine() {
    let help = run(&["--help"]);
    assert_eq!(help.status.code(), Some(0));
    let text = String::from_utf8_lossy(&help.stdout).into_owned();
    assert!(text.contains("Exit codes"), "{text}");
    assert_eq!(run(&["--version"]).status.code(), Some(0));
    assert_eq!(run(&["-v"]).status.code(), Some(0));
}

#[test]
fn detached_it_returns_when_the_mount_is_live() {
    let fuse = || match Path::new("/dev/fuse").exists() {
        true => root(),
        false => Err(Missing::Setup("there is no /dev/fuse".into())),
    };
    require!("detached_it_returns_when_the_mount_is_live", fuse());
    let dir = tempfile::tempdir().expect("a directory");
    let pidfile = dir.path().join("pid");
    let mount = dir.path().join("mount");
    std::fs::create_dir(&mount).expect("make the mount point");
    let (pid, at) = (pidfile.to_str().expect("a path"), mount.to_str().expect("a path"));
    let out = run(&["-p", pid, at]);
    assert!(out.status.success(), "{}", said(&out));
    let live = std::fs::read_to_string(mount.join("proc/meminfo"));
    let again = run(&["-f", "-p", pid, at]);
    let number: i32 = std::fs::read_to_string(&pidfile).unwrap().trim().parse().unwrap();
    let kind = Command::new("findmnt").args(["-n", "-o", "FSTYPE", at]).output();
    nix::mount::umount2(&mount, nix::mount::MntFlags::MNT_DETACH).expect("unmount");
    assert!(live.expect("a live mount").contains("MemTotal"));
    assert_eq!(again.status.code(), Some(1), "the pid file is locked");
    assert!(said(&again).contains("--pidfile"), "{}", said(&again));
    assert!(number > 1);
    assert_eq!(kind.expect("findmnt").stdout, b"fuse.procfs-shim\n");
}
