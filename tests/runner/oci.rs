//! The life of a bundle's container (runtime.md of the OCI runtime specification), as the callers of a
//! runtime drive it.

use std::io::{IoSliceMut, Read, Write};
use std::os::fd::{OwnedFd, RawFd};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Command;

use nix::sys::signal::{Signal, kill};
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};
use nix::unistd::Pid;
use serde_json::{Value, json};
use support::process::run;

use crate::fixture::{Host, text};
use crate::left;
use crate::oci_fixture::{Runtime, busybox};

/// Runs a test as root, and one as a user with a user namespace.
macro_rules! bundles {
    ($($name:ident: $check:expr;)+) => {
        mod root_ { use super::*; $(bundles!(@one $name, root, $check);)+ }
        mod user_ { use super::*; $(bundles!(@one $name, user, $check);)+ }
    };
    (@one $name:ident, $who:ident, $check:expr) => {
        #[test]
        fn $name() {
            let test = concat!(module_path!(), "::", stringify!($name));
            support::require!(test, busybox());
            match Host::$who() {
                Ok(host) => {
                    let check: fn(&Runtime<'_>) = $check;
                    check(&Runtime::new(&host));
                }
                Err(missing) => support::privilege::skip(test, &missing),
            }
        }
    };
}
pub(crate) use bundles;

bundles! {
    a_container_is_created_started_stopped_and_deleted: |runtime| {
        let bundle = runtime.bundle("life", "echo ran > /tmp/ran; read x < /tmp/go", |config| {
            config["annotations"] = json!({ "com.example": "value" });
        });
        let sign = runtime.rootfs().join("tmp/ran");
        nix::unistd::mkfifo(&runtime.rootfs().join("tmp/go"), nix::sys::stat::Mode::from_bits_truncate(0o666))
            .expect("make a fifo");
        runtime.create("life");
        let state = runtime.state("life");
        assert_eq!(state["status"], "created");
        assert_eq!(state["id"], "life");
        assert_eq!(state["bundle"], bundle.to_str().expect("a plain path"));
        assert_eq!(state["annotations"]["com.example"], "value");
        assert!(state["ociVersion"].as_str().is_some_and(|v| v.starts_with("1.")));
        let pid = state["pid"].as_i64().expect("a pid");
        assert!(Path::new(&format!("/proc/{pid}")).exists());
        assert!(!sign.exists(), "the program ran before it was started");

        runtime.ok(["start", "life"]);
        runtime.host().until(|| sign.exists());
        assert_eq!(runtime.status("life"), "running");
        assert_eq!(runtime.state("life")["pid"], pid);

        std::fs::write(runtime.rootfs().join("tmp/go"), "\n").expect("let the program end");
        runtime.host().until(|| runtime.status("life") == "stopped");
        assert_eq!(runtime.state("life")["pid"], 0);
        runtime.ok(["delete", "life"]);
        assert!(runtime.fails(["state", "life"]).contains("does not exist"));
    };

    what_a_status_forbids_is_refused: |runtime| {
        for verb in ["state", "start", "kill", "delete", "exec", "pause", "resume", "ps"] {
            let rest: &[&str] = if verb == "exec" { &["true"] } else { &[] };
            let said = runtime.fails([&[verb, "nobody"], rest].concat());
            assert!(said.contains("nobody") && said.contains("does not exist"), "{verb}: {said}");
        }
        runtime.ok(["delete", "--force", "nobody"]);
        let bundle = runtime.bundle("twice", "sleep 1000", |_| {});
        runtime.create("twice");
        let bundle = bundle.to_str().expect("a plain path");
        let said = runtime.fails(["create", "-b", bundle, "twice"]);
        assert!(said.contains("already"), "{said}");
        assert_eq!(runtime.status("twice"), "created");
        runtime.ok(["start", "twice"]);
        assert!(runtime.fails(["start", "twice"]).contains("running"));
        assert!(runtime.fails(["delete", "twice"]).contains("running"));
        assert!(runtime.fails(["kill", "twice", "SIGNOPE"]).contains("SIGNOPE"));
        assert_eq!(runtime.status("twice"), "running", "what was refused changed nothing");
        runtime.ok(["kill", "twice", "KILL"]);
        runtime.host().until(|| runtime.status("twice") == "stopped");
        assert!(runtime.fails(["kill", "twice", "TERM"]).contains("stopped"));
        assert!(runtime.fails(["start", "twice"]).contains("stopped"));
        assert!(runtime.fails(["exec", "twice", "true"]).contains("stopped"));
        runtime.ok(["delete", "twice"]);
        let outside = runtime.host().home_dir("outside");
        for bad in ["", "..", "a/b", "a b", "../outside"] {
            assert!(runtime.fails(["state", bad]).contains("container id"), "{bad}");
            assert!(runtime.fails(["delete", "--force", bad]).contains("container id"), "{bad}");
        }
        assert!(outside.is_dir());
    };

    a_created_container_ends_by_a_signal_and_can_be_given_up: |runtime| {
        runtime.bundle("waits", "true", |_| {});
        runtime.create("waits");
        runtime.ok(["kill", "waits", "SIGTERM"]);
        runtime.host().until(|| runtime.status("waits") == "stopped");
        runtime.ok(["delete", "waits"]);
        runtime.create("waits");
        runtime.ok(["delete", "waits"]);
        runtime.host().assert_clean();
    };

    run_has_the_streams_and_the_code_of_the_program: |runtime| {
        let bundle = runtime.bundle("code", "echo out; echo err >&2; exit 42", |_| {});
        let out = run(runtime.command().args(["run", "-b"]).arg(&bundle).arg("code"));
        assert_eq!((text(&out.stdout), text(&out.stderr)), ("out\n".into(), "err\n".into()));
        assert_eq!(out.status.code(), Some(42));
        runtime.bundle("code", "kill -9 $$", |config| {
            // Pid 1 would not hear of it.
            config["linux"]["namespaces"].as_array_mut().unwrap().retain(|n| n["type"] != "pid");
            config["mounts"][0] = json!({ "destination": "/proc", "source": "/proc",
                "options": ["rbind"] });
        });
        let out = run(runtime.command().args(["run", "-b"]).arg(&bundle).arg("code"));
        assert_eq!(out.status.code(), Some(137), "{}", text(&out.stderr));
    };

    a_program_that_is_missing_is_told_of_at_once: |runtime| {
        for (program, code, cause) in [
            ("nothing", 127, "executable file not found in $PATH"),
            ("/bin/nothing", 127, "no such file or directory"),
            ("/etc/passwd", 126, "permission denied"),
        ] {
            let bundle = runtime.bundle("missing", "", |config| {
                config["process"]["args"] = json!([program]);
            });
            let bundle = bundle.to_str().expect("a plain path");
            let said = runtime.fails_with(code, ["create", "-b", bundle, "missing"]);
            assert!(said.contains(cause) && said.contains(program), "{said}");
        }
        // What only execve finds out comes from start.
        std::fs::write(runtime.rootfs().join("tmp/script"), "#!/nowhere\n").expect("write a script");
        support::process::shell(&runtime.rootfs(), "chmod 755 tmp/script");
        runtime.bundle("late", "", |config| config["process"]["args"] = json!(["/tmp/script"]));
        runtime.create("late");
        let said = runtime.fails_with(127, ["start", "late"]);
        assert!(said.contains("interpreter"), "{said}");
        runtime.host().until(|| runtime.status("late") == "stopped");
        runtime.ok(["delete", "late"]);
    };

    a_log_and_a_pid_file_are_written: |runtime| {
        let bundle = runtime.bundle("files", "sleep 1000", |_| {});
        let dir = runtime.host().home_dir("out");
        let (log, pid_file) = (dir.join("log"), dir.join("pid"));
        let mut command = runtime.command();
        command.arg("--log").arg(&log).args(["--log-format", "json", "create", "--pid-file"]);
        let out = run(command.arg(&pid_file).arg("--bundle").arg(&bundle).arg("files"));
        assert!(out.status.success(), "{}", text(&out.stderr));
        let pid = std::fs::read_to_string(&pid_file).expect("read the pid file");
        assert_eq!(json!(pid.parse::<i32>().expect("a number")), runtime.state("files")["pid"]);
        let mut command = runtime.command();
        command.arg("--log").arg(&log).args(["--log-format", "json", "delete", "nobody"]);
        assert_eq!(run(&mut command).status.code(), Some(1));
        let line = std::fs::read_to_string(&log).expect("read the log");
        let line: Value = serde_json::from_str(&line).expect("a line of JSON");
        assert_eq!(line["level"], "error");
        assert!(line["msg"].as_str().is_some_and(|m| m.contains("nobody")), "{line}");
        runtime.down("files");
    };

    further_programs_run_inside: |runtime| {
        runtime.up("inner", "sleep 1000", |config| {
            config["process"]["env"].as_array_mut().unwrap().push(json!("OWN=1"));
        });
        let said = runtime.ok(["exec", "-e", "MORE=2", "--cwd", "/tmp", "inner", "sh", "-c",
            "echo $OWN $MORE $(pwd) $(hostname) $$; cat /proc/1/cmdline | tr '\\0' ' '"]);
        let mut words = said.split_whitespace();
        assert_eq!(words.by_ref().take(4).collect::<Vec<_>>(), ["1", "2", "/tmp", "bundle"]);
        assert!(words.next().is_some_and(|pid| pid != "1"));
        assert!(said.contains("sleep 1000"), "{said}");
        let out = run(runtime.command().args(["exec", "inner", "sh", "-c", "exit 9"]));
        assert_eq!(out.status.code(), Some(9));
        let said = runtime.fails_with(127, ["exec", "inner", "nothing"]);
        assert!(said.contains("executable file not found"), "{said}");
        assert!(runtime.fails(["exec", "inner"]).contains("no program"));

        let dir = runtime.host().home_dir("out");
        let process = json!({ "args": ["sh", "-c", "id -u > /tmp/file; exec sleep 1000"],
            "env": ["PATH=/bin"], "cwd": "/", "user": { "uid": 0, "gid": 0 } });
        std::fs::write(dir.join("process.json"), process.to_string()).expect("write the process");
        let out = |name: &str| dir.join(name).to_str().expect("a plain path").to_owned();
        runtime.ok(["exec", "--process", &out("process.json"), "--detach", "--pid-file",
            &out("pid"), "inner"]);
        runtime.host().until(|| {
            std::fs::read_to_string(runtime.rootfs().join("tmp/file")).is_ok_and(|t| t == "0\n")
        });
        let pid = std::fs::read_to_string(dir.join("pid")).expect("read the pid file");
        let groups = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).expect("its cgroups");
        let first = runtime.state("inner")["pid"].to_string();
        assert_eq!(groups, std::fs::read_to_string(format!("/proc/{first}/cgroup")).unwrap());
        runtime.down("inner");
        runtime.host().assert_clean();
    };

    a_terminal_goes_to_who_listens: |runtime| {
        let dir = runtime.host().home_dir("out");
        let socket = dir.join("console.sock");
        let listener = UnixListener::bind(&socket).expect("listen");
        support::process::shell(&dir, "chmod 777 console.sock");
        let bundle = runtime.bundle("seat", "tty; stty size; read x; echo got $x", |config| {
            config["process"]["terminal"] = json!(true);
            config["process"]["consoleSize"] = json!({ "height": 31, "width": 97 });
        });
        let plain = |p: &Path| p.to_str().expect("a plain path").to_owned();
        let said = runtime.fails(["create", "-b", &plain(&bundle), "seat"]);
        assert!(said.contains("--console-socket"), "{said}");
        runtime.ok(["create", "-b", &plain(&bundle), "--console-socket", &plain(&socket), "seat"]);
        let mut screen = std::fs::File::from(receive_terminal(&listener));
        runtime.ok(["start", "seat"]);
        let mut seen = String::new();
        read_until(&mut screen, &mut seen, "31 97");
        assert!(seen.contains("/dev/pts/0"), "{seen}");
        let shown = runtime.ok(["exec", "seat", "stat", "-c", "%F", "/dev/console"]);
        assert_eq!(shown, "character special file\n");
        screen.write_all(b"words\r").expect("type");
        read_until(&mut screen, &mut seen, "got words");
        runtime.host().until(|| runtime.status("seat") == "stopped");
        runtime.ok(["delete", "seat"]);

        runtime.up("shell", "sleep 1000", |_| {});
        runtime.ok(["exec", "-d", "--tty", "--console-socket", &plain(&socket), "shell", "sh", "-c",
            "tty; exec sleep 1000"]);
        let mut screen = std::fs::File::from(receive_terminal(&listener));
        read_until(&mut screen, &mut String::new(), "/dev/pts/0");
        runtime.down("shell");
    };

    containers_and_their_processes_are_listed: |runtime| {
        runtime.up("one", "sleep 1000", |_| {});
        runtime.bundle("two", "true", |_| {});
        runtime.create("two");
        assert_eq!(runtime.ok(["list", "-q"]), "one\ntwo\n");
        let all: Value = serde_json::from_str(&runtime.ok(["list", "-f", "json"])).expect("JSON");
        let seen = all.as_array().unwrap().iter().map(|c| c["status"].as_str().unwrap());
        assert_eq!(seen.collect::<Vec<_>>(), ["running", "created"]);
        assert!(runtime.ok(["list"]).starts_with("ID "), "a table");
        let pids: Vec<i64> =
            serde_json::from_str(&runtime.ok(["ps", "--format", "json", "one"])).expect("JSON");
        let first = runtime.state("one")["pid"].as_i64().unwrap();
        assert!(pids.contains(&first), "{pids:?} {first}");
        assert!(runtime.ok(["ps", "one"]).contains("sleep 1000"));
        runtime.down("one");
        runtime.down("two");
    };

    create_that_is_killed_leaves_what_delete_removes: |runtime| {
        let bundle = runtime.bundle("crash", "sleep 1000", |_| {});
        for microseconds in (0..40).map(|n| n * 500) {
            let mut command = runtime.command();
            let mut child = command.arg("create").arg("-b").arg(&bundle).arg("crash").spawn().unwrap();
            std::thread::sleep(std::time::Duration::from_micros(microseconds));
            child.kill().expect("kill the runtime");
            child.wait().expect("wait for the runtime");
            runtime.ok(["delete", "--force", "crash"]);
            assert!(!runtime.root().join("crash").exists());
        }
        runtime.host().assert_clean();
    };

    create_that_is_killed_before_it_notes_the_container_leaves_none: |runtime| {
        let bundle = runtime.bundle("crash", "sleep 1000", |_| {});
        for _ in 0..20 {
            let mut command = runtime.command();
            let mut child = command.arg("create").arg("-b").arg(&bundle).arg("crash").spawn().unwrap();
            // What it builds goes on as far as it comes alone: to where it waits for `start`.
            stop_at_second_child(child.id() as i32);
            wait_for_calm(child.id() as i32);
            child.kill().expect("kill the runtime");
            child.wait().expect("wait for the runtime");
            runtime.ok(["delete", "--force", "crash"]);
            runtime.host().assert_clean();
        }
    };
}

