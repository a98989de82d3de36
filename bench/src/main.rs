//! Honest comparisons of file systems.
#![forbid(unsafe_code)]

fn main() {}
