//! The container as data: what `plan` decided and `launch` executes. Every room may name it.

mod bundle;
pub(crate) mod capability;
mod limits;
mod request;
mod seccomp;
mod step;

use std::ffi::OsString;

use serde::{Deserialize, Serialize};

pub(crate) use bundle::{Attributes, Begin, Clocks, Enter, Hook, Hooks, Mount, Mounted, Node};
pub(crate) use limits::{DeviceRate, Limits, Rate, RateKind, Ulimit};
pub(crate) use request::{
    Audience, MissingCwd, Network, ProcessRequest, Request, RootRequest, SeccompRequest, Security,
    Stop, Strict, Sysinfo,
};
pub(crate) use seccomp::{Action, Argument, Comparison, Listener, Profile, Rule};
pub(crate) use step::Step;

/// A whole container, decided before anything is touched. It travels to the process that builds
/// the container, so all names are `OsString`s, which keep bytes that are no UTF-8.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Spec {
    /// Name of the container: of its state directory and its cgroups.
    pub(crate) id: String,
    /// Directory that holds the container's state while it lives.
    pub(crate) state: OsString,
    /// Whose users the container has.
    pub(crate) identity: Identity,
    /// Its cgroups, which the supervisor has made.
    pub(crate) cgroups: Vec<Cgroup>,
    /// Hierarchies of cgroups that it sees.
    pub(crate) hierarchies: Vec<Hierarchy>,
    /// Which network it sees.
    pub(crate) net: Net,
    /// Namespaces that its first process is born into (`sys::process::clone_flags`), beside those that
    /// whoever makes it is in.
    pub(crate) namespaces: u64,
    /// Its clocks.
    pub(crate) clocks: Clocks,
    /// When its program begins.
    pub(crate) begin: Begin,
    /// Ports of the host that lead inside.
    pub(crate) ports: Vec<Port>,
    /// What its root directory is.
    pub(crate) root: Base,
    /// The files below /proc and /sys that show the container's own figures.
    pub(crate) shim: Option<Shim>,
    /// Directories and files of the host that are seen inside.
    pub(crate) volumes: Vec<Volume>,
    /// Devices of the host that are seen inside.
    pub(crate) devices: Vec<Device>,
    /// Mounts of a bundle.
    pub(crate) mounts: Vec<Mount>,
    /// Devices of a bundle.
    pub(crate) nodes: Vec<Node>,
    /// Hooks of a bundle that its first process runs.
    pub(crate) hooks: Hooks,
    /// What the first process does in the new namespaces, in order.
    pub(crate) steps: Vec<Step>,
    /// The program.
    pub(crate) process: Process,
    /// Where the program's output goes, and its input comes from.
    pub(crate) streams: Streams,
    /// Process that started the container; without it nothing of the container may live.
    pub(crate) supervisor: i32,
    /// When the command was started, in nanoseconds of the system's clock, if steps are timed.
    pub(crate) trace: Option<u64>,
}

/// Whose users the container has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Identity {
    /// The host's: no user namespace.
    Host,
    /// Those of a new user namespace.
    Mapped(Maps),
}

impl Identity {
    /// Whether the kernel lets the container's processes set groups.
    pub(crate) fn may_set_groups(&self) -> bool {
        !matches!(self, Identity::Mapped(m) if m.writer == MapWriter::Ourselves)
    }
}

/// The id maps of a user namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Maps {
    /// Users.
    pub(crate) uids: Vec<Range>,
    /// Groups.
    pub(crate) gids: Vec<Range>,
    /// Who writes them.
    pub(crate) writer: MapWriter,
}

/// Who writes the id maps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum MapWriter {
    /// We ourselves, which is allowed for one's own id only; groups can't be set then.
    Ourselves,
    /// We ourselves, as we have the right to map any id.
    Privileged,
    /// The setuid helpers newuidmap and newgidmap, which know /etc/subuid and /etc/subgid.
    Helpers,
}

/// A range of ids: `count` of them from `inside` on are those from `outside` on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Range {
    /// First id in the container.
    pub(crate) inside: u32,
    /// First id outside.
    pub(crate) outside: u32,
    /// How many.
    pub(crate) count: u32,
}

/// A cgroup that the container's first process joins.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Cgroup {
    /// Its directory.
    pub(crate) path: OsString,
    /// Which interface it has.
    pub(crate) version: Version,
}

/// A hierarchy of cgroups, as the host has it mounted below /sys/fs/cgroup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Hierarchy {
    /// Directory below /sys/fs/cgroup; empty: that directory itself.
    pub(crate) name: String,
    /// Which interface it has.
    pub(crate) version: Version,
    /// Controllers and `name=` of a hierarchy of v1.
    pub(crate) options: Vec<String>,
}