#[test]
fn all_processes_can_be_stopped_and_get_a_signal() {
    let test = "oci::all_processes_can_be_stopped_and_get_a_signal";
    support::require!(test, busybox());
    let host = match Host::root() {
        Ok(host) => host,
        Err(missing) => return support::privilege::skip(test, &missing),
    };
    let runtime = Runtime::new(&host);
    runtime.up("many", "sleep 1000 & sleep 1001 & exec sleep 1002", |config| {
        config["linux"]["namespaces"].as_array_mut().unwrap().retain(|n| n["type"] != "pid");
        config["mounts"][0] =
            json!({ "destination": "/proc", "source": "/proc", "options": ["rbind"] });
    });
    runtime.ok(["pause", "many"]);
    assert_eq!(runtime.status("many"), "paused");
    assert!(runtime.fails(["pause", "many"]).contains("paused"));
    assert!(runtime.fails(["exec", "many", "true"]).contains("paused"));
    runtime.ok(["resume", "many"]);
    assert_eq!(runtime.status("many"), "running");
    let count = || -> usize {
        let list = runtime.ok(["ps", "-f", "json", "many"]);
        serde_json::from_str::<Vec<i32>>(&list).expect("JSON").len()
    };
    host.until(|| count() == 3);
    // Frozen in the midst of it, they die all the same.
    runtime.ok(["pause", "many"]);
    runtime.ok(["kill", "--all", "many", "KILL"]);
    host.until(|| runtime.status("many") == "stopped");
    runtime.ok(["delete", "many"]);
    host.assert_clean();
}

