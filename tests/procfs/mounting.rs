//! The mount itself: open files, poll, permissions, descriptors.

use support::require;

use crate::seen::{fuse, no_args};
use crate::shim::{PROGRAM, Shim};

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
fn files_bound_over_the_daemon_s_own_proc_do_not_stop_it() {
    require!("files_bound_over_the_daemon_s_own_proc_do_not_stop_it", fuse());
    let dir = tempfile::tempdir().expect("a directory");
    let script = format!(
        "cd {} && {} . && for f in meminfo stat uptime loadavg cpuinfo swaps; do mount --bind proc/$f /proc/$f; done
         cat /proc/meminfo /proc/stat /proc/uptime /proc/loadavg /proc/cpuinfo /proc/swaps | wc -l
         umount -l /proc/meminfo /proc/stat /proc/uptime /proc/loadavg /proc/cpuinfo /proc/swaps; cd /; umount {}",
        dir.path().display(),
        PROGRAM,
        dir.path().display(),
    );
    let out = std::process::Command::new("unshare").args(["-m", "sh", "-ec", &script]).output();
    let out = out.expect("run in a mount namespace");
    let lines = String::from_utf8_lossy(&out.stdout).trim().parse::<u64>();
    assert!(lines.is_ok_and(|n| n > 60), "{out:?}");
}

#[test]
fn a_descriptor_that_is_mounted_already_is_served() {
    require!("a_descriptor_that_is_mounted_already_is_served", fuse());
    let dir = tempfile::tempdir().expect("a directory");
    let at = dir.path().display();
    // `--ready-fd 3` is the pipe to `head`, which returns at the first byte.
    let script = format!(
        "exec 4<>/dev/fuse
         mount -i -t fuse.procfs-shim -o fd=4,rootmode=40000,user_id=0,group_id=0,allow_other shim {at}
         {{ {PROGRAM} --ready-fd 3 /dev/fd/4 3>&1 >/dev/null & }} | head -c 1 >/dev/null
         exec 4>&-
         head -n 1 {at}/proc/meminfo; umount {at}"
    );
    let out = std::process::Command::new("sh").args(["-ec", &script]).output().expect("run");
    assert!(String::from_utf8_lossy(&out.stdout).starts_with("MemTotal:"), "{out:?}");
}

#[test]
fn readers_by_sendfile_get_the_whole_content_and_no_more() {
    require!("readers_by_sendfile_get_the_whole_content", fuse());
    use nix::sys::sendfile::sendfile;
    use std::io::{Read, Seek};
    let shim = Shim::start(&no_args());
    // As busybox's cat does, again and again, with content of changing length.
    for name in ["proc/uptime", "proc/loadavg", "proc/meminfo", "proc/stat"] {
        for _ in 0..50 {
            let file = std::fs::File::open(shim.file(name)).unwrap();
            let mut copy = tempfile::tempfile().unwrap();
            while sendfile(&copy, &file, None, 1 << 20).unwrap() > 0 {}
            copy.rewind().unwrap();
            let mut text = String::new();
            copy.read_to_string(&mut text).unwrap();
            assert!(text.ends_with('\n') && !text.contains('\0'), "{name}: {text:?}");
        }
    }
}

#[test]
fn a_storm_of_strange_requests_does_not_stop_the_daemon() {
    require!("a_storm_of_strange_requests_does_not_stop_the_daemon", fuse());
    let shim = Shim::start(&no_args());
    // A warning for each would fill the pipe that is the daemon's standard error here.
    let file = std::fs::File::open(shim.file("proc/stat")).unwrap();
    for _ in 0..5000 {
        assert_eq!(nix::unistd::isatty(&file), Ok(false));
    }
    assert!(std::fs::read_to_string(shim.file("proc/uptime")).is_ok_and(|t| t.ends_with('\n')));
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