/// Interface of a cgroup hierarchy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Version {
    /// A hierarchy a controller.
    V1,
    /// One hierarchy for all.
    V2,
}

/// Which network the container sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
pub(crate) enum Net {
    /// The host's.
    Host,
    /// A loopback interface of its own and nothing else.
    #[value(alias = "loopback")]
    None,
    /// The host's by way of pasta(1), a user-space translator: outgoing connections and, with -p,
    /// incoming ones.
    Pasta,
}

impl Net {
    /// Whether the container has a network namespace of its own.
    pub(crate) fn is_own(self) -> bool {
        self != Net::Host
    }
}

/// A port of the host that leads to one of the container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Port {
    /// Address of the host to listen on; empty: all.
    pub(crate) address: String,
    /// Port of the host.
    pub(crate) host: u16,
    /// Port of the container.
    pub(crate) container: u16,
    /// `tcp` or `udp`.
    pub(crate) protocol: Protocol,
}

/// A protocol that has ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

/// A file system in memory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Tmpfs {
    /// Absolute path in the container.
    pub(crate) target: OsString,
    /// Options of tmpfs(5): `size`, `mode`, ….
    pub(crate) options: Vec<(String, String)>,
    /// Attributes of the mount (`sys::mount::attr`).
    pub(crate) attributes: u64,
}

/// A device of the host that is seen inside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Device {
    /// Path on the host.
    pub(crate) source: OsString,
    /// Absolute path in the container.
    pub(crate) target: OsString,
}

/// Which file system merges the layers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
pub(crate) enum Driver {
    /// Our own, in a process beside the container.
    Unionfs,
    /// The kernel's overlay.
    Kernel,
    /// Nothing: the root is one directory itself, which stays as it is; takes --read-only.
    None,
}

/// Whether the container has cgroups of its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
pub(crate) enum OwnCgroups {
    /// It has, as far as that is possible here.
    #[default]
    Enabled,
    /// It stays in ours, without limits, and sees none.
    Disabled,
}

/// Whose figures the files of /proc and /sys show.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
pub(crate) enum Figures {
    /// The container's own.
    #[default]
    Container,
    /// The host's, as the kernel has them.
    Kernel,
}

/// What the root directory is.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Base {
    /// Layers that are merged.
    Layers(Root),
    /// A directory that somebody else made.
    Directory {
        /// Its path.
        path: OsString,
        /// The descriptor under which it was opened before the container's users were entered.
        opened: Option<i32>,
        /// The descriptor that is open until the container can be found by whoever ends it.
        held: Option<i32>,
    },
}

/// What the root directory is made of.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Root {
    /// Which file system merges the layers.
    pub(crate) driver: Driver,
    /// Directories that are only read, the topmost first.
    pub(crate) layers: Vec<OsString>,
    /// Where the init layer is, and changes that are thrown away.
    pub(crate) scratch: Scratch,
    /// Where changes go.
    pub(crate) upper: Upper,
    /// Whether files of owners that the container's users don't include shall be root's.
    pub(crate) unmapped_root: bool,
    /// Whether attributes of the upper are in the user's namespace (`userxattr` of overlayfs).
    pub(crate) userxattr: bool,
    /// Content of /etc/hosts, /etc/hostname, /etc/resolv.conf and the like.
    pub(crate) files: Vec<(String, Vec<u8>)>,
    /// Directories that must exist, without the leading slash.
    pub(crate) skeleton: Vec<OsString>,
}

/// Where the init layer is, and changes that are thrown away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Scratch {
    /// In the state directory.
    Disk,
    /// In a file system in memory that only this container sees.
    Memory,
}

/// Where changes of the root go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Upper {
    /// To a directory that is thrown away.
    Scratch,
    /// To a directory that is kept.
    Kept {
        /// Holds the changes.
        upper: OsString,
        /// Holds what is not complete yet, on the same file system.
        work: OsString,
    },
}

/// What the daemon that serves figures is told beyond what it reads itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Shim {
    /// The memory limit that no cgroup holds.
    pub(crate) declared_memory: Option<u64>,
    /// The CPU limit that no cgroup holds, in thousandths of a CPU.
    pub(crate) declared_cpus: Option<u64>,
}

