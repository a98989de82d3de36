//! POSIX conformance: the crate `pjdfstest`, with the kernel's own failures as the only exceptions.
#![forbid(unsafe_code)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use support::privilege::Missing;
use support::process::{program, run};
use support::subject::KernelFeatures;
use support::{Scratch, Subject, Union, require};

/// Returns the test runner: `$PALIMPSEST_PJDFSTEST`, or an installed one, or where the CI script
/// puts it.
fn pjdfstest() -> Result<PathBuf, Missing> {
    let chosen = std::env::var_os("PALIMPSEST_PJDFSTEST").map(PathBuf::from);
    let by_ci = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/tools/bin/pjdfstest");
    let by_ci = by_ci.is_file().then_some(by_ci);
    chosen.or_else(|| program("pjdfstest")).or(by_ci).ok_or_else(|| {
        Missing::Setup("pjdfstest is not installed (cargo install pjdfstest)".to_owned())
    })
}

/// Returns the tests that are known to fail, with reasons.
fn expected() -> BTreeMap<&'static str, &'static str> {
    let lines = include_str!("expected-failures.txt").lines().filter(|l| !l.starts_with('#'));
    lines.map(|l| l.split_once(" | ").expect("TEST | REASON")).collect()
}

/// What a run found.
struct Results {
    passed: usize,
    failed: BTreeSet<String>,
    log: String,
}

fn conform(subject: &Subject) -> Results {
    let u = Union::on(subject).mount();
    support::process::shell(u.root(), "chmod 777 .");
    let other = Scratch::of_size(16 << 20);
    let config = Path::new(env!("CARGO_MANIFEST_DIR")).join("conformance/pjdfstest.toml");
    let mut command = Command::new(pjdfstest().expect("required by the caller"));
    command.env("RUST_BACKTRACE", "0").arg("-c").arg(config).arg("-p").arg(u.root());
    let out = run(command.arg("-s").arg(other.path()));
    let log = String::from_utf8_lossy(&out.stdout).into_owned();
    let with = |end: &str| -> BTreeSet<String> {
        let lines = log.lines().filter(|l| l.ends_with(end) && !l.starts_with(char::is_whitespace));
        lines.filter_map(|l| l.split_whitespace().next()).map(str::to_owned).collect()
    };
    Results { passed: with(" ok").len(), failed: with(" FAILED"), log }
}

fn assert_conforms(subject: &Subject) {
    let results = conform(subject);
    let expected = expected();
    let new: Vec<_> =
        results.failed.iter().filter(|t| !expected.contains_key(t.as_str())).collect();
    assert!(new.is_empty(), "these fail and shouldn't: {new:#?}\n{}", results.log);
    let fixed: Vec<_> = expected.keys().filter(|t| !results.failed.contains(**t)).collect();
    assert!(fixed.is_empty(), "these pass and are listed as failing: {fixed:#?}");
    assert!(results.passed >= 340, "only {} tests passed: {}", results.passed, results.log);
}

#[test]
fn pjdfstest_finds_nothing_but_what_the_kernel_does_too() {
    let ours = Subject::ours(env!("CARGO_BIN_EXE_unionfs-under-test"));
    require!("pjdfstest_finds_nothing", ours.usable(), pjdfstest().map(drop));
    assert_conforms(&ours);
}

#[test]
fn the_expected_failures_are_those_of_the_kernel() {
    let kernel = Subject::Kernel(KernelFeatures::Contract);
    require!("the_expected_failures_are_the_kernels", kernel.usable(), pjdfstest().map(drop));
    assert_conforms(&kernel);
}

#[test]
fn each_expected_failure_has_a_reason() {
    let expected = expected();
    assert!(!expected.is_empty());
    assert!(expected.values().all(|reason| reason.len() > 10), "{expected:?}");
}
