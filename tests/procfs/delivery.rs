//! How the files get into containers: injected, revived, by a hook.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use support::require;

use crate::container::{Container, Limits, Namespaces, v1_controllers};
use crate::seen::{MIB, fuse, kib, no_args};
use crate::shim::{PROGRAM, Shim};
use crate::survival::next_worker;

fn limited() -> Container {
    let limits = Limits { memory: Some(64 * MIB), ..Limits::default() };
    Container::start_bare(&limits, Namespaces::Own)
}

#[track_caller]
fn ok(out: Output) {
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
}

fn run(verb: &str, mount: &Path, rest: &[&str]) -> Output {
    let out = Command::new(PROGRAM).arg(verb).arg("--mount").arg(mount).args(rest).output();
    out.expect("run the program")
}

fn total(container: &Container) -> u64 {
    kib(&container.sh("cat /proc/meminfo"), "MemTotal")
}

fn mounts(container: &Container) -> usize {
    // Mounts of other tests, which run beside this one, come and go in other places.
    let script =
        "awk '$5 ~ \"^/(proc|sys)/\" && / fuse.procfs-shim /' /proc/self/mountinfo | wc -l";
    container.sh(script).trim().parse().unwrap()
}

#[test]
fn files_are_injected_into_a_running_container_and_taken_away_again() {
    require!("files_are_injected_into_a_running_container", v1_controllers().and_then(|()| fuse()));
    // The container is older than the daemon, whose mount it doesn't have.
    let container = limited();
    let shim = Shim::start(&no_args());
    let host = total(&container);
    let before = mounts(&container);
    let pid = container.init().to_string();
    ok(run("inject", shim.path(), &[&pid]));
    assert_eq!(total(&container), 65536);
    let once = mounts(&container);
    // A second time changes nothing.
    ok(run("inject", shim.path(), &[&pid]));
    assert_eq!(mounts(&container), once);
    container.sh("test -s /proc/pressure/cpu || ! test -e /proc/pressure/cpu; cat /proc/uptime");
    ok(Command::new(PROGRAM).args(["inject", "--undo", &pid]).output().expect("run"));
    assert_eq!(total(&container), host);
    assert_eq!(mounts(&container), before);
}

#[test]
fn a_container_whose_daemon_has_died_is_revived() {
    require!("a_container_whose_daemon_has_died", v1_controllers().and_then(|()| fuse()));
    let container = limited();
    let pid = container.init().to_string();
    let shim = Shim::start(&no_args());
    ok(run("inject", shim.path(), &[&pid]));
    let bound = mounts(&container);
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(shim.pid()), nix::sys::signal::SIGKILL)
        .expect("kill the supervisor");
    // Its end is complete when the connection is.
    while std::fs::File::open(shim.file("proc/meminfo")).is_ok() {
        std::thread::yield_now();
    }
    container.sh("! cat /proc/meminfo 2>/dev/null");
    let next = Shim::start(&no_args());
    ok(run("reattach", next.path(), &[&pid]));
    assert_eq!(total(&container), 65536);
    assert_eq!(mounts(&container), bound);
}

#[test]
fn what_is_missing_for_an_injection_is_said() {
    require!("what_is_missing_for_an_injection_is_said", fuse());
    let dir = tempfile::tempdir().expect("a directory");
    let out = run("inject", dir.path(), &[&std::process::id().to_string()]);
    assert_eq!(out.status.code(), Some(1));
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(said.contains("no procfs-shim is mounted") && said.lines().count() == 1, "{said}");
}