/// A directory or file of the host that is seen inside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Volume {
    /// Path on the host.
    pub(crate) source: OsString,
    /// Absolute path in the container.
    pub(crate) target: OsString,
    /// What may be done through it.
    pub(crate) access: Access,
    /// Name, if it is one that `runner volume` manages: an empty one is filled with what the image has
    /// at its place.
    pub(crate) name: Option<String>,
    /// Whether it has no name that a person gave, and goes with its container.
    pub(crate) anonymous: bool,
}

/// What may be done through a volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Access {
    /// Reading and writing.
    ReadWrite,
    /// Reading.
    ReadOnly,
}

/// What a process does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Job {
    /// It becomes the program.
    Execute,
    /// It writes the file or directory of this path as a stream.
    Send(OsString),
    /// It unpacks a stream at this path.
    Receive(OsString),
}

/// The program and what it starts with.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Process {
    /// Program and arguments.
    pub(crate) args: Vec<OsString>,
    /// Environment.
    pub(crate) env: Vec<(OsString, OsString)>,
    /// Working directory.
    pub(crate) cwd: OsString,
    /// User, as given: resolved in the container's own /etc/passwd and /etc/group.
    pub(crate) user: User,
    /// Whether it gets a terminal of its own.
    pub(crate) terminal: Terminal,
    /// What it reads.
    pub(crate) stdin: Stdin,
    /// Which process is the container's first.
    pub(crate) first: First,
    /// CPUs it is bound to where no cpuset holds it; empty: all.
    pub(crate) affinity: Vec<usize>,
    /// What happens where the working directory is missing.
    pub(crate) missing_cwd: MissingCwd,
    /// Limits of the process.
    pub(crate) ulimits: Vec<Ulimit>,
    /// Its rights.
    pub(crate) rights: Rights,
    /// What it does.
    pub(crate) job: Job,
    /// Whether it ends with whoever started it.
    pub(crate) is_tied: bool,
    /// What bundles ask for beyond that.
    pub(crate) more: More,
}

/// What a process of a bundle starts with beyond others.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct More {
    /// Which modes new files don't get; `None`: 022.
    pub(crate) umask: Option<u32>,
    /// Execution domain and its flags (personality(2)).
    pub(crate) personality: Option<u32>,
    /// Profile of AppArmor.
    pub(crate) apparmor: Option<String>,
    /// How many descriptors from 3 on are handed over.
    pub(crate) kept: u32,
    /// Whether the streams become the user's.
    pub(crate) own_streams: bool,
    /// Whether the program has to be there before somebody says that it shall begin.
    pub(crate) check_program: bool,
}

/// What a program of the container may do.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Rights {
    /// Capabilities.
    pub(crate) capabilities: Capabilities,
    /// Whether set-user-ID programs give no rights.
    pub(crate) no_new_privs: bool,
    /// Which system calls are allowed; `None`: all.
    pub(crate) seccomp: Option<Profile>,
    /// Who answers sysinfo(2) and sched_getaffinity(2).
    pub(crate) sysinfo: Sysinfo,
}

/// The sets of capabilities(7) that a program starts with (bit n is capability n).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Capabilities {
    /// What it can get at most.
    pub(crate) bounding: u64,
    /// What it has.
    pub(crate) effective: u64,
    /// What it may take.
    pub(crate) permitted: u64,
    /// What programs whose files say so inherit.
    pub(crate) inheritable: u64,
    /// What all its programs inherit.
    pub(crate) ambient: u64,
}

impl Capabilities {
    /// Returns those of a root that has no others.
    pub(crate) fn of_root(set: u64) -> Capabilities {
        let none = Capabilities::default();
        Capabilities { bounding: set, effective: set, permitted: set, ..none }
    }
}

/// A user as the command line names it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct User {
    /// Name or number.
    pub(crate) user: Principal,
    /// Group; `None`: the user's own groups.
    pub(crate) group: Option<Principal>,
    /// Further groups, beside a group that is named.
    #[serde(default)]
    pub(crate) more: Vec<u32>,
}

/// A user or group, by name or by number.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Principal {
    /// Number.
    Id(u32),
    /// Name, looked up in the container.
    Name(String),
}

/// Whether the program gets a terminal of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Terminal {
    /// A new pseudo terminal.
    New,
    /// It writes where the command writes.
    Inherited,
}

/// Where the program's output goes, and its input comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Streams {
    /// The command's own streams, or the terminal.
    Caller,
    /// The supervisor, which logs and hands on.
    Supervisor,
}

/// What the program reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Stdin {
    /// What the command reads.
    Inherited,
    /// Nothing.
    Null,
}

/// Which process is the container's first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum First {
    /// Ours: reaps, forwards signals, reports the status.
    Init,
    /// The program itself.
    Program,
}
