//! Fixtures of the suites; no test.
#![forbid(unsafe_code)]