#[test]
fn the_runtime_says_what_it_is() {
    let test = "oci::the_runtime_says_what_it_is";
    support::require!(test, busybox());
    let host = match Host::root() {
        Ok(host) => host,
        Err(missing) => return support::privilege::skip(test, &missing),
    };
    let runtime = Runtime::new(&host);
    let said = runtime.ok(["--version"]);
    assert!(said.starts_with("runner-oci version ") && said.contains("\nspec: 1."), "{said}");
    let features: Value = serde_json::from_str(&runtime.ok(["features"])).expect("JSON");
    assert_eq!(features["ociVersionMin"], "1.0.0");
    assert!(features["hooks"].as_array().is_some_and(|h| h.len() == 6));
    assert!(runtime.fails(["--systemd-cgroup", "state", "x"]).contains("cgroupfs"));
    // The same by the name of the whole program.
    let out = run(host.bare().args(["oci", "--version"]));
    assert_eq!(text(&out.stdout), said);
    let out = run(Command::new(runtime.program()).arg("--nonsense"));
    assert_eq!(out.status.code(), Some(1));
}

/// Stops a process as soon as it has two children, of which the second is a container's first process;
/// nothing happens to one that ends before.
fn stop_at_second_child(pid: i32) {
    while !left::is_ending(pid) {
        if left::children(pid).len() >= 2 {
            // It is our child and was not waited for: the number is still its.
            return kill(Pid::from_raw(pid), Signal::SIGSTOP).expect("stop the runtime");
        }
    }
}

