//! Bad input: one line that says what to do, code 125, nothing left behind.

use crate::fixture::{Host, text};
use crate::for_each_user;
use support::process::run;

for_each_user! {
    bad_arguments_are_told_in_one_line: |host| {
        let rows: [(&[&str], &str); 12] = [
            (&["--memory", "lots", "--", "true"], "256M"),
            (&["--memory", "-1", "--", "true"], "--memory"),
            (&["--cpus", "many", "--", "true"], "1.5"),
            (&["--cpus", "0", "--", "true"], "0.01"),
            (&["--pids-limit", "0", "--", "true"], "whole number"),
            (&["--rootfs", "/no/such/root", "--", "true"], "give an existing directory"),
            (&["--rootfs", "/etc/passwd", "--", "true"], "/etc/passwd"),
            (&["--name", "a/b", "--", "true"], "is no name"),
            (&["-u", "a b", "--", "true"], "is no user"),
            (&["-w", "relative", "--", "true"], "absolute"),
            (&["--no-such-option", "--", "true"], "--no-such-option"),
            (&["--rm", "--upper", "/tmp/x", "--", "true"], "--upper"),
        ];
        for (args, hint) in rows {
            let said = host.fails(125, args);
            assert!(said.contains(hint), "{args:?}: {said}");
        }
        let none: [&str; 0] = [];
        host.fails(125, none);
    };

    a_working_directory_that_is_missing_is_named: |host| {
        let said = host.fails(125, ["-w", "/no/such/dir", "--", "true"]);
        assert!(said.contains("/no/such/dir"), "{said}");
    };

    the_start_is_timed_step_by_step: |host| {
        let out = host.run(["--trace-start", "--", "true"]);
        let said = text(&out.stderr);
        for step in ["mount /proc", "change the root", "the program is started"] {
            assert!(said.contains(step), "{said}");
        }
    };

    a_dry_run_touches_nothing: |host| {
        let out = host.ok(["--dry-run", "--memory", "64M", "--", "touch", "/x"]);
        assert!(out.contains("change the root") && out.contains("touch"), "{out}");
    };

    a_name_is_used_once_at_a_time: |host| {
        let mut first = host.command();
        first.args(["--rm", "--name", "only", "-i", "--", "sh", "-c", "echo up; cat"]);
        let mut first = first
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let mut up = [0u8; 3];
        std::io::Read::read_exact(first.stdout.as_mut().unwrap(), &mut up).unwrap();
        let said = host.fails(125, ["--rm", "--name", "only", "--", "true"]);
        assert!(said.contains("only"), "{said}");
        drop(first.stdin.take());
        assert!(first.wait().unwrap().success());
        host.ok(["--rm", "--name", "only", "--", "true"]);
    };

    the_doctor_tells_whether_containers_can_run: |host| {
        let out = run(host.bare().arg("--state").arg(host.state()).arg("doctor"));
        assert!(out.status.success(), "{}", text(&out.stdout));
        assert!(text(&out.stdout).contains("/dev/fuse"));
    };
}

#[test]
fn help_documents_the_exit_codes() {
    support::require!("errors::help", support::privilege::root());
    let host = Host::root().expect("root");
    let out = run(host.bare().args(["run", "--help"]));
    assert!(out.status.success());
    let help = text(&out.stdout);
    for code in ["125", "126", "127", "128+N"] {
        assert!(help.contains(code), "{help}");
    }
}

/// Runs the runner where the host lacks something, in a mount namespace of its own.
fn on_a_host_with(setup: &str, test: &str, expect: &str) {
    let host = match Host::root() {
        Ok(host) => host,
        Err(missing) => return support::privilege::skip(test, &missing),
    };
    let mut command = std::process::Command::new("unshare");
    command.args(["-m", "--propagation", "private", "sh", "-euc"]);
    command.arg(format!("{setup}; exec \"$@\"")).arg("sh");
    command.arg(host.dir().join("container-tool")).arg("--state").arg(host.state());
    let out = run(command.args(["run", "--", "true"]));
    assert_eq!(out.status.code(), Some(125), "{}", text(&out.stderr));
    let said = text(&out.stderr);
    assert!(said.contains(expect) && said.trim_end().lines().count() == 1, "{said}");
}

#[test]
fn without_dev_fuse_the_module_is_named() {
    let setup =
        "mount -t tmpfs tmpfs /dev; mknod -m 666 /dev/null c 1 3; mknod -m 666 /dev/urandom c 1 9";
    on_a_host_with(setup, "errors::no_fuse", "modprobe fuse");
}

#[test]
fn a_user_who_may_not_make_namespaces_is_told_what_to_set() {
    let host = match Host::nameless() {
        Ok(host) => host,
        Err(missing) => return support::privilege::skip("errors::no_userns", &missing),
    };
    // A user namespace in which no further one may be made is a host that forbids them.
    let inner = format!(
        "echo 0 > /proc/sys/user/max_user_namespaces; exec setpriv --bounding-set -sys_admin \
         --inh-caps -all {} --state {} run -- true",
        host.dir().join("container-tool").display(),
        host.state().display()
    );
    let out = run(std::process::Command::new("setpriv")
        .args(["--reuid", "54321", "--regid", "54321", "--clear-groups"])
        .args(["unshare", "-Urm", "sh", "-c", &inner]));
    assert_eq!(out.status.code(), Some(125), "{}", text(&out.stderr));
    let said = text(&out.stderr);
    assert!(said.contains("max_user_namespaces"), "{said}");
}
