//! Which code may name what: rooms, `fuser`, `unsafe`, swallowed results.

use crate::assert_none;
use crate::source::{Source, line_number, sources, words};

/// The rooms of each program, in the order in which a request passes them. A room names itself and
/// rooms after it.
const ROOMS: [(&str, &[&str]); 4] = [
    ("unionfs", &["offline", "transport", "ops", "resolve", "copyup", "inode", "layer"]),
    ("procfs-shim", &["verbs", "transport", "files", "view", "cgroup", "host"]),
    (
        "runner",
        &["cli", "oci", "plan", "launch", "rootfs", "cgroup", "image", "store", "identity", "spec"],
    ),
    (
        "bench",
        &[
            "cli", "run", "worker", "report", "suite", "bed", "subject", "measure", "stats",
            "record",
        ],
    ),
];

fn place(source: &Source, at: usize, what: &str) -> String {
    format!("{}:{}: {what}", source.path.display(), line_number(&source.code, at))
}

fn rooms_of(package: &str) -> Option<&'static [&'static str]> {
    ROOMS.iter().find(|(p, _)| *p == package).map(|(_, rooms)| *rooms)
}

/// Returns the modules at the top of the crate that `source` names, with where: `crate::X` and
/// `crate::{X, Y::Z}`, and as many `super::` as lead there.
fn named_at_the_top(source: &Source) -> Vec<(usize, String)> {
    // From src/room/mod.rs one `super` leads to the top, from src/room/file.rs two do.
    let below_src = source.path.iter().count().saturating_sub(2);
    let is_mod = source.path.ends_with("mod.rs");
    let to_top = below_src - usize::from(is_mod);
    let mut named = Vec::new();
    for prefix in ["crate::".to_owned(), "super::".repeat(to_top.max(1))] {
        for (at, _) in source.shipped.match_indices(&prefix) {
            if source.shipped[..at].ends_with("super::") {
                continue;
            }
            let rest = &source.shipped[at + prefix.len()..];
            named.extend(first_names(rest).into_iter().map(|name| (at, name)));
        }
    }
    named
}

/// Returns the first name of a path, or those of each path in a group.
fn first_names(rest: &str) -> Vec<String> {
    let name = |s: &str| -> String {
        s.trim_start().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
    };
    let Some(group) = rest.strip_prefix('{') else { return vec![name(rest)] };
    let mut names = vec![name(group)];
    let mut depth = 0;
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => names.push(name(&group[at + 1..])),
            _ => {}
        }
    }
    names
}

#[test]
fn requests_flow_one_way() {
    let mut broken = Vec::new();
    for source in sources() {
        let Some(rooms) = rooms_of(source.package()) else { continue };
        let Some(room) = source.room() else { continue };
        let Some(own) = rooms.iter().position(|r| *r == room) else { continue };
        for (at, name) in named_at_the_top(&source) {
            if rooms.iter().position(|r| *r == name).is_some_and(|other| other < own) {
                broken.push(place(&source, at, &format!("`{room}` names `{name}`, before it")));
            }
        }
    }
    assert_none("a room names itself and rooms after it", &broken);
}

#[test]
fn every_directory_is_a_known_room() {
    let mut broken = Vec::new();
    for source in sources() {
        let Some(rooms) = rooms_of(source.package()) else { continue };
        let is_directory = source.path.iter().count() > 3;
        if let Some(room) = source.room()
            && is_directory
            && !rooms.contains(&room)
        {
            broken.push(format!("{}: no room is called `{room}`", source.path.display()));
        }
    }
    assert_none("the rooms of a program are listed in this test, in their order", &broken);
}

#[test]
fn groups_of_names_are_taken_apart() {
    assert_eq!(first_names("ops::x;"), ["ops"]);
    assert_eq!(first_names("{ops::{a, b}, layer, self as me};"), ["ops", "layer", "self"]);
}

#[test]
fn only_transport_speaks_fuse() {
    let mut broken = Vec::new();
    for source in sources() {
        let may = source.package() == "daemon" || source.room() == Some("transport");
        if !may && let Some(at) = words(&source.code, "fuser").next() {
            broken.push(place(&source, at, "names `fuser`"));
        }
        // `Counts` goes from the session to what SIGUSR1 prints.
        let may =
            may || source.package() == "wire" || source.path.ends_with("unionfs/src/start.rs");
        if !may && let Some(at) = source.code.find("wire::") {
            broken.push(place(&source, at, "names `wire`"));
        }
    }
    assert_none("`fuser` and `wire` are named in `transport` and in `daemon` only", &broken);
}

#[test]
fn only_sys_is_unsafe() {
    let mut broken = Vec::new();
    for source in sources().iter().filter(|s| s.package() != "sys") {
        broken.extend(words(&source.code, "unsafe").map(|at| place(source, at, "`unsafe`")));
        let name = source.path.file_name().and_then(|n| n.to_str()).unwrap_or("");
        let is_root = ["lib.rs", "main.rs"].contains(&name) || source.path.starts_with("tests/bin");
        if is_root && !source.code.contains("#![forbid(unsafe_code)]") {
            broken.push(format!("{}: no `#![forbid(unsafe_code)]`", source.path.display()));
        }
    }
    assert_none("unsafe code lives in `sys`", &broken);
}

#[test]
fn no_result_is_swallowed() {
    let mut broken = Vec::new();
    for source in sources().iter().filter(|s| !s.is_test()) {
        for pattern in ["let _ =", "let _:", ".ok();"] {
            let found = source.shipped.match_indices(pattern).map(|(at, _)| at);
            let found =
                found.filter(|at| pattern != ".ok();" || is_statement(&source.shipped, *at));
            broken.extend(found.map(|at| place(source, at, &format!("`{pattern}`"))));
        }
    }
    assert_none("neglect is spelled `best_effort`, which logs", &broken);
}

/// Whether the expression that ends at `at` is a statement of its own, whose value goes nowhere.
fn is_statement(code: &str, at: usize) -> bool {
    let start = code[..at].rfind([';', '{', '}']).map_or(0, |i| i + 1);
    let statement = code[start..at].trim_start();
    !statement.starts_with("let ")
        && !statement.starts_with("return ")
        && !statement.contains(" = ")
}

#[test]
fn only_values_that_go_nowhere_are_swallowed() {
    let code = "{ let a = b.ok(); c.d().ok(); }";
    let at: Vec<_> = code.match_indices(".ok();").map(|(at, _)| is_statement(code, at)).collect();
    assert_eq!(at, [false, true]);
}

#[test]
fn no_test_is_ignored() {
    let mut broken = Vec::new();
    for source in sources() {
        let found = source.code.match_indices("#[ignore");
        broken.extend(found.map(|(at, _)| place(&source, at, "`#[ignore]`")));
    }
    assert_none("a test that can't run says so by `SKIPPED:`", &broken);
}
