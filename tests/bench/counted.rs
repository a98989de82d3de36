//! Counts of messages, beside those of another counter.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use support::privilege::{Missing, Unprivileged, installed, root};
use support::requests::{Counter, Messages};
use support::{Scratch, Subject, Union, require};

use super::{UNIONFS, bench_run, out, records, succeed};

/// Files of bench's quick size.
const FILES: u32 = 100;

#[test]
fn counts_are_those_of_a_count_by_hand_for_five_operations() {
    let test = "counts_are_those_of_a_count_by_hand_for_five_operations";
    require!(test, root());
    let layer: String = (0..FILES).map(|n| format!("f flat/file-{n:05} \"x\"\n")).collect();
    let union = Union::on(&Subject::ours(UNIONFS)).layer(&layer).mount();
    let counter = Counter::new(union.root());
    require!(test, counter.as_ref().map(drop).map_err(Clone::clone));
    let counter = counter.expect("checked above");
    let hand = by_hand(&counter, union.root());
    let scratch = Scratch::new();
    succeed(&mut bench_run(&scratch, &["--rounds", "1", "--suite", "ops", "--subject", "unionfs"]));
    let costs = records(&out(&scratch), "costs");
    for (case, messages) in hand {
        let of = costs.iter().find(|c| c["case"] == case);
        let of = of.unwrap_or_else(|| panic!("no counts for {case}: {costs:?}"));
        assert!(of["messages_by"].as_str().is_some_and(|by| by.contains("fuse_request_send")));
        same(case, of, &messages);
    }
    let created = costs.iter().find(|c| c["case"] == "create-write-close").expect("counts");
    let syscalls = created["syscalls"].as_object().expect("system calls by name");
    assert!(syscalls.contains_key("openat"), "a daemon opens what it creates: {syscalls:?}");
}

#[test]
fn a_daemon_that_is_asked_counts_what_the_kernel_counts() {
    let test = "a_daemon_that_is_asked_counts_what_the_kernel_counts";
    require!(test, root(), installed("strace"));
    let user = Unprivileged::find();
    require!(test, user.as_ref().map(drop).map_err(Clone::clone));
    let user = user.expect("checked above");
    let scratch = Scratch::new();
    // Where that user can execute them, and write.
    let home = scratch.dir("home");
    let [bench, unionfs] = ["bench", "unionfs"].map(|name| home.join(name));
    support::process::copy_program(Path::new(super::BENCH), &bench);
    support::process::copy_program(Path::new(UNIONFS), &unionfs);
    user.own(&home);
    let run = |mut command: Command, name: &str| {
        let to = home.join(name);
        command.args(["run", "--quick", "--rounds", "1", "--suite", "ops/new files"]);
        command.args(["--subject", "unionfs", "--unionfs"]).arg(&unionfs);
        command.arg("--dir").arg(&home).arg("--out").arg(&to);
        succeed(&mut command);
        records(&to, "costs")
    };
    let asked = run(user.command(&bench.to_string_lossy()), "asked");
    let traced = run(Command::new(&bench), "traced");
    let by = |costs: &[Value], who: &str| {
        costs.iter().all(|c| c["messages_by"].as_str().is_some_and(|by| by.contains(who)))
    };
    require!(test, by(&traced, "fuse_request_send").then_some(()).ok_or_else(no_trace));
    assert!(by(&asked, "SIGUSR1") && !asked.is_empty(), "{asked:?}");
    for of in &asked {
        let case = of["case"].as_str().expect("a name");
        let theirs = traced.iter().find(|c| c["case"] == case).expect("the same case");
        let messages = theirs["messages"].as_object().expect("messages by name");
        let scale = theirs["ops"].as_u64().expect("a number") / u64::from(FILES);
        let counted = messages.iter().map(|(k, n)| (k.clone(), n.as_u64().unwrap_or(0) / scale));
        same(case, of, &counted.collect());
    }
}

fn no_trace() -> Missing {
    Missing::Kernel("there is no trace event fuse_request_send (Linux 6.11)".into())
}

/// Asserts that bench's counts for one operation are those counted by hand, but for what happens once
/// or (RELEASE) when nobody waits for it.
#[track_caller]
fn same(case: &str, costs: &Value, hand: &Messages) {
    let ops = costs["ops"].as_f64().expect("a number of operations");
    let theirs = costs["messages"].as_object().expect("messages by name");
    let names = hand.keys().chain(theirs.keys()).filter(|n| *n != "RELEASE");
    for name in names {
        let counted = theirs.get(name).and_then(Value::as_f64).unwrap_or(0.0) / ops;
        let expected = hand.get(name).copied().unwrap_or(0) as f64 / f64::from(FILES);
        assert!((counted - expected).abs() < 0.1, "{case}: {name}: {counted} and not {expected}");
    }
}

fn by_hand(counter: &Counter, point: &Path) -> Vec<(&'static str, Messages)> {
    let paths = |dir: &str| -> Vec<PathBuf> {
        (0..FILES).map(|n| point.join(dir).join(format!("file-{n:05}"))).collect()
    };
    let flat = paths("flat");
    let stat = || {
        let known = |p: &PathBuf| fs::symlink_metadata(p).is_ok_and(|m| m.len() == 1);
        assert!(flat.iter().all(known), "stat");
    };
    let read = || {
        for path in &flat {
            let mut block = [0; 4096];
            let n = File::open(path).expect("open").read(&mut block).expect("read");
            assert_eq!(n, 1);
        }
    };
    stat();
    let stats = counter.count(stat);
    // The first time reads, the second learns that reading has changed the access time.
    read();
    read();
    let reads = counter.count(read);
    fs::create_dir(point.join("new")).expect("mkdir");
    let new = paths("new");
    let creates = counter.count(|| {
        for path in &new {
            File::create(path).expect("create").write_all(&[7; 4096]).expect("write");
        }
    });
    let renames = counter.count(|| {
        new.iter().for_each(|p| fs::rename(p, p.with_extension("moved")).expect("rename"));
    });
    let unlinks = counter.count(|| {
        new.iter().for_each(|p| fs::remove_file(p.with_extension("moved")).expect("unlink"));
    });
    vec![
        ("stat, warm", stats),
        ("open-read-close, warm", reads),
        ("create-write-close", creates),
        ("rename", renames),
        ("unlink", unlinks),
    ]
}
