//! podman with our runtime, as root and as a user: what people do with it all day.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use support::privilege::{installed, skip};
use support::process::run;

use crate::fixture::{Host, text};
use crate::oci_fixture::{Runtime, busybox};

/// podman, with a storage and a configuration of its own.
struct Podman<'a> {
    runtime: Runtime<'a>,
    dir: PathBuf,
}

impl<'a> Podman<'a> {
    /// Prepares podman and an image of busybox.
    fn new(host: &'a Host) -> Podman<'a> {
        let runtime = Runtime::new(host);
        let dir = host.home_dir("podman");
        let config = dir.join(".config/containers");
        for sub in [config.as_path(), &dir.join("xdg")] {
            std::fs::create_dir_all(sub).expect("make a directory");
        }
        let at = dir.display();
        std::fs::write(
            config.join("storage.conf"),
            format!(
                "[storage]\ndriver = \"vfs\"\ngraphroot = \"{at}/graph\"\nrunroot = \"{at}/run\"\n"
            ),
        )
        .expect("write podman's configuration");
        // The limits of the test's own host may be lower than podman's defaults.
        let limits = "default_ulimits = [\"nofile=1024:1024\", \"nproc=1024:1024\"]";
        std::fs::write(
            config.join("containers.conf"),
            format!(
                "[containers]\n{limits}\n[engine]\ncgroup_manager = \"cgroupfs\"\n\
                     events_logger = \"file\"\n[network]\nnetwork_config_dir = \"{at}/net\"\n"
            ),
        )
        .expect("write podman's configuration");
        support::process::shell(&dir, "chmod 700 xdg");
        if let Some((uid, gid)) = host.ids() {
            run(Command::new("chown").args(["-R", &format!("{uid}:{gid}")]).arg(&dir));
        }
        let podman = Podman { runtime, dir };
        let tar = podman.dir.join("bb.tar");
        let mut archive = host.bare_as("tar".as_ref());
        let root = podman.runtime.rootfs();
        let out = run(archive.arg("-C").arg(&root).arg("-cf").arg(&tar).arg("."));
        assert!(out.status.success(), "{}", text(&out.stderr));
        let tar = tar.to_str().expect("a plain path").to_owned();
        podman.ok(&["import", "-q", "--change", "ENV PATH=/bin", &tar, "localhost/bb:1"]);
        podman
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = self.runtime.host().bare_as("podman".as_ref());
        let config = self.dir.join(".config/containers");
        command
            .env("HOME", &self.dir)
            .env("XDG_RUNTIME_DIR", self.dir.join("xdg"))
            .env("CONTAINERS_CONF", config.join("containers.conf"))
            .env("TMPDIR", &self.dir)
            .arg("--runtime")
            .arg(self.runtime.program())
            .args(args);
        if self.runtime.host().ids().is_none() {
            command.env("CONTAINERS_STORAGE_CONF", config.join("storage.conf"));
        }
        command
    }

    fn run(&self, args: &[&str]) -> Output {
        run(&mut self.command(args))
    }

    #[track_caller]
    fn ok(&self, args: &[&str]) -> String {
        let out = self.run(args);
        assert!(out.status.success(), "podman {args:?}: {}: {}", out.status, text(&out.stderr));
        text(&out.stdout).trim_end().to_owned()
    }

    #[track_caller]
    fn code(&self, args: &[&str]) -> i32 {
        self.run(args).status.code().expect("a code")
    }

    /// Ends what podman keeps running, and removes what it keeps.
    fn end(&self) {
        self.ok(&["rm", "-af", "-t", "0"]);
        self.ok(&["rmi", "-af"]);
        end_pause_process(self.runtime.host(), &self.dir);
        let left = std::fs::read_dir(self.dir.join("xdg/runner-oci")).into_iter().flatten().count();
        assert_eq!(left, 0, "states of containers are left");
        let root = self.runtime.host().ids().is_none();
        let own = std::fs::read_dir("/run/runner-oci").into_iter().flatten().count();
        assert!(!root || own == 0, "states of containers are left");
    }
}

/// Tests as root and as a user.
macro_rules! podman {
    ($($name:ident: $check:expr;)+) => {
        mod root_ { use super::*; $(podman!(@one $name, root, $check);)+ }
        mod user_ { use super::*; $(podman!(@one $name, user, $check);)+ }
    };
    (@one $name:ident, $who:ident, $check:expr) => {
        #[test]
        fn $name() {
            let test = concat!(module_path!(), "::", stringify!($name));
            support::require!(test, busybox(), installed("podman"), installed("conmon"));
            match Host::$who() {
                Ok(host) => {
                    let podman = Podman::new(&host);
                    let check: fn(&Podman<'_>) = $check;
                    check(&podman);
                    podman.end();
                }
                Err(missing) => skip(test, &missing),
            }
        }
    };
}

podman! {
    containers_run_with_streams_and_codes: |podman| {
        assert_eq!(podman.ok(&["run", "--rm", "--net=none", "localhost/bb:1", "echo", "hello"]), "hello");
        for (args, code) in [(&["sh", "-c", "exit 42"][..], 42), (&["nothing"], 127), (&["/etc/passwd"], 126),
                             (&["sh", "-c", "kill -9 $$; sleep 1; exit 3"], 3)] {
            let all = [&["run", "--rm", "--net=none", "localhost/bb:1"][..], args].concat();
            assert_eq!(podman.code(&all), code, "{args:?}");
        }
        let mut cat = podman.command(&["run", "--rm", "-i", "--net=none", "localhost/bb:1", "cat"]);
        let mut child = cat.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("start podman");
        child.stdin.take().expect("a pipe").write_all(b"from here\n").expect("write");
        let out = child.wait_with_output().expect("wait for podman");
        assert_eq!(text(&out.stdout), "from here\n");
    };

    containers_in_the_background_are_stopped_started_and_removed: |podman| {
        let script = "trap 'echo ends; exit 3' TERM; echo up; while :; do sleep 0.1; done";
        podman.ok(&["run", "-d", "--net=none", "--name", "back", "localhost/bb:1", "sh", "-c", script]);
        let host = podman.runtime.host();
        host.until(|| podman.ok(&["logs", "back"]).contains("up"));
        assert_eq!(podman.ok(&["exec", "-e", "A=1", "-w", "/tmp", "back", "sh", "-c", "echo $A; pwd"]), "1\n/tmp");
        assert_eq!(podman.code(&["exec", "back", "sh", "-c", "exit 7"]), 7);
        assert_eq!(podman.code(&["exec", "back", "nothing"]), 127);
        podman.ok(&["exec", "-d", "back", "sh", "-c", "echo later > /tmp/later; exec sleep 1000"]);
        host.until(|| podman.run(&["exec", "back", "cat", "/tmp/later"]).status.success());
        assert!(podman.ok(&["top", "back"]).contains("sleep 1000"));
        podman.ok(&["stop", "-t", "60", "back"]);
        assert_eq!(podman.ok(&["inspect", "-f", "{{.State.ExitCode}}", "back"]), "3");
        assert!(podman.ok(&["logs", "back"]).ends_with("ends"));
        podman.ok(&["start", "back"]);
        host.until(|| podman.ok(&["logs", "back"]).matches("up").count() == 2);
        podman.ok(&["kill", "-s", "KILL", "back"]);
        assert_eq!(podman.ok(&["wait", "back"]), "137");
        podman.ok(&["rm", "back"]);
    };

    a_terminal_has_its_size_and_its_keys: |podman| {
        let mut script = podman.runtime.host().bare_as("script".as_ref());
        let inner = podman.command(&["run", "--rm", "-it", "--net=none", "localhost/bb:1", "sh", "-c",
            "stty size; tty; ls -l /dev/console | cut -c1; read x; echo got $x"]);
        let words: Vec<String> = std::iter::once("stty rows 31 cols 97;".to_owned())
            .chain(std::iter::once(quoted(inner.get_program().to_str().unwrap())))
            .chain(inner.get_args().map(|a| quoted(a.to_str().unwrap())))
            .collect();
        for (name, value) in inner.get_envs() {
            script.env(name, value.unwrap_or_default());
        }
        script.args(["-qfec", &words.join(" "), "/dev/null"]);
        let out = support::process::feed(&mut script, b"words\n");
        let said = text(&out.stdout).replace('\r', "");
        for part in ["31 97\n", "/dev/pts/0\n", "\nc\n", "got words"] {
            assert!(said.contains(part), "{part:?}: {said} {}", text(&out.stderr));
        }
        podman.ok(&["run", "-d", "--net=none", "--name", "t", "localhost/bb:1", "sleep", "1000"]);
        assert!(podman.ok(&["exec", "-t", "t", "tty"]).contains("/dev/pts/"));
        podman.ok(&["rm", "-f", "-t", "0", "t"]);
    };

    options_of_podman_reach_the_container: |podman| {
        let run = |args: &[&str], script: &str| {
            let all = [&["run", "--rm", "--net=none"][..], args, &["localhost/bb:1", "sh", "-c", script]];
            podman.ok(&all.concat())
        };
        assert_eq!(run(&["--user", "12:34"], "id -u; id -g"), "12\n34");
        assert_eq!(run(&["--hostname", "own"], "hostname"), "own");
        assert_eq!(run(&["--read-only", "--tmpfs", "/scratch:size=1m"],
            "touch /x 2> /dev/null || echo no; touch /scratch/x && echo yes"), "no\nyes");
        assert_eq!(run(&["-v", "named:/data"], "echo kept > /data/f; cat /data/f"), "kept");
        assert_eq!(run(&["-v", "named:/data:ro"], "cat /data/f; touch /data/g 2> /dev/null || echo no"), "kept\nno");
        let shown = run(&["--cap-drop=all", "--cap-add=kill", "--security-opt=no-new-privileges"],
            "grep -E 'CapEff|NoNew|Seccomp:' /proc/self/status");
        assert!(shown.contains("0000000000000020") && shown.contains("Privs:\t1"), "{shown}");
        assert!(shown.contains("Seccomp:\t2"), "{shown}");
        assert_eq!(run(&["--sysctl", "net.ipv4.ip_default_ttl=33"], "cat /proc/sys/net/ipv4/ip_default_ttl"), "33");
        assert_eq!(run(&["--ulimit", "nofile=99:99"], "ulimit -n"), "99");
        assert_eq!(run(&["--privileged"], "mount -t tmpfs x /tmp && echo mounted"), "mounted");
        assert_eq!(run(&["--pid=host"], "[ $$ != 1 ] && echo host"), "host");
        podman.ok(&["run", "-d", "--net=none", "--name", "one", "localhost/bb:1", "sleep", "1000"]);
        let shared = podman.ok(&["run", "--rm", "--net=container:one", "--pid=container:one",
            "--ipc=container:one", "localhost/bb:1", "sh", "-c", "cat /proc/1/cmdline | tr '\\0' ' '"]);
        assert!(shared.contains("sleep 1000"), "{shared}");
        podman.ok(&["volume", "rm", "-f", "named"]);
    };

    users_are_mapped_as_asked_for: |podman| {
        let mapped = ["run", "--rm", "--net=none", "--uidmap", "0:1:5000", "localhost/bb:1", "sh", "-c",
            "cat /proc/self/uid_map | tr -s ' '; touch /own && stat -c %u /own"];
        let said = podman.ok(&mapped);
        assert!(said.trim_start().starts_with("0 1 5000") && said.ends_with("\n0"), "{said}");
    };
}

/// Ends the process that keeps podman's namespaces where a user has started it.
pub(crate) fn end_pause_process(host: &Host, dir: &Path) {
    let pid = std::fs::read_to_string(dir.join("xdg/libpod/tmp/pause.pid"));
    let Some(pid) = pid.ok().and_then(|p| p.trim().parse::<i32>().ok()) else { return };
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL)
        .expect("end podman's own process");
    host.until(|| match std::fs::read_to_string(format!("/proc/{pid}/stat")) {
        Ok(stat) => stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('Z')),
        Err(_) => true,
    });
}

fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', "'\\''"))
}

#[test]
fn limits_of_podman_hold() {
    let test = "oci_podman::limits_of_podman_hold";
    support::require!(test, busybox(), installed("podman"), installed("conmon"));
    let host = match Host::root() {
        Ok(host) => host,
        Err(missing) => return skip(test, &missing),
    };
    let podman = Podman::new(&host);
    let with = |args: &[&'static str]| [&["run", "--net=none"][..], args].concat();
    let alone = ["--name", "oom", "--memory", "32m", "localhost/bb:1", "tail", "/dev/zero"];
    assert_eq!(podman.code(&with(&alone)), 137);
    let bomb = "for n in $(seq 100); do sleep 1000 & done; echo all";
    let out =
        podman.run(&with(&["--rm", "--pids-limit", "20", "localhost/bb:1", "sh", "-c", bomb]));
    assert!(!text(&out.stdout).contains("all"), "a hundred processes where 20 are allowed");
    // CPU time and elapsed time of one and the same span.
    let spin = "i=0; a=$(cut -d. -f1 /proc/uptime); while [ $(($(cut -d. -f1 /proc/uptime) - a)) -lt 3 ]; \
                do i=$((i+1)); done; cat /sys/fs/cgroup/cpuacct/cpuacct.usage 2> /dev/null || \
                sed -n 's/usage_usec //p' /sys/fs/cgroup/cpu.stat";
    let used = podman.ok(&with(&["--rm", "--cpus", "0.3", "localhost/bb:1", "sh", "-c", spin]));
    assert!(used.parse::<u64>().is_ok_and(|n| n > 0), "{used}");
    podman.ok(&["run", "-d", "--net=none", "--name", "froze", "localhost/bb:1", "sleep", "1000"]);
    podman.ok(&["pause", "froze"]);
    assert_eq!(podman.ok(&["inspect", "-f", "{{.State.Status}}", "froze"]), "paused");
    podman.ok(&["unpause", "froze"]);
    assert_eq!(podman.ok(&["inspect", "-f", "{{.State.Status}}", "froze"]), "running");
    podman.end();
}
