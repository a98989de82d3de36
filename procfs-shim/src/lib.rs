//! A FUSE daemon that shows /proc and /sys files as the reader's own cgroup sees them.
//!
//! Rooms in reading order; each calls only itself and rooms after it:
//!
//! | room | what it does |
//! |---|---|
//! | [`cli`], [`config`] | what the user typed, and what was meant |
//! | `serving` | a daemon's life, from its arguments to its end |
//! | [`verbs`] | what it does besides serving |
//! | [`transport`] | mount and answer the kernel; the only room that names `fuser` |
//! | [`files`] | one table: path -> pure renderer -> fallback |
//! | [`view`] | what a reader may see: container, memory, processors, time, load |
//! | [`cgroup`] | v1, v2 and hybrid behind one set of questions |
//! | [`host`] | the machine's own files and processes |
//!
//! [`figures`] is for programs that have a container at hand and want its figures as numbers.
//!
//! Lock order: tables of [`view::caller`] > `Container::groups` > `Container::meter` >
//! `Container::processes`; `Container::load` is taken alone, never across I/O.
#![forbid(unsafe_code)]

pub mod cgroup;
pub mod cli;
pub mod config;
pub mod error;
pub mod figures;
pub mod files;
pub mod host;
mod serving;
pub mod transport;
pub mod verbs;
pub mod view;

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

use clap::Parser;

use cgroup::Hierarchy;
use config::Config;
use error::{ReadError, StartError};

/// Runs the program with `args` (the first is the name it was called by) and returns its exit code.
pub fn run(args: impl Iterator<Item = OsString>) -> ExitCode {
    let args = match cli::Args::try_parse_from(args) {
        Ok(args) => args,
        Err(e) => return explain(&e),
    };
    let outcome = match &args.verb {
        Some(verb) => verbs::run(verb),
        None => Config::new(args).and_then(|config| serving::start(&config)),
    };
    outcome.unwrap_or_else(|e| {
        start_log(log::LevelFilter::Warn);
        log::error!("{e}");
        match e {
            StartError::Usage(_) => ExitCode::from(2),
            StartError::Failed(_) => ExitCode::FAILURE,
        }
    })
}

/// Prints the help or version that was asked for, or in one line what was wrong.
fn explain(e: &clap::Error) -> ExitCode {
    if !e.use_stderr() {
        let printed = e.print();
        return if printed.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    }
    let text = e.to_string();
    let said = text.split("\n\n").next().unwrap_or_default().trim_start_matches("error: ");
    let line: Vec<&str> = said.split_ascii_whitespace().collect();
    start_log(log::LevelFilter::Warn);
    log::error!("{}: see `procfs-shim --help`", line.join(" "));
    ExitCode::from(2)
}

/// Finds the hierarchies that this process has mounted.
fn mounted_hierarchies() -> Result<Hierarchy, ReadError> {
    let at = Path::new("/proc/self/mountinfo");
    let text = std::fs::read_to_string(at)
        .map_err(|e| ReadError::Io(at.to_path_buf(), host::held::errno(&e)))?;
    Ok(Hierarchy::detect(&text, Path::new("/")))
}

/// Starts the log, or changes its level.
fn start_log(level: log::LevelFilter) {
    daemon::logger::init("procfs-shim", level);
}
