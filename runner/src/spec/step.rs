//! One thing that the container's first process does, and how a person reads it.

use std::ffi::OsString;
use std::fmt;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::spec::{Access, Enter, Tmpfs};

/// What the first process does in the new namespaces. The order of [`super::Spec::steps`] is the
/// order of execution.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Step {
    /// Name the host.
    Hostname(String),
    /// Name its domain.
    Domainname(String),
    /// Bring the loopback interface up.
    Loopback,
    /// See one's own cgroup as the root of all.
    CgroupNamespace,
    /// Attach the merged root.
    Root,
    /// Mount /proc of the new pid namespace.
    Proc,
    /// Mount /sys.
    Sys(Access),
    /// Mount the hierarchies of cgroups below /sys/fs/cgroup, read-only.
    Cgroups,
    /// Bind the host's /sys, read-only, as the network is the host's.
    HostSys,
    /// Mount /dev with its nodes and links.
    Dev,
    /// Mount /dev/pts.
    Devpts,
    /// Mount /dev/shm, of so many bytes.
    Shm(u64),
    /// Mount /dev/mqueue.
    Mqueue,
    /// Cover a directory with an empty one in memory.
    Hide(OsString),
    /// Attach a volume, by its place in the list.
    Volume(usize),
    /// Mount a file system in memory.
    Tmpfs(Tmpfs),
    /// Bind a device, by its place in the list.
    Device(usize),
    /// Bind the daemon's files over those of /proc and /sys.
    Shim,
    /// Wait until the network is ready.
    Network,
    /// Make a path of /proc or /sys unreadable.
    Mask(String),
    /// Make a path of /proc or /sys unwritable.
    ReadOnly(String),
    /// Open a new terminal and bind it to /dev/console.
    Console,
    /// Make the root unwritable.
    ReadOnlyRoot,
    /// Make the merged root `/` and let go of the host's.
    Pivot(Enter),
    /// Join a new session keyring of this name.
    Keyring(String),
    /// Attach a mount of the bundle, by its place in the list.
    Mount(usize),
    /// Make the bundle's devices.
    Nodes,
    /// Make the links that programs expect in /dev.
    DevLinks,
    /// Set a parameter of the kernel: its name and its value.
    Sysctl(String, String),
    /// Wait until hooks outside have run.
    OuterHooks,
    /// Run hooks in the new namespaces.
    InnerHooks,
    /// Let mounts of the root travel between namespaces as `MS_SHARED` and its like say.
    Propagation(u64, bool),
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Step::Hostname(name) => write!(f, "set the host name {name}"),
            Step::Loopback => f.write_str("bring up the loopback interface"),
            Step::CgroupNamespace => f.write_str("enter a cgroup namespace"),
            Step::Root => f.write_str("attach the merged root"),
            Step::Proc => f.write_str("mount /proc"),
            Step::Sys(_) => f.write_str("mount /sys"),
            Step::Cgroups => f.write_str("mount /sys/fs/cgroup"),
            Step::HostSys => f.write_str("bind the host's /sys"),
            Step::Dev => f.write_str("mount /dev"),
            Step::Devpts => f.write_str("mount /dev/pts"),
            Step::Shm(_) => f.write_str("mount /dev/shm"),
            Step::Mqueue => f.write_str("mount /dev/mqueue"),
            Step::Hide(path) => write!(f, "hide {}", Path::new(path).display()),
            Step::Volume(n) => write!(f, "attach volume {n}"),
            Step::Tmpfs(t) => write!(f, "mount tmpfs at {}", Path::new(&t.target).display()),
            Step::Device(n) => write!(f, "bind device {n}"),
            Step::Shim => f.write_str("bind the container's own figures over /proc and /sys"),
            Step::Network => f.write_str("wait for the network"),
            Step::Mask(path) => write!(f, "mask {path}"),
            Step::ReadOnly(path) => write!(f, "make read-only {path}"),
            Step::Console => f.write_str("open a terminal"),
            Step::ReadOnlyRoot => f.write_str("make the root read-only"),
            Step::Pivot(_) => f.write_str("change the root"),
            Step::Domainname(name) => write!(f, "set the domain name {name}"),
            Step::Keyring(name) => write!(f, "join the keyring {name}"),
            Step::Mount(n) => write!(f, "attach mount {n}"),
            Step::Nodes => f.write_str("make devices"),
            Step::DevLinks => f.write_str("make links in /dev"),
            Step::Sysctl(name, _) => write!(f, "set {name}"),
            Step::OuterHooks => f.write_str("wait for hooks"),
            Step::InnerHooks => f.write_str("run hooks"),
            Step::Propagation(..) => f.write_str("set the propagation of the root"),
        }
    }
}
