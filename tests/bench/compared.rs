//! Reports and comparisons, from records that say what is right.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use support::Scratch;
use support::process::run;

use super::{BENCH, succeed};

/// Writes records of ten rounds in which `mine` takes about `times` as long as overlay.
fn recorded(scratch: &Scratch, name: &str, times: f64) -> PathBuf {
    let dir = scratch.path().join(name);
    fs::create_dir(&dir).expect("mkdir");
    let mut lines = vec![json!({"environment": {
        "facts": [["kernel", "Linux <1>"]], "command": ["bench", "run"], "rounds": 10,
        "scale": "default", "seed": 1, "started": 0,
    }})];
    for subject in ["overlay", "mine"] {
        lines.push(json!({"subject": {
            "name": subject, "family": "file system", "version": "1", "how": "",
        }}));
    }
    for round in 0..10 {
        let overlay = 1e-6 * (1.0 + 0.01 * f64::from(round % 3));
        let mine = overlay * times * (1.0 + 0.005 * f64::from(round % 4 - 2));
        lines.push(row(round, "overlay", overlay));
        lines.push(row(round, "mine", mine));
    }
    let text: String = lines.iter().map(|l| format!("{l}\n")).collect();
    fs::write(dir.join("records.jsonl"), text).expect("write records");
    dir
}

fn row(round: i32, subject: &str, value: f64) -> Value {
    json!({"row": {
        "suite": "ops", "case": "stat, warm", "subject": subject, "round": round, "ops": 1000,
        "value": value, "caller": value, "daemon": 0.0, "bytes": 0, "rss": 0, "fds": 0,
        "written": 0, "digest": "", "exact": "", "noisy": false,
    }})
}

fn compare(a: &Path, b: &Path, args: &[&str]) -> (Option<i32>, String) {
    let out = run(Command::new(BENCH).arg("compare").arg(a).arg(b).args(args));
    (out.status.code(), String::from_utf8_lossy(&out.stdout).into_owned())
}

#[test]
fn what_got_slower_fails_a_comparison_that_forbids_it() {
    let scratch = Scratch::new();
    let (before, after) = (recorded(&scratch, "a", 1.0), recorded(&scratch, "b", 1.5));
    let (code, said) = compare(&before, &after, &["--fail-if-slower", "20%"]);
    assert_eq!(code, Some(3), "{said}");
    assert!(said.contains("ops/stat, warm [mine]") && said.contains("SLOWER"), "{said}");
    let (code, said) = compare(&before, &after, &["--fail-if-slower", "60"]);
    assert_eq!(code, Some(0), "{said}");
    let (code, said) = compare(&after, &before, &["--fail-if-slower", "1"]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("faster"), "{said}");
    let (code, said) = compare(&before, &before, &["--fail-if-slower", "0"]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("2 compared, 2 without a difference"), "{said}");
}

#[test]
fn a_report_is_one_page_that_needs_nothing_else() {
    let scratch = Scratch::new();
    let dir = recorded(&scratch, "run", 2.0);
    let out = succeed(Command::new(BENCH).arg("report").arg(&dir));
    let said = String::from_utf8_lossy(&out.stdout).into_owned();
    assert!(said.contains("stat, warm") && said.contains("1.99 ×"), "{said}");
    let page = fs::read_to_string(dir.join("report.html")).expect("a page");
    for needed in ["<svg", "log axis", "prefers-color-scheme: dark", "times as long as overlay"] {
        assert!(page.contains(needed), "no {needed}");
    }
    for outside in ["http:", "https:", "<script", "<link", "url("] {
        assert!(!page.contains(outside), "{outside} in the page");
    }
    assert!(page.contains("Linux &lt;1&gt;"), "what is read is escaped");
    let flat = fs::read_to_string(dir.join("hyperfine.json")).expect("hyperfine's form");
    let flat: Value = serde_json::from_str(&flat).expect("JSON");
    assert_eq!(flat["results"][0]["times"].as_array().map(Vec::len), Some(10));
    assert!(flat["results"][0]["command"].as_str().is_some_and(|c| c.contains("[overlay]")));
}

#[test]
fn errors_name_what_was_wrong() {
    let scratch = Scratch::new();
    let says = |args: &[&str]| {
        let out = run(Command::new(BENCH).args(args).current_dir(scratch.path()));
        (out.status.code(), String::from_utf8_lossy(&out.stderr).into_owned())
    };
    let (code, said) = says(&["report", "nowhere"]);
    assert!(code == Some(1) && said.contains("nowhere"), "{said}");
    let (code, said) = says(&["run", "--suite", "nonsense"]);
    assert!(code == Some(1) && said.contains("--suite nonsense: no suite is called so"), "{said}");
    let (code, said) = says(&["run", "--rounds", "0"]);
    assert!(code == Some(2) && said.contains("--rounds"), "{said}");
    // Whether a user was found for the subject or not, as whom the test runs or not.
    let (code, said) = says(&["run", "--drop-caches", "--subject", "overlay@user"]);
    assert!(code == Some(1) && said.contains("--drop-caches"), "{said}");
    let (code, said) = says(&["run", "--dir", "nowhere"]);
    assert!(code == Some(1) && said.contains("--dir nowhere"), "{said}");
}
