//! What the program does besides serving: one file a verb.

pub mod upgrade;

use std::process::ExitCode;

use clap::Subcommand;

use crate::error::StartError;

/// A verb and its arguments.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Let a running daemon become the program that is installed now; no reader notices
    Upgrade(upgrade::UpgradeArgs),
}

/// Does it.
///
/// # Errors
/// What was asked for can't be done.
pub fn run(verb: &Verb) -> Result<ExitCode, StartError> {
    match verb {
        Verb::Upgrade(args) => upgrade::upgrade(args),
    }
}
