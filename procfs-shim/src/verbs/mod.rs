//! What the program does besides serving: one file a verb.

pub mod doctor;
pub mod explain;
pub mod upgrade;

use std::path::Path;
use std::process::ExitCode;

use clap::Subcommand;

use crate::cgroup::Hierarchy;
use crate::error::StartError;
use explain::print;

/// A verb and its arguments.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Say where each figure is from
    Explain(explain::ExplainArgs),
    /// Say which controllers are found where, and what follows
    Doctor(doctor::DoctorArgs),
    /// Let a running daemon become the program that is installed now; no reader notices
    Upgrade(upgrade::UpgradeArgs),
}

/// Does it.
///
/// # Errors
/// What was asked for can't be done.
pub fn run(verb: &Verb) -> Result<ExitCode, StartError> {
    match verb {
        Verb::Explain(args) => explain::explain(args),
        Verb::Doctor(args) => doctor::doctor(args),
        Verb::Upgrade(args) => upgrade::upgrade(args),
    }
}

/// Finds the mounted hierarchies.
fn hierarchy() -> Result<Hierarchy, StartError> {
    let mountinfo = std::fs::read_to_string("/proc/self/mountinfo")
        .map_err(|e| StartError::Failed(format!("read /proc/self/mountinfo: {e}")))?;
    Ok(Hierarchy::detect(&mountinfo, Path::new("/")))
}
