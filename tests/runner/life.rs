//! The life of containers that stay: start, stop, what is told of them, what goes in and out.

use std::io::{Read, Write};
use std::process::Stdio;

use crate::fixture::text;
use crate::for_each_user;

for_each_user! {
    a_container_in_the_background_is_listed_and_stopped: |host| {
        let id = host.does("run", ["-d", "--name", "web", "--", "sleep", "1000"]);
        let id = id.trim();
        assert_eq!(id.len(), 64);
        let listed = host.does("ps", ["--format", "{{.ID}} {{.Names}} {{.State}}"]);
        assert_eq!(listed, format!("{} web running\n", &id[..12]));
        assert_eq!(host.does("stop", ["web"]), "web\n");
        assert_eq!(host.does("ps", ["-q"]), "");
        assert_eq!(host.does("ps", ["-a", "--no-trunc", "-q"]).trim(), id);
        assert_eq!(host.does("inspect", ["-f", "{{.State.Status}} {{.State.ExitCode}}", "web"]),
                   "exited 143\n");
        assert_eq!(host.does("rm", [&id[..10]]), format!("{}\n", &id[..10]));
        host.refuses(125, "rm", ["web"]);
    };

    a_started_again_container_has_its_changes: |host| {
        host.does("create", ["--name", "keeper", "--", "sh", "-c", "cat /mark; echo x >> /mark"]);
        assert_eq!(host.does("inspect", ["-f", "{{.State.Status}}", "keeper"]), "created\n");
        for _ in 0..2 {
            host.does("start", ["keeper"]);
            host.does("wait", ["keeper"]);
        }
        let out = host.does("start", ["--attach", "keeper"]);
        assert_eq!(out, "x\nx\n");
        assert_eq!(host.does("inspect", ["-f", "{{.RestartCount}}", "keeper"]), "2\n");
        host.does("restart", ["keeper"]);
        host.does("wait", ["keeper"]);
        host.does("rm", ["keeper"]);
    };

    what_a_program_writes_is_logged: |host| {
        host.does("run", ["-d", "--name", "talker", "--", "sh", "-c",
                          "echo one; echo two >&2; printf three"]);
        assert_eq!(host.does("wait", ["talker"]), "0\n");
        let out = support::process::run(host.verb("logs").arg("talker"));
        assert_eq!((text(&out.stdout), text(&out.stderr)), ("one\nthree".into(), "two\n".into()));
        assert_eq!(host.does("logs", ["--tail", "1", "talker"]), "three");
        let timed = host.does("logs", ["-t", "talker"]);
        assert!(timed.starts_with("20") && timed.contains("Z one\n"), "{timed}");
        // In the foreground, too, and it is shown as well.
        let out = host.run(["--name", "shown", "--", "sh", "-c", "echo here; echo there >&2"]);
        assert_eq!((text(&out.stdout), text(&out.stderr)), ("here\n".into(), "there\n".into()));
        assert_eq!(host.does("logs", ["shown"]), "here\n");
        host.does("rm", ["talker", "shown"]);
    };

    a_log_is_followed_to_the_end: |host| {
        host.up("long", &[], "sleep 0.3; echo late; exit 3");
        assert_eq!(host.does("logs", ["-f", "long"]), "up\nlate\n");
        assert_eq!(host.does("wait", ["long"]), "3\n");
        host.does("rm", ["long"]);
    };

    a_program_that_ends_tells_its_code: |host| {
        let gate = host.home_dir("gate");
        let volume = format!("{}:/gate", gate.display());
        let script = "until [ -e /gate/open ]; do sleep 0.02; done; exit 7";
        host.does("run", ["-d", "--rm", "--name", "brief", "-v", &volume, "--", "sh", "-c", script]);
        let waits = host.verb("wait").arg("brief").stdout(Stdio::piped()).spawn().unwrap();
        std::thread::sleep(std::time::Duration::from_millis(100));
        std::fs::write(gate.join("open"), "").unwrap();
        assert_eq!(text(&waits.wait_with_output().unwrap().stdout), "7\n");
        host.until(|| host.does("ps", ["-aq"]).is_empty());
        let said = host.refuses(127, "run", ["-d", "--rm", "--", "no-such-program"]);
        assert!(said.contains("no-such-program"), "{said}");
        assert_eq!(host.does("ps", ["-aq"]), "");
    };

    exec_runs_beside_the_program: |host| {
        host.up("box", &["-e", "A=b", "-w", "/usr", "--memory", "64M"], "sleep 1000");
        let out = host.does("exec", ["-e", "C=d", "box", "sh", "-c",
                                     "pwd; echo $A $C; cat /etc/hostname; ls /proc | grep -c '^[0-9]'"]);
        let lines: Vec<&str> = out.lines().collect();
        assert_eq!(lines[..3], ["/usr", "b d", "box"], "{out}");
        for kind in ["mnt", "pid", "uts", "ipc", "net", "cgroup", "user", "time"] {
            let ns = format!("/proc/self/ns/{kind}");
            let first = host.does("exec", ["box", "readlink", &format!("/proc/2/ns/{kind}")]);
            assert_eq!(host.does("exec", ["box", "readlink", &ns]), first, "{kind}");
        }
        let out = support::process::run(host.verb("exec").args(["box", "sh", "-c", "exit 5"]));
        assert_eq!(out.status.code(), Some(5));
        host.refuses(127, "exec", ["box", "no-such-program"]);
        host.refuses(126, "exec", ["box", "/etc/passwd"]);
        let caps = "grep -E 'Cap(Eff|Bnd|Inh)|NoNewPrivs|Seccomp:' /proc/self/status";
        let out = host.does("exec", ["box", "sh", "-c", caps]);
        assert_eq!(out, host.does("exec", ["box", "sh", "-c", &caps.replace("self", "2")]));
        let fds = host.does("exec", ["box", "sh", "-c", "ls /proc/$$/fd"]);
        assert_eq!(fds, "0\n1\n2\n");
        host.does("exec", ["-d", "box", "sh", "-c", "touch /done"]);
        host.until(|| support::process::run(host.verb("exec").args(["box", "test", "-e", "/done"]))
            .status.success());
        host.does("rm", ["-f", "box"]);
        host.refuses(125, "exec", ["box", "true"]);
    };

    exec_carries_input_and_terminals: |host| {
        host.up("io", &[], "sleep 1000");
        let mut child = host.verb("exec").args(["-i", "io", "cat"])
            .stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(b"through\n").unwrap();
        let out = child.wait_with_output().unwrap();
        assert_eq!(text(&out.stdout), "through\n");
        assert!(host.does("exec", ["-t", "io", "tty"]).starts_with("/dev/pts/"));
        host.does("rm", ["-f", "io"]);
    };

    attached_to_a_container_one_types_and_reads: |host| {
        host.up("talk", &["-i"], "while read l; do echo got $l; done; exit 4");
        let mut child = host.verb("attach").arg("talk")
            .stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut input = child.stdin.take().unwrap();
        input.write_all(b"a\nb\n").unwrap();
        let mut got = vec![0; 12];
        child.stdout.as_mut().unwrap().read_exact(&mut got).unwrap();
        assert_eq!(text(&got), "got a\ngot b\n");
        drop(input);
        assert_eq!(child.wait().unwrap().code(), Some(4));
        host.does("rm", ["talk"]);
    };

    a_signal_reaches_the_program_and_a_deaf_one_is_killed: |host| {
        host.up("deaf", &["--stop-timeout", "1"], "trap 'echo heard' USR1 TERM; while :; do sleep 0.1; done");
        host.does("kill", ["-s", "USR1", "deaf"]);
        host.until(|| host.does("logs", ["deaf"]).contains("heard"));
        host.does("stop", ["-t", "0", "deaf"]);
        assert_eq!(host.does("inspect", ["-f", "{{.State.ExitCode}}", "deaf"]), "137\n");
        host.refuses(125, "kill", ["deaf"]);
        host.does("rm", ["deaf"]);
    };

    names_are_taken_until_a_container_is_removed: |host| {
        host.does("create", ["--name", "one", "--", "true"]);
        let said = host.refuses(125, "create", ["--name", "one", "--", "true"]);
        assert!(said.contains("runner rm one"), "{said}");
        host.up("two", &[], "sleep 1000");
        let said = host.refuses(125, "rm", ["two"]);
        assert!(said.contains("--force"), "{said}");
        host.does("rm", ["-f", "two", "one", "never-there"]);
        host.refuses(125, "start", ["one"]);
    };

    what_is_known_is_told_as_json: |host| {
        host.up("json", &["-l", "a=b", "--memory", "64M", "-v", "/etc:/data:ro"], "sleep 1000");
        let all: serde_json::Value = serde_json::from_str(&host.does("inspect", ["json"])).unwrap();
        let it = &all[0];
        assert_eq!(it["Config"]["Labels"]["a"], "b");
        assert_eq!(it["HostConfig"]["Memory"], 64 << 20);
        assert_eq!(it["Mounts"][0]["Destination"], "/data");
        let pid = it["State"]["Pid"].as_i64().unwrap();
        assert!(std::path::Path::new(&format!("/proc/{pid}")).exists());
        let rows: serde_json::Value = serde_json::from_str(&host.does("ps", ["--json"])).unwrap();
        assert_eq!(rows[0]["Names"][0], "json");
        assert_eq!(host.does("ps", ["-q", "-f", "label=a=c"]), "");
        assert_eq!(host.does("ps", ["-f", "label=a", "--format", "{{.Names}}"]), "json\n");
        let top = host.does("top", ["json"]);
        assert!(top.contains("sleep 1000") && top.lines().count() >= 3, "{top}");
        let said = host.refuses(125, "ps", ["--format", "{{.Nope}}"]);
        assert!(said.contains("Nope"), "{said}");
        host.does("rm", ["-f", "json"]);
    };

    volumes_outlive_containers: |host| {
        assert_eq!(host.does("volume", ["create", "data"]), "data\n");
        host.ok(["-v", "data:/d", "--", "sh", "-c", "echo kept > /d/f"]);
        assert_eq!(host.ok(["-v", "data:/d:ro", "--", "cat", "/d/f"]), "kept\n");
        host.does("create", ["--name", "user", "-v", "data:/d", "-v", "/anonymous", "--", "true"]);
        let said = host.refuses(125, "volume", ["rm", "data"]);
        assert!(said.contains("user"), "{said}");
        assert_eq!(host.does("volume", ["ls", "-q"]).lines().count(), 2);
        host.does("rm", ["-v", "user"]);
        assert_eq!(host.does("volume", ["ls", "-q"]), "data\n");
        let at = host.does("volume", ["inspect", "-f", "{{.Mountpoint}}", "data"]);
        assert_eq!(std::fs::read_to_string(format!("{}/f", at.trim())).unwrap(), "kept\n");
        host.does("volume", ["prune"]);
        assert_eq!(host.does("volume", ["ls", "-q"]), "");
        // One that nobody named goes with a container that goes by itself.
        host.ok(["-v", "/anonymous", "--", "touch", "/anonymous/x"]);
        assert_eq!(host.does("volume", ["ls", "-q"]), "");
        std::fs::remove_dir(host.state().join("volumes")).unwrap();
    };

    prune_removes_what_does_not_run: |host| {
        host.does("create", ["--name", "made", "--", "true"]);
        host.up("runs", &[], "sleep 1000");
        host.does("prune", ["-f"]);
        assert_eq!(host.does("ps", ["-a", "--format", "{{.Names}}"]), "runs\n");
        host.does("rm", ["-f", "runs"]);
    };

    a_killed_supervisor_takes_all_along_and_the_container_starts_again: |host| {
        host.up("hurt", &["--memory", "64M"], "echo x >> /mark; cat /mark; sleep 1000");
        let pid = host.does("inspect", ["-f", "{{.State.ConmonPid}} {{.State.Pid}}", "hurt"]);
        let pids: Vec<i32> = pid.split_whitespace().map(|p| p.parse().unwrap()).collect();
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(pids[0]), nix::sys::signal::Signal::SIGKILL)
            .unwrap();
        host.until(|| host.does("inspect", ["-f", "{{.State.Status}}", "hurt"]) == "exited\n");
        assert_eq!(host.does("inspect", ["-f", "{{.State.ExitCode}}", "hurt"]), "137\n");
        host.does("start", ["hurt"]);
        host.until(|| host.does("logs", ["hurt"]).contains("x\nx\n"));
        host.does("rm", ["-f", "hurt"]);
    };

    a_new_volume_begins_with_what_is_in_its_place: |host| {
        let theirs = host.ok(["--", "sh", "-c", "ls -A /etc/skel; stat -c %a /etc/skel"]);
        assert!(theirs.contains(".profile"), "{theirs}");
        let own = host.ok(["-v", "fresh:/etc/skel:ro", "--", "sh", "-c",
            "ls -A /etc/skel; stat -c %a /etc/skel; touch /etc/skel/x 2> /dev/null || echo no"]);
        assert_eq!(own, format!("{theirs}no\n"));
        // What is there already stays as it is.
        host.ok(["-v", "fresh:/v", "--", "sh", "-c", "rm /v/.profile; echo mine > /v/.bashrc"]);
        let own = host.ok(["-v", "fresh:/etc/skel", "--", "sh", "-c", "ls -A /etc/skel; cat /etc/skel/.bashrc"]);
        assert!(!own.contains(".profile") && own.ends_with("mine\n"), "{own}");
        // What was cut off goes on; a directory of the host is never filled.
        let at = host.does("volume", ["inspect", "-f", "{{.Mountpoint}}", "fresh"]);
        let dir = std::fs::File::open(at.trim()).unwrap();
        sys::xattr::set(sys::xattr::of(&dir), "user.palimpsest.filling".as_ref(), b"1", 0).unwrap();
        drop(dir);
        let own = host.ok(["-v", "fresh:/etc/skel", "--", "sh", "-c", "ls -A /etc/skel; cat /etc/skel/.bashrc"]);
        assert!(own.contains(".profile") && own.ends_with("mine\n"), "{own}");
        let empty = host.home_dir("empty");
        let bind = format!("{}:/etc/skel", empty.display());
        assert_eq!(host.ok(["-v", &bind, "--", "ls", "-A", "/etc/skel"]), "");
        host.does("volume", ["rm", "fresh"]);
        std::fs::remove_dir(host.state().join("volumes")).unwrap();
    };

    files_go_in_and_out_of_a_container_that_does_not_run: |host| {
        host.does("run", ["--name", "still", "--", "sh", "-c", "echo x > /made; exit 0"]);
        let before = host.does("inspect", ["still"]);
        let out = host.home_dir("copies").join("made");
        let to = out.to_str().unwrap();
        host.does("cp", ["still:/made", to]);
        assert_eq!(std::fs::read_to_string(&out).unwrap(), "x\n");
        host.does("cp", [to, "still:/brought"]);
        assert_eq!(host.does("inspect", ["still"]), before, "it did not run for that");
        assert!(host.does("diff", ["still"]).contains("A /brought"));
        host.does("create", ["--name", "new", "--", "cat", "/brought"]);
        host.does("cp", [to, "new:/brought"]);
        assert_eq!(host.does("start", ["-a", "new"]), "x\n");
        assert_eq!(support::process::run(host.verb("cp").args(["still:/nothing", to])).status.code(), Some(125));
        host.does("rm", ["still", "new"]);
    };

    files_go_in_and_out: |host| {
        host.up("files", &[], "mkdir /d; echo x > /d/f; ln -s /etc/passwd /d/l; ln -s / /d/root; sleep 1000");
        let home = host.home_dir("copies");
        let out = home.join("out");
        let to = |path: &std::path::Path| path.to_str().unwrap().to_owned();
        host.until(|| support::process::run(host.verb("exec").args(["files", "test", "-h", "/d/root"]))
            .status.success());
        host.does("cp", ["files:/d", &to(&out)]);
        assert_eq!(std::fs::read_to_string(out.join("f")).unwrap(), "x\n");
        assert_eq!(std::fs::read_link(out.join("l")).unwrap(), std::path::Path::new("/etc/passwd"));
        host.does("cp", [&to(&out), "files:/in"]);
        host.does("cp", [&to(&out.join("f")), "files:/in/g"]);
        let out = host.does("exec", ["files", "sh", "-c", "cat /in/f /in/g; stat -c %U /in/f"]);
        assert_eq!(out, "x\nx\nroot\n");
        // What looks like the host's directory from inside is the container's.
        host.does("cp", [&to(&home.join("out/f")), "files:/d/root/marker"]);
        assert!(!std::path::Path::new("/marker").exists());
        assert_eq!(host.does("exec", ["files", "cat", "/marker"]), "x\n");
        let run = support::process::run(host.verb("cp").args(["files:/nothing", &to(&home)]));
        assert_eq!(run.status.code(), Some(125));
        host.refuses(125, "cp", ["/a", "/b"]);
        host.does("rm", ["-f", "files"]);
    };

    completions_and_manual_pages_are_made: |host| {
        for shell in ["bash", "zsh", "fish"] {
            assert!(host.does("completion", [shell]).contains("runner"), "{shell}");
        }
        let dir = host.home_dir("man");
        host.does("man", [dir.to_str().unwrap()]);
        assert!(std::fs::read_to_string(dir.join("runner-run.1")).unwrap().contains("memory"));
    };
}
