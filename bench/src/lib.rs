//! Comparisons of file systems that people can run on their own machines, and trust.
//!
//! A run is a number of rounds. In each, every block of work is done on every subject in an order
//! that changes: by a [`worker`] of its own, a child process with mounts of its own, as root or as an
//! ordinary user in a user namespace. What it measures are [`record`]s, lines of a file, of which
//! every report is made.
//!
//! Rooms, in the order in which a run passes them: [`cli`], [`run`](mod@run), [`worker`], [`report`],
//! [`suite`], [`bed`], [`subject`], [`measure`], [`stats`], [`record`].
#![forbid(unsafe_code)]

mod bed;
mod cli;
mod measure;
mod record;
mod report;
mod run;
mod stats;
mod subject;
mod suite;
mod worker;

use std::ffi::OsString;
use std::process::ExitCode;

/// Runs the program with its arguments, its own name first, and returns its exit code: 0, 1 where
/// something failed, 2 for wrong usage, 3 where `compare` found what `--fail-if-slower` forbids, 130 where a
/// signal ended a run.
pub fn run(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    cli::run(args)
}
