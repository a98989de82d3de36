//! containerd with our runtime, by its shim for runc.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use support::privilege::{installed, skip};
use support::process::run;

use crate::fixture::{Host, text};
use crate::oci_fixture::{Runtime, busybox, cgroup};

/// containerd, with a state of its own.
struct Containerd<'a> {
    runtime: Runtime<'a>,
    dir: PathBuf,
    daemon: Child,
}

impl<'a> Containerd<'a> {
    fn start(host: &'a Host) -> Containerd<'a> {
        let runtime = Runtime::new(host);
        let dir = host.home_dir("containerd");
        let at = dir.display();
        let config = format!(
            "version = 2\nroot = \"{at}/root\"\nstate = \"{at}/state\"\n\
             disabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n[grpc]\naddress = \"{at}/sock\"\n"
        );
        std::fs::write(dir.join("config.toml"), config).expect("write containerd's configuration");
        let log = std::fs::File::create(dir.join("log")).expect("create a log");
        let mut command = Command::new("containerd");
        command.arg("-c").arg(dir.join("config.toml")).stdin(Stdio::null()).stdout(Stdio::null());
        let daemon = command.stderr(log).spawn().expect("start containerd");
        let containerd = Containerd { runtime, dir, daemon };
        host.until(|| run(&mut containerd.ctr(&["version"])).status.success());
        containerd
    }

    fn ctr(&self, args: &[&str]) -> Command {
        let mut command = Command::new("ctr");
        command.arg("-a").arg(self.dir.join("sock")).args(args);
        command
    }

    /// Returns the command for a container of the root directory that runs `program`.
    fn container(&self, options: &[&str], id: &str, program: &[&str]) -> Command {
        let path = |p: &Path| p.to_str().expect("a plain path").to_owned();
        let mut command = self.ctr(&["run"]);
        command.args(options).args(["--env", "PATH=/bin", "--cgroup"]);
        command.arg(cgroup(id)).args(["--runc-binary"]);
        command.arg(path(self.runtime.program())).arg("--runc-root").arg(self.runtime.root());
        command.arg("--rootfs").arg(path(&self.runtime.rootfs())).arg(id).args(program);
        command
    }

    #[track_caller]
    fn ok(&self, mut command: Command) -> String {
        let out = run(&mut command);
        assert!(out.status.success(), "{command:?}: {}: {}", out.status, text(&out.stderr));
        text(&out.stdout)
    }
}

impl Drop for Containerd<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.daemon.kill().expect("end containerd");
            self.daemon.wait().expect("wait for containerd");
        }
    }
}

#[test]
fn containerd_s_tasks_live_by_our_runtime() {
    let test = "oci_containerd::containerd_s_tasks_live_by_our_runtime";
    support::require!(test, busybox(), installed("containerd"), installed("ctr"));
    let host = match Host::root() {
        Ok(host) => host,
        Err(missing) => return skip(test, &missing),
    };
    let mut containerd = Containerd::start(&host);
    let said = containerd.ok(containerd.container(
        &["--rm"],
        "one",
        &["sh", "-c", "echo hello; hostname"],
    ));
    assert!(said.starts_with("hello\n"), "{said}");
    let code = |mut command: Command| run(&mut command).status.code();
    assert_eq!(code(containerd.container(&["--rm"], "one", &["sh", "-c", "exit 6"])), Some(6));
    let out = run(&mut containerd.container(&["--rm"], "one", &["nothing"]));
    assert!(text(&out.stderr).contains("executable file not found"), "{}", text(&out.stderr));
    containerd.ok(containerd.container(&["-d"], "two", &["sleep", "1000"]));
    let exec = ["task", "exec", "--exec-id", "e", "two", "sh", "-c", "echo inside; exit 4"];
    let out = run(&mut containerd.ctr(&exec));
    assert_eq!((text(&out.stdout).as_str(), out.status.code()), ("inside\n", Some(4)));
    containerd.ok(containerd.ctr(&["task", "pause", "two"]));
    assert!(containerd.ok(containerd.ctr(&["task", "ls"])).contains("PAUSED"));
    containerd.ok(containerd.ctr(&["task", "resume", "two"]));
    assert!(containerd.ok(containerd.ctr(&["task", "ps", "two"])).lines().count() > 1);
    containerd.ok(containerd.ctr(&["task", "kill", "-s", "KILL", "two"]));
    host.until(|| containerd.ok(containerd.ctr(&["task", "ls"])).contains("STOPPED"));
    run(&mut containerd.ctr(&["task", "rm", "two"]));
    containerd.ok(containerd.ctr(&["containers", "rm", "two"]));
    containerd.daemon.kill().expect("end containerd");
    containerd.daemon.wait().expect("wait for containerd");
    // Its shims end by themselves.
    host.until(|| {
        let shims = crate::fixture::children();
        let name = |pid: &i32| std::fs::read_to_string(format!("/proc/{pid}/comm"));
        !shims
            .iter()
            .any(|pid| name(pid).is_ok_and(|n| n.starts_with("containerd-shim") && is_alive(*pid)))
    });
}

fn is_alive(pid: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(')').next().is_some_and(|rest| !rest.trim_start().starts_with(['Z', 'X']))
}
