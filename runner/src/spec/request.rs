//! What somebody wants: kept with the container, and planned anew at each of its starts.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::spec::{
    Access, Device, Driver, Figures, First, Limits, Net, OwnCgroups, Port, Profile, Stdin,
    Terminal, Tmpfs, Ulimit, User, Volume,
};

/// A container as it was asked for.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Request {
    /// Limits.
    pub(crate) limits: Limits,
    /// What the root is made of.
    pub(crate) root: RootRequest,
    /// Directory of the user's that keeps the changes.
    pub(crate) upper: Option<PathBuf>,
    /// File system that merges the layers.
    pub(crate) driver: Driver,
    /// Whether there are cgroups.
    #[serde(default)]
    pub(crate) cgroups: OwnCgroups,
    /// Whose figures are shown.
    #[serde(default)]
    pub(crate) figures: Figures,
    /// Whether the root may be written to.
    pub(crate) root_access: Access,
    /// Volumes; sources are absolute.
    pub(crate) volumes: Vec<Volume>,
    /// File systems in memory.
    pub(crate) tmpfs: Vec<Tmpfs>,
    /// Bytes of /dev/shm.
    pub(crate) shm_size: u64,
    /// Devices of the host.
    pub(crate) devices: Vec<Device>,
    /// Host name.
    pub(crate) hostname: String,
    /// Network.
    pub(crate) network: Network,
    /// Program.
    pub(crate) process: ProcessRequest,
    /// Rights.
    pub(crate) security: Security,
    /// Labels.
    pub(crate) labels: BTreeMap<String, String>,
    /// How it is stopped.
    pub(crate) stop: Stop,
    /// Whether a limit or an isolation that isn't possible here is an error.
    pub(crate) strict: Strict,
}

/// What happens where something is weaker than asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Strict {
    /// No container is started.
    On,
    /// A warning is printed.
    Off,
}

/// Who reads what the program writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Audience {
    /// Whoever started the command.
    Caller,
    /// Nobody now.
    Nobody,
}

/// What the root is made of.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum RootRequest {
    /// The host's own root.
    Host,
    /// These directories, the topmost first.
    Layers(Vec<PathBuf>),
}

/// What somebody wants to be run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct ProcessRequest {
    /// Program and arguments.
    pub(crate) args: Vec<OsString>,
    /// Variables that were asked for.
    pub(crate) env: Vec<(OsString, OsString)>,
    /// Working directory.
    pub(crate) cwd: PathBuf,
    /// What happens where the working directory is missing.
    pub(crate) missing_cwd: MissingCwd,
    /// User.
    pub(crate) user: User,
    /// Terminal.
    pub(crate) terminal: Terminal,
    /// Standard input.
    pub(crate) stdin: Stdin,
    /// First process.
    pub(crate) first: First,
    /// Limits of the process.
    pub(crate) ulimits: Vec<Ulimit>,
}

/// What happens where the working directory is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum MissingCwd {
    /// The container can't be made.
    Fail,
    /// It is made: an image named it.
    Make,
}

/// Which network the container sees, and names in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Network {
    /// Which.
    pub(crate) net: Net,
    /// Ports of the host that lead inside.
    pub(crate) ports: Vec<Port>,
    /// Name servers instead of the host's.
    pub(crate) dns: Vec<String>,
    /// Further lines of /etc/hosts: address and name.
    pub(crate) hosts: Vec<(String, String)>,
}

/// Rights of the container's processes.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Security {
    /// Capabilities (bit n is capability n).
    pub(crate) capabilities: u64,
    /// Whether set-user-ID programs give no rights.
    pub(crate) no_new_privs: bool,
    /// Which system calls are allowed.
    pub(crate) seccomp: SeccompRequest,
    /// Paths that are unreadable, beyond the defaults.
    pub(crate) mask: Vec<String>,
    /// Paths of the defaults that are left open; `ALL` is all of them.
    pub(crate) unmask: Vec<String>,
    /// Whether devices, /sys and the paths of the defaults are open, too.
    pub(crate) privileged: bool,
    /// Whether sysinfo(2) and sched_getaffinity(2) are answered with the container's own figures.
    pub(crate) sysinfo: Sysinfo,
}

/// Which system calls are allowed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum SeccompRequest {
    /// Docker's default.
    Default,
    /// All.
    Unconfined,
    /// Those of a profile.
    Profile(Profile),
}

/// Whether sysinfo(2) and sched_getaffinity(2) are answered with the container's own figures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Sysinfo {
    /// The kernel answers, with the host's figures.
    Kernel,
    /// The supervisor answers.
    Container,
}

/// How a container is stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Stop {
    /// The signal that asks.
    pub(crate) signal: i32,
    /// Seconds after which it is killed.
    pub(crate) timeout: u32,
}
