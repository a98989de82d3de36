//! The behaviour matrix: every body of the suite, run on every subject, and written down in
//! docs/compatibility.md.

pub(crate) mod child;
mod measured;
mod page;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use support::Subject;
use support::require;
use support::subject::KernelFeatures;

use crate::subjects::{Body, ours};
use child::Verdict;
use page::{COLUMNS, Cells};

/// The bodies of one file of the suite.
pub(crate) struct Section {
    /// The file, without extension.
    pub(crate) file: &'static str,
    /// What the page calls it.
    title: &'static str,
    /// Its bodies.
    pub(crate) lists: &'static [&'static [Body]],
}

const fn section(
    file: &'static str,
    title: &'static str,
    lists: &'static [&'static [Body]],
) -> Section {
    Section { file, title, lists }
}

/// Every file with bodies. `all_files_with_bodies_are_listed` finds a forgotten one.
pub(crate) const SECTIONS: &[Section] = &[
    section("copyup", "Copy-up", &[crate::copyup::bodies::LIST, crate::copyup::alone::LIST]),
    section("large", "Large files", &[crate::large::bodies::LIST, crate::large::alone::LIST]),
    section("whiteout", "Removal and re-creation", &[crate::whiteout::bodies::LIST]),
    section("rename", "Rename", &[crate::rename::bodies::LIST]),
    section("identity", "Inode numbers and hard links", &[crate::identity::bodies::LIST]),
    section("metadata", "Modes, owners, limits", &[crate::metadata::bodies::LIST]),
    section("owners", "Owners shown otherwise", &[crate::owners::alone::LIST]),
    section("xattr", "Extended attributes", &[crate::xattr::bodies::LIST]),
    section("nameless", "Made without a name", &[crate::nameless::bodies::LIST]),
    section("unlinked", "Removed and still open", &[crate::unlinked::bodies::LIST]),
    section("dirs", "Directories", &[crate::dirs::bodies::LIST]),
    section("concurrency", "Many at once", &[crate::concurrency::bodies::LIST]),
    section("formats", "Formats", &[crate::formats::bodies::LIST, crate::formats::alone::LIST]),
    section("lifecycle", "From start to end", &[crate::lifecycle::alone::LIST]),
    section("requests", "Messages", &[crate::requests::alone::LIST]),
];

fn docs() -> PathBuf {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    package.parent().expect("the package is in a workspace").join("docs/compatibility.md")
}

/// Returns a subject by its name in the environment.
fn subject(name: &str) -> Subject {
    match name {
        "ours" => ours(),
        "kernel" => Subject::Kernel(KernelFeatures::Default),
        "kernel-all" => Subject::Kernel(KernelFeatures::All),
        "kernel-user" => Subject::Kernel(KernelFeatures::UserXattr),
        "fuse-overlayfs" => Subject::FuseOverlayfs,
        other => panic!("no subject is called {other}"),
    }
}

/// Returns all bodies, each with its name as `FILE::NAME`.
pub(crate) fn bodies() -> Vec<(String, Body)> {
    let named = |s: &Section| {
        let file = s.file;
        let bodies = s.lists.iter().copied().flatten();
        bodies.map(move |b| (format!("{file}::{}", b.name), *b)).collect::<Vec<_>>()
    };
    SECTIONS.iter().flat_map(named).collect()
}

/// What runs in the processes that [`child`] starts. Without such an order it only finds out that
/// orders can be followed.
#[test]
fn a_body_is_run() {
    let all = bodies();
    let Ok(wanted) = std::env::var(child::BODY) else {
        let names: BTreeSet<_> = all.iter().map(|(name, _)| name).collect();
        assert_eq!(names.len(), all.len(), "each body has a name of its own");
        return;
    };
    let name = std::env::var(child::SUBJECT).expect("a subject for the body");
    let (_, body) = all.iter().find(|(n, _)| *n == wanted).expect("a body of this name");
    (body.run)(&subject(&name));
}

