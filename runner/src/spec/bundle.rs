//! What bundles of the OCI runtime specification ask for beyond what `runner run` does.

use std::ffi::OsString;

use serde::{Deserialize, Serialize};

/// A mount of a bundle.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Mount {
    /// Absolute path in the container.
    pub(crate) target: OsString,
    /// What is mounted.
    pub(crate) what: Mounted,
    /// Attributes of the mount itself.
    pub(crate) own: Attributes,
    /// Attributes also of all mounts below it.
    pub(crate) tree: Attributes,
    /// How mounts below it travel between namespaces: `MS_SHARED` and its like, in the order asked for;
    /// each for the mount itself, or for all below it, too.
    pub(crate) propagation: Vec<(u64, bool)>,
}

/// Attributes of a mount (`sys::mount::attr`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Attributes {
    /// Those to add.
    pub(crate) set: u64,
    /// Those to take away.
    pub(crate) clear: u64,
}

/// What a mount shows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Mounted {
    /// A file or directory of the host.
    Bind {
        /// Its path.
        source: OsString,
        /// Whether mounts below it come along.
        tree: bool,
        /// The descriptor under which it was opened before the container's users were entered.
        opened: Option<i32>,
    },
    /// A file system of its own.
    FileSystem {
        /// Its type.
        kind: String,
        /// What it is called in the table of mounts.
        source: String,
        /// Its options: keys, some with a value.
        options: Vec<(String, Option<String>)>,
        /// Whether it begins with a copy of what it covers (`tmpcopyup`).
        copy_up: bool,
    },
    /// The container's cgroups.
    Cgroups,
}

/// A device that is made in the container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Node {
    /// Absolute path in the container, and of the host's device where it can't be made.
    pub(crate) path: OsString,
    /// `S_IFCHR`, `S_IFBLK` or `S_IFIFO`.
    pub(crate) kind: u32,
    /// Major and minor number.
    pub(crate) numbers: (u32, u32),
    /// Mode.
    pub(crate) mode: u32,
    /// Owner, as the container's users see it.
    pub(crate) owner: (u32, u32),
}

/// A program that is run at a point of a container's life.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Hook {
    /// Absolute path.
    pub(crate) path: OsString,
    /// Name and arguments.
    pub(crate) args: Vec<OsString>,
    /// Environment, all of it.
    pub(crate) env: Vec<(OsString, OsString)>,
    /// Seconds after which it is killed.
    pub(crate) timeout: Option<u64>,
}

/// Hooks that the container's first process runs, and what they are told.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Hooks {
    /// In the container's namespaces, before the root is changed.
    pub(crate) create_container: Vec<Hook>,
    /// In the container, before its program.
    pub(crate) start_container: Vec<Hook>,
    /// The state (state.md) as JSON without status and pid, which differ.
    pub(crate) state: serde_json::Map<String, serde_json::Value>,
    /// The bundle: where those before the change of the root are run.
    pub(crate) bundle: OsString,
}

/// What clocks the container has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Clocks {
    /// Those of whoever starts it.
    Inherited,
    /// Its own, which begin at zero.
    AtZero,
    /// Its own, this far from the host's: seconds and nanoseconds.
    Offset {
        /// Of the monotonic clock.
        monotonic: (i64, u32),
        /// Of the time since the machine was started.
        boottime: (i64, u32),
    },
}

/// When the program begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Begin {
    /// At once, and the container ends with its supervisor.
    Now,
    /// When somebody says so at a socket, whoever started the container; it then ends by itself.
    WhenTold,
}

/// How the container's root is entered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Enter {
    /// By pivot_root(2), and where the host's root can't be left, by a move and chroot(2).
    Pivot,
    /// By a move and chroot(2).
    Move,
}
