//! What files must and must not say.

use std::path::PathBuf;
use std::process::Command;

use crate::assert_none;
use crate::source::{sources, workspace};

#[test]
fn every_file_opens_with_what_it_is_for() {
    let mut broken = Vec::new();
    for source in sources() {
        let first = source.text.lines().next().unwrap_or("");
        if first.strip_prefix("//! ").is_none_or(|says| says.trim().len() < 10) {
            broken.push(format!("{}: `{first}`", source.path.display()));
        }
    }
    assert_none("the first line says in `//!` what the file is for", &broken);
}

/// Returns the files that are part of the project: tracked by git, or all if this is no checkout.
fn project_files() -> Vec<PathBuf> {
    let git = Command::new("git").args(["ls-files", "-z"]).current_dir(workspace()).output();
    let listed = git.ok().filter(|out| out.status.success()).map(|out| out.stdout);
    let names = String::from_utf8(listed.unwrap_or_default()).expect("file names are UTF-8");
    let files: Vec<_> =
        names.split('\0').filter(|n| !n.is_empty()).map(|n| workspace().join(n)).collect();
    if files.is_empty() {
        return sources().into_iter().map(|s| workspace().join(s.path)).collect();
    }
    files.into_iter().filter(|f| f.is_file()).collect()
}

#[test]
fn nothing_names_one_machine() {
    // Taken apart, so that this file doesn't break its own rule.
    let machine = [["/wo", "rk/"], ["/fa", "rm/"], ["suba", "gent"]].map(|parts| parts.concat());
    let mut broken = Vec::new();
    for file in project_files() {
        let bytes = std::fs::read(&file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
        let text = String::from_utf8_lossy(&bytes).into_owned();
        for (n, line) in text.lines().enumerate() {
            for needle in machine.iter().filter(|needle| names_root(line, needle)) {
                broken.push(format!("{}:{}: `{needle}`", file.display(), n + 1));
            }
        }
    }
    assert_none("nothing in the project depends on one machine", &broken);
}

/// Whether a line has the needle; as a path, only at the root and not inside a longer one.
fn names_root(line: &str, needle: &str) -> bool {
    let inside = |c: char| c.is_alphanumeric() || "_-.}/*".contains(c);
    line.match_indices(needle)
        .any(|(at, _)| !needle.starts_with('/') || !line[..at].ends_with(inside))
}

#[test]
fn paths_inside_longer_ones_name_no_machine() {
    assert!(names_root("cd /x/y", "/x/") && names_root("\"/x/\"", "/x/"));
    assert!(!names_root("a/x/incompat", "/x/") && !names_root("{dir}/x/y", "/x/"));
}

#[test]
fn the_changelog_has_an_unreleased_section_first() {
    let text = std::fs::read_to_string(workspace().join("CHANGELOG.md")).expect("a changelog");
    let first = text.lines().find(|l| l.starts_with("## "));
    assert!(first.is_some_and(|l| l.contains("Unreleased")), "the first section is {first:?}");
}
