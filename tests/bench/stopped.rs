//! ^C: finished rounds are kept, nothing is left.

use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::time::Instant;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use support::privilege::root;
use support::process::{PATIENCE, wait};
use support::{Scratch, require};

use super::{bench_run, out, records};

#[test]
fn an_interrupt_leaves_nothing_and_keeps_finished_rounds() {
    require!("an_interrupt_leaves_nothing_and_keeps_finished_rounds", root());
    let scratch = Scratch::new();
    let args =
        ["--rounds", "100000", "--suite", "ops", "--subject", "unionfs", "--subject", "overlay"];
    let mut child = bench_run(&scratch, &args)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("start bench");
    let file = out(&scratch).join("records.jsonl");
    let start = Instant::now();
    // Rows are written at the end of a round: with the first, the second begins.
    while !fs::read_to_string(&file).is_ok_and(|t| t.contains("{\"row\"")) {
        assert!(start.elapsed() < PATIENCE, "no round is finished");
        assert!(child.try_wait().expect("look after bench").is_none(), "bench has ended");
        std::thread::yield_now();
    }
    kill(Pid::from_raw(child.id() as i32), Signal::SIGINT).expect("interrupt bench");
    let status = wait(&mut child).expect("bench hangs");
    assert_eq!(status.code(), Some(130));
    let rows = records(&out(&scratch), "row");
    assert!(!rows.is_empty());
    let notes = records(&out(&scratch), "note");
    assert!(
        notes.iter().any(|n| n.as_str().is_some_and(|n| n.starts_with("stopped"))),
        "{notes:?}"
    );
    assert!(out(&scratch).join("report.html").exists());
    let left: Vec<_> =
        fs::read_dir(scratch.path()).expect("list").flatten().map(|e| e.path()).collect();
    assert_eq!(left, [out(&scratch)], "files are left");
    assert_eq!(processes(scratch.path()), Vec::<String>::new(), "processes are left");
    let mounts = fs::read_to_string("/proc/self/mounts").expect("read mounts");
    assert!(!mounts.contains(&scratch.path().join("bench-").display().to_string()), "{mounts}");
}

/// Returns the command lines of all processes that name the directory.
pub(crate) fn processes(dir: &Path) -> Vec<String> {
    let name = dir.display().to_string();
    let entries = fs::read_dir("/proc").expect("list /proc").flatten();
    let lines = entries.filter_map(|e| fs::read(e.path().join("cmdline")).ok());
    let lines = lines.map(|l| String::from_utf8_lossy(&l).replace('\0', " "));
    lines.filter(|l| l.contains(&name)).collect()
}
