//! What the user typed.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::subject::Kind;

/// Compares union file systems by what they do with a tree of 12,000 files.
///
/// Each round mounts every subject anew, in an order that changes, and does the same work on it;
/// the result of the work is checked by a checksum. Times are medians over the rounds; ratios are
/// taken within each round, so that a slow moment of the machine weighs on both sides.
///
/// As root, or without privileges under `unshare -Urm --map-auto`.
#[derive(Debug, Parser)]
#[command(version)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Measures and reports.
    Run(RunArgs),
}

#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    /// What to compare; may be given several times [default: all].
    #[arg(long = "subject", value_enum, value_name = "NAME")]
    pub(crate) subjects: Vec<Kind>,
    /// How often everything is repeated.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) rounds: u32,
    /// Files in the tree.
    #[arg(long, default_value_t = 12_000, value_parser = clap::value_parser!(u32).range(100..))]
    pub(crate) files: u32,
    /// Where to put layers and mount points; decides on which file system they are.
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: Option<PathBuf>,
    /// Our daemon [default: beside this program, else in PATH].
    #[arg(long, value_name = "PROGRAM")]
    pub(crate) unionfs: Option<PathBuf>,
    /// Also write every measurement to this file, as one JSON object.
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
}
