//! The instrument itself: whether `bench` tells what is wrong, slow, missing, and how many messages.
#![forbid(unsafe_code)]

mod compared;
mod counted;
mod judged;
mod stopped;
mod suites;

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;
use support::Scratch;

const BENCH: &str = env!("CARGO_BIN_EXE_bench-under-test");
const UNIONFS: &str = env!("CARGO_BIN_EXE_unionfs-under-test");

/// Returns a command of `bench run` that works in `scratch` and writes to `scratch/out`.
fn bench_run(scratch: &Scratch, args: &[&str]) -> Command {
    let mut command = Command::new(BENCH);
    command.args(["run", "--quick", "--unionfs", UNIONFS]).args(args);
    command.arg("--dir").arg(scratch.path()).arg("--out").arg(out(scratch));
    command
}

fn out(scratch: &Scratch) -> PathBuf {
    scratch.path().join("out")
}

/// Runs a command, which must succeed.
#[track_caller]
fn succeed(command: &mut Command) -> Output {
    let out = support::process::run(command);
    let said = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "{command:?}: {}: {said}", out.status);
    out
}

/// Returns the records of a run of one kind: `row`, `absent`, …
fn records(dir: &Path, kind: &str) -> Vec<Value> {
    let text = std::fs::read_to_string(dir.join("records.jsonl")).expect("read the records");
    let all = text.lines().map(|l| serde_json::from_str::<Value>(l).expect("a record is JSON"));
    all.filter_map(|r| r.get(kind).cloned()).collect()
}

/// Writes a shell script that can be run.
fn script(path: &Path, text: &str) {
    std::fs::create_dir_all(path.parent().expect("a directory")).expect("make a directory");
    std::fs::write(path, format!("#!/bin/sh\n{text}")).expect("write a script");
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).expect("chmod");
}
