//! Architecture invariants, read from the sources.
#![forbid(unsafe_code)]

mod packages;
mod rooms;
mod size;
mod source;
mod text;

/// Asserts that no rule is broken; the message lists the places.
#[track_caller]
fn assert_none(rule: &str, broken: &[String]) {
    assert!(broken.is_empty(), "{rule}:\n{}\n", broken.join("\n"));
}
