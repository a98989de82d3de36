//! A runner that is killed leaves no process and no mount; the next start clears the rest.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::fixture::Host;
use crate::for_each_user;

for_each_user! {
    nothing_survives_a_killed_runner: |host| {
        let mut child = host.command()
            .args(["--memory", "64M", "--rm", "--name", "doomed", "--", "sh", "-c"])
            .arg("touch /changed; sleep 1000 & echo up; sleep 1000")
            .stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut out = child.stdout.take().unwrap();
        let mut up = [0u8; 3];
        out.read_exact(&mut up).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        // The pipe ends when the last process of the container has ended.
        assert_eq!(out.read(&mut up).unwrap(), 0);
        // The container's first process and the daemons are orphans now, and ours to wait for.
        reap_orphans();
        assert!(host.state().join("names/doomed").is_symlink());
        host.ok(["--", "true"]);
        host.assert_clean();
    };

    a_start_that_is_interrupted_anywhere_leaves_nothing: |host| {
        for lines in 0..12 {
            // A step in three: from before the builder to behind the start of the program.
            let (mut child, _told) = start_and_read(host, lines * 3);
            signal(&child, Signal::SIGINT);
            assert_eq!(child.wait().unwrap().code(), Some(130), "after {lines} lines");
            host.assert_clean();
        }
    };

    a_start_that_is_killed_anywhere_is_cleared_by_the_next: |host| {
        for lines in 0..12 {
            let (mut child, _told) = start_and_read(host, lines * 3);
            signal(&child, Signal::SIGKILL);
            child.wait().unwrap();
            reap_orphans();
            host.ok(["--", "true"]);
            host.assert_clean();
        }
    };

    whoever_is_killed_at_whatever_moment_nothing_is_left: |host| {
        // Some tries on each run; set PALIMPSEST_KILLS for more.
        let tries = std::env::var("PALIMPSEST_KILLS").ok().and_then(|n| n.parse().ok()).unwrap_or(4);
        for n in 0..tries {
            let name = format!("victim{n}");
            let script = "while :; do echo x >> /mark; sleep 0.01; done";
            host.does("run", ["-d", "--name", &name, "--memory", "64M", "--", "sh", "-c", script]);
            let told = host.does("inspect", ["-f", "{{.State.ConmonPid}} {{.State.Pid}}", &name]);
            let pids: Vec<i32> = told.split_whitespace().map(|p| p.parse().unwrap()).collect();
            std::thread::sleep(std::time::Duration::from_millis(u64::from(std::process::id()) * n % 97));
            match n % 4 {
                0 => kill(Pid::from_raw(pids[0]), Signal::SIGKILL).unwrap(),
                1 => kill(Pid::from_raw(pids[1]), Signal::SIGKILL).unwrap(),
                2 => kill_daemon(pids[0] as u32, "unionfs"),
                // It stands on its figures no more than that: it ends when it is asked to.
                _ => {
                    kill_daemon(pids[0] as u32, "procfs-shim");
                    host.does("stop", ["-t", "0", &name]);
                }
            }
            let state = || host.does("inspect", ["-f", "{{.State.Status}}", &name]);
            host.until(|| state() == "exited\n");
            // The changes are whole, and it starts again on them.
            host.does("start", [&name]);
            host.does("exec", [&name, "sh", "-c", "test -s /mark && ! grep -v '^x$' /mark"]);
            host.does("rm", ["-f", &name]);
        }
    };

    a_container_ends_with_the_file_system_it_stands_on: |host| {
        let mut child = host.command().args(["--", "sh", "-c", "echo up; exec sleep 1000"])
            .stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut up = [0u8; 3];
        child.stdout.as_mut().unwrap().read_exact(&mut up).unwrap();
        kill_daemon(child.id(), "unionfs");
        let out = child.wait_with_output().unwrap();
        assert_eq!(out.status.code(), Some(125));
        assert!(String::from_utf8_lossy(&out.stderr).contains("unionfs"));
    };

    a_runner_that_is_asked_to_end_ends_the_container: |host| {
        // A program that has no handler as process 1 would ignore the signal; ours passes it on.
        let mut child = host.command().args(["--", "sh", "-c", "echo up; exec sleep 1000"])
            .stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        let mut up = [0u8; 3];
        child.stdout.as_mut().unwrap().read_exact(&mut up).unwrap();
        signal(&child, Signal::SIGINT);
        assert_eq!(child.wait().unwrap().code(), Some(130));
    };
}

/// Starts a container, and returns once so many steps of the start were told. Where more would be told is
/// returned too, and has to stay open: the program tells something, and would be ended by SIGPIPE.
fn start_and_read(host: &Host, steps: usize) -> (Child, impl Sized) {
    let mut child = host
        .command()
        .args(["--trace-start", "--", "sh", "-c", "echo up >&2; exec sleep 1000"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // The first step is told when signals are taken.
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
    let told = lines.by_ref().take(steps + 1).take_while(|line| line != "up").count();
    assert!(told > 0);
    (child, lines)
}

fn signal(child: &Child, signal: Signal) {
    kill(Pid::from_raw(child.id() as i32), signal).unwrap();
}

/// Kills the child of a runner that goes by this name.
pub(crate) fn kill_daemon(runner: u32, name: &str) {
    kill(Pid::from_raw(daemon(runner, name)), Signal::SIGKILL).unwrap();
}

/// Returns the child of a runner that goes by this name.
pub(crate) fn daemon(runner: u32, name: &str) -> i32 {
    let list = format!("/proc/{runner}/task/{runner}/children");
    let children = std::fs::read_to_string(list).unwrap();
    let daemon = children.split_whitespace().find(|pid| {
        let comm = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        comm.trim_end() == name
    });
    daemon.expect("the daemon").parse().unwrap()
}

/// Waits for all orphans that were handed to us; each is being killed.
pub(crate) fn reap_orphans() {
    loop {
        match waitpid(None, Some(WaitPidFlag::empty())) {
            Ok(WaitStatus::StillAlive) => {}
            Ok(_) => {}
            Err(_) => return,
        }
    }
}
