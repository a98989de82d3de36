//! What differs between two trees, line by line.

use std::collections::BTreeSet;
use std::path::Path;

use super::{Show, Tree, write};

/// Returns the lines that only one of two texts has, `-` for the left and `+` for the right;
/// empty if they are equal.
pub fn difference(left: &str, right: &str) -> String {
    if left == right {
        return String::new();
    }
    let (l, r): (BTreeSet<_>, BTreeSet<_>) = (left.lines().collect(), right.lines().collect());
    let mut lines: Vec<_> = l.difference(&r).map(|line| (line, '-')).collect();
    lines.extend(r.difference(&l).map(|line| (line, '+')));
    // Sorted by path, so that the two versions of a line stand together.
    lines.sort_by_key(|(line, sign)| (line.split(' ').nth(1), *sign == '+'));
    lines.iter().map(|(line, sign)| format!("{sign} {line}\n")).collect()
}

/// Asserts that two texts are equal.
///
/// # Panics
/// They differ; the message shows the lines.
pub fn assert_same(what: &str, expected: &str, found: &str) {
    let difference = difference(expected, found);
    assert!(difference.is_empty(), "{what} (- expected, + found):\n{difference}");
}

/// Asserts that the tree at `root` is what `literal` would lay out (times aside).
///
/// # Panics
/// It differs; the message shows the lines.
pub fn assert_looks_like(root: &Path, literal: &str) {
    let model = crate::Scratch::new();
    write(model.path(), literal);
    let show = Show { nlink: true, ..Show::default() };
    let expected = Tree::read(model.path()).text(&show);
    assert_same("the tree differs", &expected, &Tree::read(root).text(&show));
}
