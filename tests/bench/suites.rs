//! Suites that work with programs of others: what they measure, what they leave, and what is said where
//! one is missing.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Value;
use support::Scratch;
use support::privilege::{Unprivileged, installed, root};
use support::process::PATIENCE;
use support::require;

use super::{bench_run, out, records, succeed};

const SHIM: &str = env!("CARGO_BIN_EXE_procfs-shim-under-test");
const RUNNER: &str = env!("CARGO_BIN_EXE_runner-under-test");

/// Runs suites once on subjects, and returns the rows.
#[track_caller]
fn rows(scratch: &Scratch, suite: &str, subjects: &[&str]) -> Vec<Value> {
    let args = ["--rounds", "1", "--no-costs", "--suite", suite];
    let mut command = bench_run(scratch, &args);
    command.args(["--procfs-shim", SHIM, "--runner", RUNNER]);
    for subject in subjects {
        command.args(["--subject", subject]);
    }
    succeed(&mut command);
    records(&out(scratch), "row")
}

/// Asserts that each subject has a value for each of so many cases, and no error.
#[track_caller]
fn complete(rows: &[Value], subjects: &[&str], cases: usize) {
    for subject in subjects {
        let own: Vec<_> = rows.iter().filter(|r| r["subject"] == *subject).collect();
        assert_eq!(own.len(), cases, "{subject}: {own:?}");
        for row in own {
            assert!(row["value"].as_f64().is_some_and(|v| v > 0.0), "{subject}: {row}");
            assert!(row.get("error").is_none(), "{subject}: {row}");
        }
    }
}

/// Asserts that only results are left: no file, no cgroup, no process.
#[track_caller]
fn nothing_left(scratch: &Scratch) {
    let left: Vec<_> = fs::read_dir(scratch.path()).expect("list").flatten().collect();
    assert!(left.iter().all(|e| e.path() == out(scratch)), "files are left: {left:?}");
    assert_eq!(super::stopped::processes(scratch.path()), Vec::<String>::new());
}

#[test]
fn a_killed_daemon_has_a_pause_and_what_has_none_has_no_row() {
    let test = "a_killed_daemon_has_a_pause_and_what_has_none_has_no_row";
    require!(test, root());
    let scratch = Scratch::new();
    let rows = rows(&scratch, "pause", &["overlay", "unionfs", "procfs-shim", "raw"]);
    complete(&rows, &["unionfs", "procfs-shim"], 1);
    complete(&rows, &["overlay", "raw"], 0);
    nothing_left(&scratch);
}

#[test]
fn a_package_is_installed_with_the_same_result() {
    let test = "a_package_is_installed_with_the_same_result";
    require!(test, root(), installed("dpkg"), installed("dpkg-deb"));
    let scratch = Scratch::new();
    let rows = rows(&scratch, "install/dpkg", &["bare", "overlay", "unionfs"]);
    complete(&rows, &["bare", "overlay", "unionfs"], 1);
    let digests: Vec<_> = rows.iter().map(|r| r["digest"].clone()).collect();
    assert!(digests.iter().all(|d| *d == digests[0] && d.as_str() != Some("")), "{digests:?}");
}

#[test]
fn work_whose_program_is_missing_is_listed_with_its_reason() {
    let test = "work_whose_program_is_missing_is_listed_with_its_reason";
    require!(test, root());
    let scratch = Scratch::new();
    let args = ["--rounds", "1", "--no-costs", "--suite", "install", "--suite", "ops/lookups"];
    let programs = scratch.dir("programs");
    std::os::unix::fs::symlink("/bin/cp", programs.join("cp")).expect("link to cp");
    succeed(bench_run(&scratch, &args).args(["--subject", "bare"]).env("PATH", programs));
    let absent = records(&out(&scratch), "absent");
    for (block, why) in [
        ("install/npm", "npm is not installed"),
        ("install/pip", "python3 is not installed"),
        ("install/dpkg", "dpkg is not installed"),
    ] {
        let listed = absent.iter().any(|a| a["name"] == block && a["why"] == why);
        assert!(listed, "{block}: {absent:?}");
    }
    let rows = records(&out(&scratch), "row");
    assert!(rows.iter().all(|r| r["block"] == "lookups") && !rows.is_empty(), "{rows:?}");
}

#[test]
fn containers_are_committed_by_each_engine() {
    let test = "containers_are_committed_by_each_engine";
    require!(test, root(), installed("podman"), installed("buildah"), installed("busybox"));
    let scratch = Scratch::new();
    let before = cgroups();
    let rows = rows(&scratch, "commit", &["podman", "buildah", "runner", "unshare"]);
    complete(&rows, &["podman", "buildah", "runner"], 1);
    // It starts containers and commits none.
    complete(&rows, &["unshare"], 0);
    nothing_left(&scratch);
    // Other tests have cgroups of their own while they run: what was left would stay.
    let mut seen = cgroups();
    seen.retain(|name| !before.contains(name));
    let start = Instant::now();
    while cgroups().iter().any(|name| seen.contains(name)) {
        assert!(start.elapsed() < PATIENCE, "cgroups are left: {seen:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn engines_build_commit_and_start_as_root_and_as_a_user() {
    let test = "engines_build_commit_and_start_as_root_and_as_a_user";
    require!(
        test,
        root(),
        installed("podman"),
        installed("busybox"),
        installed("setpriv"),
        installed("newuidmap"),
        Unprivileged::find().map(drop),
    );
    let scratch = Scratch::new();
    let rows = rows(&scratch, "engines", &["podman+unionfs", "podman+unionfs@user"]);
    complete(&rows, &["podman+unionfs"], 4);
    // A user's containers can have the user's own ids as well.
    complete(&rows, &["podman+unionfs@user"], 5);
    nothing_left(&scratch);
}

#[test]
fn every_operation_is_in_the_distribution_of_its_case() {
    require!("every_operation_is_in_the_distribution_of_its_case", root());
    let scratch = Scratch::new();
    let rows = rows(&scratch, "ops/lookups", &["overlay"]);
    let warm = rows.iter().find(|r| r["case"] == "stat, warm").expect("a row");
    let spread = warm["spread"].as_array().expect("a spread");
    let counted: u64 = spread.iter().filter_map(|step| step[1].as_u64()).sum();
    assert_eq!(Some(counted), warm["ops"].as_u64(), "{warm}");
    let page = fs::read_to_string(out(&scratch).join("report.html")).expect("a page");
    for needed in ["share of operations (axis by nines)", "took at most so long (log axis)"] {
        assert!(page.contains(needed), "no {needed}");
    }
}

/// Returns the cgroups of runs.
fn cgroups() -> Vec<String> {
    let inside = |path: &Path| fs::read_dir(path).into_iter().flatten().flatten();
    let hierarchies = inside(Path::new("/sys/fs/cgroup"));
    let all = hierarchies.flat_map(|h| inside(&h.path()).collect::<Vec<_>>());
    let names = all.map(|e| e.file_name().to_string_lossy().into_owned());
    names.filter(|name| name.starts_with("bench-")).collect()
}
