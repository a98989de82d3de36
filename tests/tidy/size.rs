//! How long functions and files may get.

use crate::assert_none;
use crate::source::{blank_comments_and_literals, end_of_item, line_number, sources, words};

/// The hard stop for a function, from its `fn` to its closing brace.
const FUNCTION: usize = 100;
/// The hard stop for a file, unit tests not counted.
const FILE: usize = 600;

#[test]
fn functions_have_at_most_100_lines() {
    let mut broken = Vec::new();
    for source in sources() {
        for (line, length) in functions(&source.code) {
            if length > FUNCTION {
                let path = source.path.display();
                broken.push(format!("{path}:{line}: a function of {length} lines"));
            }
        }
    }
    assert_none("a function is one thought", &broken);
}

/// Returns line and length of each function.
fn functions(code: &str) -> Vec<(usize, usize)> {
    let all = words(code, "fn").filter(|&at| {
        // `fn(u8) -> u8` is a type.
        code[at + 2..].starts_with(|c: char| c.is_whitespace())
    });
    all.map(|at| {
        let end = end_of_item(code.as_bytes(), at);
        let line = line_number(code, at);
        (line, line_number(code, end - 1) - line + 1)
    })
    .collect()
}

#[test]
fn functions_are_measured_from_fn_to_brace() {
    let code = blank_comments_and_literals("fn a() {\n  \"}\";\n}\ntrait T { fn b(); }\nfn(u8);\n");
    assert_eq!(functions(&code), [(1, 3), (4, 1)]);
}

#[test]
fn files_have_at_most_600_lines_without_tests() {
    let mut broken = Vec::new();
    for source in sources() {
        // Lines that are blank in the shipped code but not in the code belong to unit tests.
        let tests = source.code.lines().zip(source.shipped.lines());
        let tests = tests.filter(|(code, shipped)| code.trim() != shipped.trim()).count();
        let lines = source.text.lines().count() - tests;
        if lines > FILE {
            broken.push(format!("{}: {lines} lines", source.path.display()));
        }
    }
    assert_none("a file is one room's corner", &broken);
}
