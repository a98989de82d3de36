//! SQLite databases in a lower layer, written and read by many processes while they are copied up.
//!
//! `PALIMPSEST_SQLITE` sets how many databases are tried; from 100 on they are of 90 MB, as is the
//! package database that fuse-overlayfs was seen to corrupt.

use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};

use support::privilege::installed;
use support::process::{run, wait};
use support::{Scratch, Union, require};

use crate::subjects::ours;

/// Processes at once, half of which write.
const PROCESSES: usize = 8;

/// Rows of a database; each has a kilobyte.
const ROWS: usize = 4000;

fn sql(database: &Path, text: &str) -> Output {
    run(Command::new("sqlite3").arg("-bail").arg(database).arg(text))
}

#[track_caller]
fn said(database: &Path, text: &str) -> String {
    let out = sql(database, text);
    assert!(out.status.success(), "{text}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8_lossy(&out.stdout).trim().to_owned()
}

/// Transactions or looks of one process.
const STEPS: usize = 10;

/// How a database is used.
#[derive(Clone, Copy, Debug)]
struct Way {
    journal: &'static str,
    mmap: u64,
}

const WAYS: [Way; 4] = [
    Way { journal: "WAL", mmap: 0 },
    Way { journal: "WAL", mmap: 1 << 30 },
    Way { journal: "DELETE", mmap: 0 },
    Way { journal: "DELETE", mmap: 1 << 30 },
];

/// Makes a database of so many rows.
fn fill(database: &Path, way: Way, rows: usize) {
    let text = format!(
        "PRAGMA journal_mode={}; CREATE TABLE t(k INTEGER PRIMARY KEY, who INT, v BLOB);
         WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i < {rows})
         INSERT INTO t SELECT i, -1, randomblob(1000) FROM n;",
        way.journal
    );
    said(database, &text);
    let wal = format!("{}-wal", database.display());
    assert!(!Path::new(&wal).exists(), "the database is complete in one file");
}

/// What one process does: writers change rows of their own in many transactions, readers look at rows
/// of others and at all.
fn task(n: usize, way: Way, rows: usize) -> String {
    let start = format!("PRAGMA busy_timeout=50000; PRAGMA mmap_size={};", way.mmap);
    let step = |i: usize| {
        let part = rows / PROCESSES / STEPS;
        let first = (n * STEPS + i) * part + 1;
        let range = format!("k BETWEEN {first} AND {}", first + part - 1);
        match (n % 2, i % 4) {
            (0, _) => format!(
                "BEGIN IMMEDIATE; UPDATE t SET who={n}, v=randomblob(1100) WHERE {range};
                 INSERT INTO t(who, v) VALUES({n}, zeroblob(5000)); COMMIT;"
            ),
            (_, 0) => seen("", rows),
            _ => seen(&format!("WHERE {range} AND length(v) > 0"), part),
        }
    };
    start + &(0..STEPS).map(step).collect::<String>()
}

fn seen(what: &str, least: usize) -> String {
    format!("SELECT CASE WHEN count(*) >= {least} THEN 'all' ELSE 'lost' END FROM t {what};")
}

/// Runs the processes on one database of a union, and asserts that nothing is lost or damaged.
fn try_once(u: &mut Union, way: Way, rows: usize) {
    let db = u.path("db");
    // Held open and read before the copy-up.
    assert_eq!(said(&db, "SELECT count(*) FROM t"), rows.to_string());
    let processes: Vec<_> = (0..PROCESSES)
        .map(|n| {
            let mut command = Command::new("sqlite3");
            command.arg("-bail").arg(&db).arg(task(n, way, rows)).stdin(Stdio::null());
            let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
            (n, child.expect("start sqlite3"))
        })
        .collect();
    for (n, mut child) in processes {
        let status = wait(&mut child).unwrap_or_else(|| panic!("{way:?}: process {n} hangs"));
        let out = child.wait_with_output().expect("read what it said");
        let (text, errors) =
            (String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
        assert!(status.success() && errors.is_empty(), "{way:?}, process {n}: {text}{errors}");
        assert!(!text.contains("lost"), "{way:?}, process {n}: rows are missing");
    }
    let changed = rows / PROCESSES * (PROCESSES / 2);
    for _ in 0..2 {
        assert_eq!(said(&db, "PRAGMA integrity_check"), "ok", "{way:?}");
        let counts = said(&db, "SELECT count(*), sum(length(v)=1100), sum(length(v)=5000) FROM t");
        let new = PROCESSES / 2 * STEPS;
        assert_eq!(counts, format!("{}|{changed}|{new}", rows + new), "{way:?}");
        u.remount();
    }
    assert!(u.upper("db").exists(), "it was copied up");
}

#[test]
fn databases_survive_copy_up_under_many_processes() {
    let test = "databases_survive_copy_up_under_many_processes";
    require!(test, ours().usable(), installed("sqlite3"));
    let rounds = std::env::var("PALIMPSEST_SQLITE").ok();
    let rounds: usize = rounds.map_or(4, |n| n.parse().expect("PALIMPSEST_SQLITE is a number"));
    let rows = if rounds >= 100 { 80_000 } else { ROWS };
    let models = Scratch::new();
    let model = |way: usize| models.path().join(format!("model{way}"));
    for (n, way) in WAYS.iter().enumerate() {
        fill(&model(n), *way, rows);
    }
    let next = AtomicUsize::new(0);
    let try_next = || {
        let round = next.fetch_add(1, Ordering::Relaxed);
        let n = round % WAYS.len();
        if round < rounds {
            let mut u = Union::on(&ours()).layer("").mount();
            u.unmount();
            std::fs::copy(model(n), u.lower(0, "db")).expect("copy the database");
            u.mount();
            try_once(&mut u, WAYS[n], rows);
            let lower = std::fs::read(u.lower(0, "db")).expect("read");
            assert!(
                lower == std::fs::read(model(n)).expect("read"),
                "the lower layer is as it was"
            );
        }
        round < rounds
    };
    // The processes mostly wait for each other: three databases at once take little longer than one.
    std::thread::scope(|scope| (0..3).for_each(|_| drop(scope.spawn(|| while try_next() {}))));
    println!("{rounds} of {rounds} databases of {rows} kilobytes are intact");
}