#[test]
fn the_hook_binds_below_the_bundle_s_root() {
    require!("the_hook_binds_below_the_bundle_s_root", fuse());
    let shim = Shim::start(&no_args());
    let bundle = tempfile::tempdir().expect("a directory");
    std::fs::create_dir_all(bundle.path().join("root/proc")).expect("a root");
    std::fs::write(bundle.path().join("root/proc/meminfo"), "").expect("a file");
    std::fs::write(bundle.path().join("config.json"), r#"{"root": {"path": "root"}}"#).expect("");
    let state = format!(r#"{{"pid": 1, "bundle": "{}"}}"#, bundle.path().display());
    let script =
        "printf %s \"$1\" | \"$0\" hook --mount \"$2\" && head -n 1 \"$3/root/proc/meminfo\"";
    let out = Command::new("unshare")
        .args(["-m", "sh", "-c", script, PROGRAM, &state])
        .args([shim.path(), bundle.path()])
        .stdin(Stdio::null())
        .output()
        .expect("run");
    assert!(String::from_utf8_lossy(&out.stdout).starts_with("MemTotal:"), "{out:?}");
}

#[test]
fn contributed_files_name_verbs_that_there_are() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../procfs-shim/contrib");
    let read = |name: &str| std::fs::read_to_string(dir.join(name)).expect("a contributed file");
    let parse = |text: &str| serde_json::from_str::<serde_json::Value>(text).expect("JSON");
    let daemonset = read("daemonset.yaml");
    let inside = daemonset.split("<<'SPEC'\n").nth(1).and_then(|t| t.split("SPEC\n").next());
    let hooks = [
        parse(&read("90-procfs-shim.json"))["hook"]["args"].clone(),
        parse(&read("cdi-procfs-shim.json"))["devices"][0]["containerEdits"]["hooks"][0]["args"]
            .clone(),
        parse(inside.expect("a specification"))["devices"][0]["containerEdits"]["hooks"][0]["args"]
            .clone(),
    ];
    for hook in hooks {
        let args: Vec<&str> =
            hook.as_array().expect("arguments").iter().flat_map(|a| a.as_str()).collect();
        assert_eq!(args[..2], ["procfs-shim", "hook"]);
        let help = Command::new(PROGRAM).args(&args[1..]).arg("--help").output().expect("run");
        assert!(help.status.success(), "{args:?}");
    }
    // Each command line of the unit, checked by its own help.
    let unit = read("procfs-shim.service");
    let is_ours = |(name, line): &(&str, &str)| name.starts_with("Exec") && !line.contains("/sh ");
    let lines = unit.lines().filter_map(|l| l.split_once("=").filter(is_ours));
    let mut count = 0;
    for (_, line) in lines {
        let mut words = line.trim_start_matches('-').split(' ');
        assert_eq!(words.next(), Some("/usr/bin/procfs-shim"));
        let out = Command::new(PROGRAM).args(words).arg("--help").output().expect("run");
        assert!(out.status.success(), "{line}");
        count += 1;
    }
    assert_eq!(count, 3);
}

#[test]
fn the_unit_does_not_wait_for_a_mount_that_nobody_serves() {
    require!("the_unit_does_not_wait_for_a_mount_that_nobody_serves", fuse());
    let unit = Path::new(env!("CARGO_MANIFEST_DIR")).join("../procfs-shim/contrib");
    let unit = std::fs::read_to_string(unit.join("procfs-shim.service")).expect("the unit");
    let lines = || unit.lines().filter(|line| !line.starts_with('#'));
    let settings = || lines().filter_map(|line| line.split_once('='));
    // systemd itself would look at it for these, at each restart.
    let looks = |name: &str| name.ends_with("Directory");
    assert!(settings().all(|(name, _)| !looks(name)), "{unit}");
    let shim = Shim::start(&no_args());
    let all = [shim.pid(), next_worker(shim.pid(), &BTreeSet::new())].map(Pid::from_raw);
    for pid in all {
        kill(pid, Signal::SIGSTOP).expect("stop it");
    }
    let before = settings().find(|(name, _)| *name == "ExecStartPre").expect("a first step").1;
    let script = before.split('\'').nth(1).expect("a script in quotes");
    let script = script.replace("/var/lib/procfs-shim", shim.path().to_str().expect("a path"));
    let out = Command::new("timeout").args(["60", "sh", "-c", &script]).output();
    for pid in all {
        kill(pid, Signal::SIGCONT).expect("let it go on");
    }
    ok(out.expect("run the step"));
    shim.end();
}
