//! What is compared: file systems, and programs that stand beside ours.

pub(crate) mod find;
pub(crate) mod mount;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// What a subject is compared in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) enum Family {
    /// Unions, and what they are laid over.
    FileSystem,
    /// Files of /proc as a container sees them.
    Shim,
    /// Programs that start containers.
    Container,
    /// podman, by what serves the roots of its containers.
    Engine,
}

impl Family {
    /// Returns the name for people.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Family::FileSystem => "file system",
            Family::Shim => "shim",
            Family::Container => "container",
            Family::Engine => "engine",
        }
    }

    /// Returns the subjects that others are compared to, the first of them that does the same work.
    fn peers(self) -> &'static [&'static str] {
        match self {
            Family::FileSystem => &["overlay", "fuse-overlayfs"],
            Family::Shim => &["lxcfs"],
            Family::Container => &["runc", "podman"],
            Family::Engine => &["podman+fuse-overlayfs"],
        }
    }

    /// Returns the subject that nothing can be faster than.
    fn floor(self) -> &'static str {
        match self {
            Family::FileSystem => "bare",
            Family::Shim => "raw",
            Family::Container => "unshare",
            Family::Engine => "podman+overlay",
        }
    }
}

/// How a subject is mounted or started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) enum Kind {
    /// A plain directory.
    Bare,
    /// A bind mount of a plain directory.
    Bind,
    /// The kernel's overlayfs.
    Overlay,
    /// A daemon with overlayfs's options: fuse-overlayfs, ours.
    FuseOverlay,
    /// unionfs-fuse, with copy-on-write.
    UnionfsFuse,
    /// mergerfs, which has no copy-up.
    Mergerfs,
    /// The kernel's own /proc.
    RawProc,
    /// lxcfs.
    Lxcfs,
    /// Ours.
    ProcfsShim,
    /// unshare(1) with chroot: the floor.
    Unshare,
    /// bubblewrap.
    Bwrap,
    /// runc.
    Runc,
    /// crun.
    Crun,
    /// podman.
    Podman,
    /// buildah, which starts none, but commits them.
    Buildah,
    /// podman on the kernel's overlayfs.
    PodmanOverlay,
    /// podman on copies.
    PodmanVfs,
    /// podman on a mount program.
    PodmanProgram,
    /// Ours.
    Runner,
}

impl Kind {
    /// Returns in what it is compared.
    pub(crate) fn family(self) -> Family {
        match self {
            Kind::Bare
            | Kind::Bind
            | Kind::Overlay
            | Kind::FuseOverlay
            | Kind::UnionfsFuse
            | Kind::Mergerfs => Family::FileSystem,
            Kind::RawProc | Kind::Lxcfs | Kind::ProcfsShim => Family::Shim,
            Kind::PodmanOverlay | Kind::PodmanVfs | Kind::PodmanProgram => Family::Engine,
            _ => Family::Container,
        }
    }

    /// Whether a process serves its mount.
    pub(crate) fn has_daemon(self) -> bool {
        matches!(
            self,
            Kind::FuseOverlay | Kind::UnionfsFuse | Kind::Mergerfs | Kind::Lxcfs | Kind::ProcfsShim
        )
    }
}

/// A subject as a worker gets it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Subject {
    /// As reported; `@user` at its end where it is rootless.
    pub(crate) name: String,
    /// How it is mounted.
    pub(crate) kind: Kind,
    /// The program, if one is started.
    pub(crate) program: PathBuf,
    /// More mount options, separated by commas.
    pub(crate) options: String,
    /// Whether an ordinary user mounts it in a user namespace.
    pub(crate) rootless: bool,
    /// What it says of itself.
    pub(crate) version: String,
    /// The suites and blocks that it is measured in; all, where this is empty.
    pub(crate) only: Vec<String>,
}

impl Subject {
    /// Whether its daemon counts messages, and tells of them on SIGUSR1: ours does.
    pub(crate) fn counts_messages(&self) -> bool {
        self.kind == Kind::FuseOverlay && self.version.starts_with("unionfs ")
    }

    /// Returns how it is mounted or started, in short.
    pub(crate) fn how(&self) -> String {
        let who = if self.rootless { ", in a user namespace" } else { "" };
        match self.kind {
            Kind::PodmanOverlay => return format!("podman on the kernel's overlay{who}"),
            Kind::PodmanVfs => return format!("podman on vfs{who}"),
            Kind::PodmanProgram => return format!("podman on {}{who}", self.program.display()),
            _ => {}
        }
        let options = match self.options.as_str() {
            "" => String::new(),
            options => format!(" -o {options}"),
        };
        match self.program.as_os_str().is_empty() {
            true => format!("{:?}{options}{who}", self.kind).to_lowercase(),
            false => format!("{}{options}{who}", self.program.display()),
        }
    }
}

/// Returns the names of the peer and the floor for the subject called `name`. `has` says whether a
/// subject does the same work, `succeeds` whether it has a value.
pub(crate) fn bases_of(
    family: Family,
    name: &str,
    has: impl Fn(&str) -> bool,
    succeeds: impl Fn(&str) -> bool,
) -> [String; 2] {
    let peers = family.peers();
    let peer = peers.iter().find(|peer| has(peer) || has(&format!("{peer}@user")));
    [peer.unwrap_or(&peers[0]), family.floor()].map(|base| {
        let same = format!("{base}@user");
        match name.ends_with("@user") && succeeds(&same) {
            true => same,
            false => base.to_owned(),
        }
    })
}
