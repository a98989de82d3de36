//! Which system calls are allowed, as data: the model of the OCI runtime specification.

use serde::{Deserialize, Serialize};

/// A filter of system calls.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Profile {
    /// For calls that no rule names.
    pub(crate) default: Action,
    /// For the rest: of those that name a call, the first with conditions that hold decides, else the
    /// first without conditions.
    pub(crate) rules: Vec<Rule>,
    /// Flags of the filter (`sys::seccomp::flag`).
    #[serde(default)]
    pub(crate) flags: u64,
    /// Architectures (`sys::seccomp::arch`) whose programs may run; empty: all of the machine.
    #[serde(default)]
    pub(crate) architectures: Vec<u32>,
    /// Who answers calls whose action says so.
    #[serde(default)]
    pub(crate) listener: Option<Listener>,
}

impl Profile {
    /// Returns a filter for programs of all architectures of the machine.
    pub(crate) fn new(default: Action, rules: Vec<Rule>) -> Profile {
        Profile { default, rules, flags: 0, architectures: Vec::new(), listener: None }
    }
}

/// A socket at which somebody waits for calls to answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Listener {
    /// Its path on the host.
    pub(crate) path: String,
    /// What it is told beside the container's state.
    pub(crate) metadata: String,
}

/// What is done with some calls.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Rule {
    /// Names of system calls; those that an architecture lacks are skipped.
    pub(crate) names: Vec<String>,
    /// What is done.
    pub(crate) action: Action,
    /// All of these must hold.
    pub(crate) arguments: Vec<Argument>,
}

/// What is done with a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Action {
    /// It is made.
    Allow,
    /// It is made, and logged.
    Log,
    /// It fails with this number.
    Errno(u16),
    /// The thread gets SIGSYS, which it may handle.
    Trap,
    /// The thread ends.
    KillThread,
    /// The process ends.
    KillProcess,
    /// A process of ours answers, or the one that listens.
    Notify,
    /// A tracer is told this number; without one the call fails.
    Trace(u16),
}

/// A condition on an argument of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Argument {
    /// Which, from 0 to 5.
    pub(crate) index: u8,
    /// How it is compared.
    pub(crate) comparison: Comparison,
    /// With what.
    pub(crate) value: u64,
}

/// How an argument is compared with a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Comparison {
    /// Equal.
    Equal,
    /// Not equal.
    NotEqual,
    /// Less.
    Less,
    /// Less or equal.
    LessOrEqual,
    /// Greater.
    Greater,
    /// Greater or equal.
    GreaterOrEqual,
    /// Equal where the mask has ones.
    Masked(u64),
}
