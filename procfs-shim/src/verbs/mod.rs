//! What the program does besides serving: one file a verb.

mod binds;
pub mod doctor;
pub mod explain;
pub mod hook;
pub mod inject;
pub mod reattach;
pub mod upgrade;

use std::process::ExitCode;

use clap::Subcommand;

use crate::cgroup::Hierarchy;
use crate::error::StartError;
use explain::print;

/// A verb and its arguments.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Bind the files of a daemon into a running container, or take them away again
    Inject(inject::InjectArgs),
    /// Revive containers whose daemon has died, with the files of a living one
    Reattach(reattach::ReattachArgs),
    /// Bind the files into a container that is being made: an OCI createContainer hook
    Hook(hook::HookArgs),
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
    crate::start_log(log::LevelFilter::Warn);
    match verb {
        Verb::Inject(args) => inject::inject(args),
        Verb::Reattach(args) => reattach::reattach(args),
        Verb::Hook(args) => hook::hook(args),
        Verb::Explain(args) => explain::explain(args),
        Verb::Doctor(args) => doctor::doctor(args),
        Verb::Upgrade(args) => upgrade::upgrade(args),
    }
}

/// Finds the mounted hierarchies.
fn hierarchy() -> Result<Hierarchy, StartError> {
    crate::mounted_hierarchies().map_err(|e| StartError::Failed(e.to_string()))
}
