//! Containers that do without a part: the union, cgroups, figures of their own.

use std::fs;

use crate::fixture::{Host, Who, text};
use crate::for_each_user;
use crate::root::small_root;

/// All that can be left out.
const BARE: [&str; 7] =
    ["--driver", "none", "--read-only", "--cgroups", "disabled", "--procfs", "kernel"];

/// Lays out a root with what is mounted on.
fn whole_root(host: &Host) -> String {
    let dir = host.home_dir("rootfs");
    small_root(&dir);
    for name in ["proc", "sys", "dev", "etc", "run"] {
        fs::create_dir(dir.join(name)).unwrap();
    }
    fs::write(dir.join("etc/hosts"), "of the root\n").unwrap();
    dir.to_str().unwrap().to_owned()
}

fn bare<'a>(root: &'a str, script: &'a str) -> Vec<&'a str> {
    [&BARE[..], &["--rootfs", root, "--", "sh", "-c", script]].concat()
}

for_each_user! {
    a_root_without_a_union_is_the_directory_itself: |host| {
        let root = whole_root(host);
        let script = "touch /new 2>&1; rm -r /bin 2>&1; touch /tmp/ok /run/ok && ls /tmp; cat /etc/hosts; \
                      cat /proc/mounts; id -u";
        let out = host.ok(bare(&root, script));
        assert!(out.contains("touch: cannot touch '/new': Read-only file system"), "{out}");
        assert!(out.contains("\nok\n") && out.ends_with("\n0\n"), "{out}");
        // What every container gets covers what the root has, and nothing is made.
        assert!(out.contains("localhost") && !out.contains("of the root"), "{out}");
        assert!(!out.contains("fuse"), "{out}");
        let dir = std::path::Path::new(&root);
        assert!(dir.join("bin/sh").exists() && !dir.join("etc/hostname").exists());
        assert_eq!(fs::read_to_string(dir.join("etc/hosts")).unwrap(), "of the root\n");
    };

    what_is_left_out_weakens_nothing_else: |host| {
        let root = whole_root(host);
        let script = "cat /proc/keys /proc/interrupts /proc/timer_list; ls -A /sys/firmware; \
                      ls -A /sys/fs/cgroup; cat /proc/self/cgroup; echo; cat /proc/self/status";
        let out = host.ok(bare(&root, script));
        let (hidden, status) = out.split_once("\n\n").unwrap();
        // Nothing of masked files, and of cgroups nothing above us.
        assert!(hidden.lines().all(|l| l.ends_with(":/")), "{hidden}");
        let field = |name: &str| status.lines().find_map(|l| l.strip_prefix(name)).unwrap().trim();
        assert_eq!([field("Seccomp:"), field("NoNewPrivs:"), field("CapBnd:")], ["2", "1", "00000000a80425fb"]);
        let other = host.ok(["--rootfs", &root, "--", "cat", "/proc/self/status"]);
        assert!(other.contains("CapBnd:\t00000000a80425fb"), "{other}");
    };

    nobody_serves_a_container_that_needs_no_daemon: |host| {
        let root = whole_root(host);
        let mut args = vec!["--detach", "--name", "alone"];
        args.extend(bare(&root, "echo up; while :; do read -r x < /proc/uptime; done"));
        host.does("run", args);
        host.until(|| host.does("logs", ["alone"]).contains("up"));
        let name = |pid| fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        let supervisor = host.new_children().into_iter().next().unwrap();
        let list = fs::read_to_string(format!("/proc/{supervisor}/task/{supervisor}/children"));
        let all: Vec<_> = list.unwrap().split_whitespace().map(name).collect();
        assert_eq!(all, ["runner-init\n"]);
        assert_eq!(host.does("exec", ["alone", "sh", "-c", "cat /etc/hosts > /tmp/x; ls /tmp"]), "x\n");
        assert_eq!(host.does("diff", ["alone"]), "");
        let said = host.refuses(125, "exec", ["--privileged", "alone", "true"]);
        assert!(said.contains("could make writable"), "{said}");
        for (verb, args) in [("pause", &["alone"][..]), ("update", &["--memory", "64M", "alone"])] {
            let said = host.refuses(125, verb, args);
            assert!(said.contains("cgroup"), "{said}");
        }
        let driver = host.does("inspect", ["-f", "{{.Driver}}", "alone"]);
        assert_eq!(driver, "none\n");
        host.does("stop", ["-t", "1", "alone"]);
        // It is planned anew.
        host.does("start", ["alone"]);
        host.does("rm", ["-f", "alone"]);
    };

    figures_are_the_kernel_s_where_asked: |host| {
        let args = ["--procfs", "kernel", "--memory", "64M", "--", "sh", "-c"];
        let out = host.run(args.into_iter().chain(["cat /proc/meminfo /proc/mounts; free -k"]));
        assert!(out.status.success(), "{}", text(&out.stderr));
        let out = text(&out.stdout);
        assert!(!out.contains("procfs-shim"), "{out}");
        let own = fs::read_to_string("/proc/meminfo").unwrap();
        let total = own.lines().find(|l| l.starts_with("MemTotal")).unwrap();
        assert!(out.contains(total), "{out}");
        if matches!(host.who(), Who::Root) {
            let limit = "cat /sys/fs/cgroup/memory.max /sys/fs/cgroup/memory/memory.limit_in_bytes 2>/dev/null; true";
            assert_eq!(host.ok(args.into_iter().chain([limit])), "67108864\n");
        }
    };

    what_contradicts_itself_is_refused: |host| {
        let root = whole_root(host);
        let two = format!("{root}:{root}");
        let none = ["--driver", "none", "--rootfs", &root];
        let rows: [(&[&str], &[&str], &str); 7] = [
            (&none, &[], "add --read-only"),
            (&none, &["--read-only", "--upper", "/tmp/x"], "--upper"),
            (&none, &["--read-only", "--cap-add", "SYS_ADMIN"], "CAP_SYS_ADMIN"),
            (&none, &["--read-only", "--privileged"], "CAP_SYS_ADMIN"),
            (&[], &["--cgroups", "disabled", "--memory", "64M"], "limits need cgroups"),
            (&[], &["--cgroups", "disabled", "--pids-limit", "9"], "limits need cgroups"),
            (&[], &["--procfs", "kernel", "--sysinfo", "container"], "--procfs kernel"),
        ];
        for (root, more, hint) in rows {
            let said = host.fails(125, root.iter().chain(more).chain(&["--", "true"]));
            assert!(said.contains(hint), "{more:?}: {said}");
        }
        let layers = ["--driver", "none", "--read-only", "--layers", &two, "--", "true"];
        assert!(host.fails(125, layers).contains("2 layers"));
        fs::remove_dir(std::path::Path::new(&root).join("proc")).unwrap();
        let said = host.fails(125, bare(&root, "true"));
        assert!(said.contains("/proc: read-only file system"), "{said}");
        assert!(!std::path::Path::new(&root).join("proc").exists());
    };
}