/// Runs every body on every subject.
fn measure() -> Cells {
    let all = bodies();
    let jobs: Vec<_> =
        (0..all.len()).flat_map(|b| (0..COLUMNS.len()).map(move |c| (b, c))).collect();
    let (next, cells) = (AtomicUsize::new(0), Mutex::new(Cells::new()));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while let Some((b, c)) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let (test, column) = (&all[*b].0, COLUMNS[*c].1);
                    let answer = answer(test, column);
                    let mut cells = cells.lock().expect("no thread panics with the lock");
                    cells.entry(test.clone()).or_default()[*c] = answer.to_owned();
                }
            });
        }
    });
    cells.into_inner().expect("no thread panics with the lock")
}

fn answer(test: &str, column: &str) -> &'static str {
    let program = std::env::current_exe().expect("this program");
    match child::run(&mut Command::new(program), test, column) {
        Verdict::Holds => "yes",
        Verdict::Moot(_) => "-",
        Verdict::Fails(said) => {
            assert!(!said.contains("may not be skipped under CI"), "{said}");
            eprintln!("== {test} on {column}: no\n{said}");
            "no"
        }
    }
}

/// Returns which kernel and which packages were measured.
fn versions() -> String {
    let kernel = nix::sys::utsname::uname().expect("uname");
    let release = kernel.release().to_string_lossy();
    let release: Vec<_> = release.split('.').take(2).collect();
    let said = support::process::run(Command::new("fuse-overlayfs").arg("--version")).stdout;
    let said = String::from_utf8_lossy(&said).into_owned();
    let peer = said.split("fuse-overlayfs: version ").nth(1).and_then(|v| v.lines().next());
    let peer = peer.unwrap_or("of unknown version").trim();
    format!("Measured with Linux {} and fuse-overlayfs {peer}.", release.join("."))
}

#[test]
fn the_page_has_every_row_and_ours_says_yes() {
    let writes = std::env::var_os("PALIMPSEST_WRITE_MATRIX").is_some();
    if writes {
        for (_, name) in COLUMNS {
            require!("the_page_has_every_row", subject(name).usable());
        }
        let page = page::render(&versions(), &measure());
        std::fs::write(docs(), page).expect("write docs/compatibility.md");
    }
    let text = std::fs::read_to_string(docs()).expect("read docs/compatibility.md");
    let (versions, mut cells) = page::read(&text);
    assert!(!versions.is_empty(), "the page says what it was measured with");
    for (test, answers) in &mut cells {
        answers[0] = "yes".to_owned();
        for answer in &answers[1..] {
            assert!(["yes", "no", "-"].contains(&answer.as_str()), "{test}: {answer}");
        }
    }
    let expected = page::render(&versions, &cells);
    support::tree::assert_same("docs/compatibility.md is to be written again", &expected, &text);
}

#[test]
fn every_test_that_the_page_names_exists() {
    let program = std::env::current_exe().expect("this program");
    let listed = support::process::run(Command::new(program).arg("--list")).stdout;
    let listed = String::from_utf8_lossy(&listed).into_owned();
    let tests: BTreeSet<_> = listed.lines().filter_map(|l| l.strip_suffix(": test")).collect();
    let of_a_body = |file: &str, name: &str| {
        ["ours", "alone"].iter().any(|m| tests.contains(format!("{file}::{m}::{name}").as_str()))
    };
    let named = measured::ALONE.iter().chain(measured::DEFECTS.iter().map(|(_, test)| test));
    for test in named {
        let (file, name) = test.split_once("::").expect("FILE::NAME");
        let found = tests.contains(test) || of_a_body(file, name);
        assert!(found, "there is no test {test}");
    }
}

#[test]
fn all_files_with_bodies_are_listed() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("union");
    let mut found = BTreeSet::new();
    for entry in std::fs::read_dir(dir).expect("list the suite").flatten() {
        let path = entry.path();
        let Ok(text) = std::fs::read_to_string(&path) else { continue };
        if text.lines().any(|l| l == "both! {" || l == "only_ours! {") {
            found.insert(path.file_stem().expect("a name").to_string_lossy().into_owned());
        }
    }
    let listed: BTreeSet<_> = SECTIONS.iter().map(|s| s.file.to_owned()).collect();
    assert_eq!(listed, found);
}
