//! What the user typed, one file for each verb.

mod compare;
mod doctor;
mod list;
mod run;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Compares file systems, files of /proc and container starters by what they do and what it costs.
///
/// Each round does the same work on every subject, in an order that changes, on fresh mounts; what
/// the work saw and left is checked by a checksum. Times are medians with a 95 % interval; ratios
/// are taken within rounds, so that a slow moment of the machine weighs on both sides.
#[derive(Debug, Parser)]
#[command(name = "bench", version, after_help = EXIT_CODES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

const EXIT_CODES: &str = "\
Exit codes: 0 done, 1 something failed, 2 wrong usage, 3 compare found something slower than
allowed, 130 a signal ended the run (finished rounds are reported).";

#[derive(Debug, Subcommand)]
enum Command {
    /// Measures and reports.
    Run(Box<run::RunArgs>),
    /// Says what has changed from one run to another.
    Compare(compare::CompareArgs),
    /// Makes the reports of a run anew from its records.
    Report {
        /// Directory with records.jsonl.
        dir: PathBuf,
    },
    /// Lists suites, cases and subjects.
    List(list::ListArgs),
    /// Says what this machine lacks, and what can't be measured without it.
    Doctor(list::ListArgs),
    /// Works for `run`.
    #[command(hide = true)]
    Worker,
    /// Reads files in a container, for a worker.
    #[command(hide = true)]
    Reader,
}

/// Runs the command line.
pub(crate) fn run(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(e) => {
            // Help and version are no errors for clap, and go to standard output.
            return match e.print() {
                Ok(()) => ExitCode::from(u8::try_from(e.exit_code()).unwrap_or(2)),
                Err(_) => ExitCode::FAILURE,
            };
        }
    };
    let done = match cli.command {
        Command::Worker => return crate::worker::run(),
        Command::Reader => return crate::suite::containers::reader(),
        Command::Run(args) => match run::run(&args) {
            Ok(true) => Ok(()),
            Ok(false) => return ExitCode::from(130),
            Err(why) => Err(why),
        },
        Command::Compare(args) => match compare::compare(&args) {
            Ok(false) => Ok(()),
            Ok(true) => return ExitCode::from(3),
            Err(why) => Err(why),
        },
        Command::Report { dir } => {
            crate::report::load(&dir).and_then(|records| crate::report::write(&dir, &records))
        }
        Command::List(args) => list::list(&args),
        Command::Doctor(args) => doctor::doctor(&args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("bench: {why}");
            ExitCode::FAILURE
        }
    }
}
