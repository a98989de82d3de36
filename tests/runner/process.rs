//! The program: its exit code, signals, descriptors, rights and surroundings.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::fixture::text;
use crate::for_each_user;

for_each_user! {
    the_exit_code_is_the_program_s_own: |host| {
        for code in [0, 1, 42, 255] {
            let out = host.run(["--", "sh", "-c", &format!("exit {code}")]);
            assert_eq!(out.status.code(), Some(code));
        }
        let out = host.run(["--no-init", "--", "sh", "-c", "exit 7"]);
        assert_eq!(out.status.code(), Some(7));
        let out = host.run(["--", "sh", "-c", "kill -9 $$"]);
        assert_eq!(out.status.code(), Some(137));
    };

    what_can_t_be_run_has_the_codes_of_podman: |host| {
        let said = host.fails(127, ["--", "no-such-program"]);
        assert!(said.contains("no-such-program"), "{said}");
        host.fails(127, ["--", "/no/such/program"]);
        let said = host.fails(126, ["--", "/etc/passwd"]);
        assert!(said.contains("/etc/passwd"), "{said}");
        host.fails(126, ["--", "/etc"]);
    };

    signals_reach_the_program: |host| {
        let script = "trap 'echo got it; exit 5' TERM; echo ready; while :; do sleep 0.1; done";
        let mut child = host.command().args(["--", "sh", "-c", script])
            .stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert_eq!(lines.next().unwrap().unwrap(), "ready");
        kill(Pid::from_raw(child.id() as i32), Signal::SIGTERM).unwrap();
        assert_eq!(lines.next().unwrap().unwrap(), "got it");
        assert_eq!(child.wait().unwrap().code(), Some(5));
    };

    orphans_are_reaped_and_end_with_the_program: |host| {
        // A zombie would be listed with state Z.
        let script = "(sleep 1000 &) ; (true &) ; sleep 0.2; ps -eo stat= | grep -c Z; ps -eo pid= | wc -l";
        let out = host.ok(["--", "sh", "-c", script]);
        assert_eq!(out.lines().next(), Some("0"), "{out}");
    };

    only_three_descriptors_reach_the_program: |host| {
        let out = host.ok(["--", "sh", "-c", "ls /proc/$$/fd | tr '\\n' ' '"]);
        // The shell itself may add one of its own from 10 on.
        let inherited: Vec<&str> = out.split_whitespace().filter(|n| n.len() == 1).collect();
        assert_eq!(inherited, ["0", "1", "2"]);
    };

    rights_are_docker_s_default_set_for_good: |host| {
        let out = host.sh("grep -E '^(Cap|NoNewPrivs)' /proc/self/status");
        let value = |name: &str| {
            out.lines().find_map(|l| l.strip_prefix(name)).unwrap_or("").trim().to_owned()
        };
        for set in ["CapPrm:", "CapEff:", "CapBnd:"] {
            assert_eq!(value(set), "00000000a80425fb", "{set}");
        }
        for set in ["CapInh:", "CapAmb:"] {
            assert_eq!(value(set), "0000000000000000", "{set}");
        }
        assert_eq!(value("NoNewPrivs:"), "1");
    };

    the_program_lives_in_namespaces_of_its_own: |host| {
        let kinds = ["mnt", "pid", "uts", "ipc", "net", "cgroup", "time"];
        for kind in kinds {
            let inside = host.ok(["--", "readlink", &format!("/proc/self/ns/{kind}")]);
            let outside = std::fs::read_link(format!("/proc/self/ns/{kind}")).unwrap();
            assert_ne!(inside.trim(), outside.to_str().unwrap(), "{kind}");
        }
        let net = host.ok(["--net", "host", "--", "readlink", "/proc/self/ns/net"]);
        assert_eq!(net.trim(), std::fs::read_link("/proc/self/ns/net").unwrap().to_str().unwrap());
    };

    names_variables_and_directory_are_as_asked: |host| {
        let out = host.ok(["--rm", "--name", "first", "--", "sh", "-c", "hostname; cat /etc/hostname"]);
        assert_eq!(out, "first\nfirst\n");
        let out = host.ok(["--hostname", "box", "-e", "A=b c", "-e", "HOME", "-w", "/usr/bin", "--",
                           "sh", "-c", "hostname; echo $A; pwd; getent hosts box | wc -l"]);
        assert_eq!(out, "box\nb c\n/usr/bin\n1\n");
        let out = host.ok(["--", "env"]);
        assert!(!out.contains("CARGO"), "{out}");
        assert!(out.contains("HOME=/root\n"), "{out}");
    };

    input_is_passed_on_only_where_asked: |host| {
        let run = |args: &[&str]| {
            let out = support::process::feed(host.command().args(args), b"hello\n");
            text(&out.stdout)
        };
        assert_eq!(run(&["-i", "--", "cat"]), "hello\n");
        assert_eq!(run(&["--", "cat"]), "");
    };

    only_harmless_devices_can_be_opened: |host| {
        let script = "cd /dev; for f in $(find . | sort); do \
            test ! -L $f && { test -c $f || test -b $f; } && echo $f; done; true";
        let out = host.ok(["--", "sh", "-c", script]);
        let expected =
            ["./full", "./null", "./pts/ptmx", "./random", "./tty", "./urandom", "./zero"];
        assert_eq!(out.lines().collect::<Vec<_>>(), expected);
        host.sh("echo x > /dev/null; head -c 3 /dev/zero | wc -c; : > /dev/shm/x; test -d /dev/mqueue");
        // Whatever node is made: it can't be opened.
        let out = host.run(["--", "sh", "-c", "mknod /n c 1 3 && cat /n"]);
        assert!(!out.status.success());
    };
}
