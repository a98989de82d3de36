//! What a container may not do: a test for each claim of docs/security.md.

use std::fs;

use crate::fixture::{Who, text};
use crate::for_each_user;

/// Makes a system call by number with perl, which is everywhere, and prints its error.
fn call(number: i32, args: &str) -> String {
    format!("perl -e '$r = syscall({number}{args}); print $r < 0 ? 0 + $! : \"ok\"'")
}

const EPERM: &str = "1";
const ENOSYS: &str = "38";

for_each_user! {
    system_calls_that_reach_the_host_fail: |host| {
        // unshare, mount, keyctl, bpf, userfaultfd, io_uring_setup, open_tree, kexec_load of x86_64.
        for number in [272, 165, 250, 321, 323, 425, 428, 246] {
            let out = host.ok(["--", "sh", "-c", &call(number, ", 0, 0, 0, 0, 0")]);
            assert_eq!(out, EPERM, "{number}");
        }
        // clone3 must look missing, so that libraries fall back to clone.
        assert_eq!(host.ok(["--", "sh", "-c", &call(435, ", 0, 0")]), ENOSYS);
        assert_eq!(host.ok(["--", "sh", "-c", "grep Seccomp: /proc/self/status"]).trim(), "Seccomp:\t2");
    };

    a_profile_of_one_s_own_is_obeyed: |host| {
        let dir = host.home_dir("profiles");
        let file = dir.join("p.json");
        fs::write(&file, r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
            {"names": ["getcwd"], "action": "SCMP_ACT_ERRNO", "errnoRet": 95},
            {"names": ["kill"], "action": "SCMP_ACT_ERRNO", "errnoRet": 7,
             "args": [{"index": 1, "value": 23, "op": "SCMP_CMP_EQ"}]}]}"#).unwrap();
        let option = format!("seccomp={}", file.display());
        let script = format!("{}; {}; {}", call(79, ", $b = \"a\" x 9, 9"), call(62, ", $$ + 0, 23"), call(62, ", $$ + 0, 0"));
        assert_eq!(host.ok(["--security-opt", &option, "--", "sh", "-c", &script]), "957ok");
        fs::write(&file, "{").unwrap();
        let said = host.fails(125, ["--security-opt", &option, "--", "true"]);
        assert!(said.contains("p.json"), "{said}");
        let out = host.ok(["--security-opt", "seccomp=unconfined", "--", "grep", "Seccomp:", "/proc/self/status"]);
        assert_eq!(out.trim(), "Seccomp:\t0");
    };

    rights_are_added_and_taken: |host| {
        let caps = |args: &[&str]| {
            let mut all = args.to_vec();
            all.extend(["--", "sh", "-c", "awk '/CapEff|CapBnd/ {print $2}' /proc/self/status"]);
            let out = host.ok(all);
            let set: Vec<u64> = out.lines().map(|l| u64::from_str_radix(l, 16).unwrap()).collect();
            assert_eq!(set[0], set[1], "{out}");
            set[0]
        };
        assert_eq!(caps(&[]), 0xa804_25fb);
        assert_eq!(caps(&["--cap-drop", "ALL"]), 0);
        assert_eq!(caps(&["--cap-drop", "all", "--cap-add", "CAP_KILL"]), 1 << 5);
        assert_eq!(caps(&["--cap-drop", "mknod"]), 0xa804_25fb & !(1 << 27));
        assert_eq!(caps(&["--cap-add", "NET_ADMIN"]), 0xa804_25fb | 1 << 12);
        let said = host.fails(125, ["--cap-add", "NOPE", "--", "true"]);
        assert!(said.contains("NOPE"), "{said}");
    };

    no_new_rights_are_gained_unless_asked_for: |host| {
        let status = |args: &[&str]| {
            let mut all = args.to_vec();
            all.extend(["--", "grep", "NoNewPrivs", "/proc/self/status"]);
            host.ok(all).trim().to_owned()
        };
        assert_eq!(status(&[]), "NoNewPrivs:\t1");
        assert_eq!(status(&["--security-opt", "no-new-privileges=false"]), "NoNewPrivs:\t0");
    };

    masked_paths_are_empty_and_can_be_opened: |host| {
        let script = "cat /proc/timer_list /proc/keys 2>/dev/null | wc -c; ls /sys/firmware | wc -l; \
                      echo 1 > /proc/sys/kernel/hostname || echo refused";
        let out = host.ok(["--", "sh", "-c", script]);
        assert_eq!(out.lines().collect::<Vec<_>>(), ["0", "0", "refused"], "{out}");
        let out = host.ok(["--security-opt", "mask=/etc/passwd", "--", "sh", "-c", "wc -c < /etc/passwd"]);
        assert_eq!(out, "0\n");
        let info = ["--", "grep", "-c", " /proc/sys ", "/proc/self/mountinfo"];
        let mut open = vec!["--security-opt", "unmask=ALL"];
        open.extend(info);
        assert_eq!(text(&host.run(open).stdout), "0\n");
        assert_eq!(text(&host.run(info).stdout), "1\n");
    };

    nothing_of_ours_is_open_in_the_program: |host| {
        let out = host.ok(["--", "sh", "-c", "ls -l /proc/$$/fd /proc/1/fd 2>/dev/null | grep -c fuse; true"]);
        assert_eq!(out, "0\n");
    };

    a_device_is_there_only_where_asked_for: |host| {
        if matches!(host.who(), Who::Root) {
            assert_eq!(host.ok(["--device", "/dev/fuse", "--", "sh", "-c", "exec 3<>/dev/fuse && echo ok"]), "ok\n");
        }
        let out = host.ok(["--device", "/dev/zero:/dev/mine", "--", "sh", "-c", "head -c 3 /dev/mine | wc -c"]);
        assert_eq!(out, "3\n");
        let said = host.fails(125, ["--device", "/dev/zero:/dev/mine:r", "--", "true"]);
        assert!(said.contains("rwm"), "{said}");
        let said = host.fails(125, ["--device", "/etc/passwd", "--", "true"]);
        assert!(said.contains("no device"), "{said}");
    };

    memory_file_systems_and_limits_of_processes: |host| {
        let script = "stat -f -c %T /t; ulimit -n; df -k /dev/shm | awk 'END {print $2}'; touch /t/x";
        let out = host.ok(["--tmpfs", "/t:size=1M", "--ulimit", "nofile=99:100", "--shm-size", "2M",
                           "--", "sh", "-c", script]);
        assert_eq!(out.lines().collect::<Vec<_>>(), ["tmpfs", "99", "2048"], "{out}");
    };

    programs_that_ask_the_kernel_are_told_the_same: |host| {
        // sysinfo(2): the total of memory is the fifth word; sched_getaffinity(2): nproc counts it.
        let script = "perl -e '$b = \"\\0\" x 128; syscall(99, $b); @w = unpack(\"q5\", $b); print \"$w[4]\\n\"'; \
                      nproc; awk '/MemTotal/ {print $2 * 1024}' /proc/meminfo";
        let out = host.ok(["--memory", "64M", "--cpus", "1", "--", "sh", "-c", script]);
        assert_eq!(out.lines().collect::<Vec<_>>(), ["67108864", "1", "67108864"], "{out}");
        let out = host.ok(["--memory", "64M", "--sysinfo", "kernel", "--", "sh", "-c", script]);
        assert_ne!(out.lines().next(), Some("67108864"), "{out}");
        host.up("told", &["--memory", "64M"], "sleep 1000");
        let out = host.does("exec", ["told", "sh", "-c", script]);
        assert_eq!(out.lines().next(), Some("67108864"), "{out}");
        host.does("rm", ["-f", "told"]);
    };
}

#[test]
fn each_claim_of_the_threat_model_names_tests_that_exist() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let page = fs::read_to_string(root.join("docs/security.md")).unwrap();
    let sources: String = ["tests/runner", "tests/guest/inside"]
        .into_iter()
        .flat_map(|dir| fs::read_dir(root.join(dir)).unwrap())
        .map(|entry| fs::read_to_string(entry.unwrap().path()).unwrap())
        .collect();
    let named: Vec<&str> = page
        .split('`')
        .filter(|word| word.matches('_').count() > 2 && !word.contains(['/', ' ', '-']))
        .collect();
    assert!(named.len() > 10, "{named:?}");
    for test in named {
        assert!(sources.contains(test), "docs/security.md names {test}, which is no test");
    }
}