/// Waits until the children of a process have slept, or ended, for a while.
fn wait_for_calm(pid: i32) {
    let mut calm = 0;
    while calm < 10 && !left::is_ending(pid) {
        let sleeps = left::children(pid).into_iter().all(left::is_calm);
        calm = if sleeps { calm + 1 } else { 0 };
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
}

/// Takes the terminal that the runtime sends.
fn receive_terminal(listener: &UnixListener) -> OwnedFd {
    use std::os::fd::AsRawFd;
    let (socket, _) = listener.accept().expect("the runtime connects");
    let mut name = [0u8; 64];
    let mut space = nix::cmsg_space!([RawFd; 1]);
    let mut parts = [IoSliceMut::new(&mut name)];
    let message =
        recvmsg::<()>(socket.as_raw_fd(), &mut parts, Some(&mut space), MsgFlags::MSG_CMSG_CLOEXEC)
            .expect("a message");
    let rights = message.cmsgs().expect("control messages").find_map(|c| match c {
        ControlMessageOwned::ScmRights(fds) => fds.first().copied(),
        _ => None,
    });
    sys::process::inherited_fd(rights.expect("a descriptor")).expect("the terminal")
}

/// Reads until something was seen.
#[track_caller]
fn read_until(screen: &mut std::fs::File, seen: &mut String, wanted: &str) {
    let mut buf = [0u8; 512];
    while !seen.contains(wanted) {
        match screen.read(&mut buf) {
            Ok(n) if n > 0 => seen.push_str(&text(&buf[..n])),
            other => panic!("waiting for {wanted:?}: {other:?} after {seen:?}"),
        }
    }
}
