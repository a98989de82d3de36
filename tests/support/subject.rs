//! The file systems that the same test runs on: ours, the kernel's overlayfs, fuse-overlayfs.

use std::path::{Path, PathBuf};

use crate::privilege::{self, Missing};

/// A union file system under test.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    /// Our daemon, as the given program.
    Ours(PathBuf),
    /// The kernel's overlayfs: the oracle.
    Kernel(KernelFeatures),
    /// The packaged fuse-overlayfs.
    FuseOverlayfs,
}

/// Which of the kernel's optional features are on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KernelFeatures {
    /// What the kernel was configured with.
    Default,
    /// What our daemon promises by default: hard links and inode numbers that survive copy-up and
    /// remount, and EXDEV for the rename of a directory with a lower part. Named in full, so that
    /// the configuration of a kernel doesn't matter.
    Contract,
    /// Everything, directory renames and metadata-only copy-up included.
    All,
    /// Those of an unprivileged mount, whose marks are in `user.overlay.`.
    UserXattr,
}

impl KernelFeatures {
    /// Returns the mount options.
    pub fn options(self) -> &'static [&'static str] {
        match self {
            KernelFeatures::Default => &[],
            KernelFeatures::Contract => {
                &["redirect_dir=off", "index=on", "xino=on", "metacopy=off", "nfs_export=off"]
            }
            KernelFeatures::All => &["redirect_dir=on", "index=on", "xino=on", "metacopy=on"],
            KernelFeatures::UserXattr => &["userxattr"],
        }
    }
}

/// The layers of one mount.
#[derive(Clone, Debug, Default)]
pub struct Layers {
    /// Lower layers, the topmost first.
    pub lowers: Vec<PathBuf>,
    /// Upper layer and its work directory; none for a read-only mount.
    pub upper: Option<(PathBuf, PathBuf)>,
    /// Further mount options.
    pub options: Vec<String>,
}

impl Layers {
    /// Returns the `-o` argument: further options first, as engines put them.
    pub fn data(&self, features: &[&str]) -> String {
        let mut all: Vec<String> = features.iter().map(|f| (*f).to_owned()).collect();
        all.extend(self.options.iter().cloned());
        let lowers: Vec<_> = self.lowers.iter().map(|l| l.to_string_lossy()).collect();
        all.push(format!("lowerdir={}", lowers.join(":")));
        if let Some((upper, work)) = &self.upper {
            all.push(format!("upperdir={}", upper.display()));
            all.push(format!("workdir={}", work.display()));
        }
        all.join(",")
    }
}

impl Subject {
    /// Returns a name for messages.
    pub fn name(&self) -> &'static str {
        match self {
            Subject::Ours(_) => "ours",
            Subject::Kernel(_) => "kernel overlayfs",
            Subject::FuseOverlayfs => "fuse-overlayfs",
        }
    }

    /// Returns our daemon: `program`, or what `$PALIMPSEST_UNIONFS` names, so that the suite can be
    /// pointed at another program that takes the same options.
    pub fn ours(program: &str) -> Subject {
        let chosen = std::env::var_os("PALIMPSEST_UNIONFS").map(PathBuf::from);
        Subject::Ours(chosen.unwrap_or_else(|| PathBuf::from(program)))
    }

    /// Says what is missing if this can't be mounted here.
    ///
    /// # Errors
    /// Rights, the package or the kernel's overlayfs are missing.
    pub fn usable(&self) -> Result<(), Missing> {
        privilege::root()?;
        match self {
            Subject::Ours(_) if !Path::new("/dev/fuse").exists() => {
                Err(Missing::Setup("there is no /dev/fuse".into()))
            }
            Subject::Ours(_) => Ok(()),
            Subject::FuseOverlayfs => privilege::installed("fuse-overlayfs"),
            Subject::Kernel(_) => kernel_has_overlayfs(),
        }
    }

    /// Returns the program that serves this, if any does.
    pub fn program(&self) -> Option<PathBuf> {
        match self {
            Subject::Ours(path) => Some(path.clone()),
            Subject::Kernel(_) => None,
            Subject::FuseOverlayfs => Some(PathBuf::from("fuse-overlayfs")),
        }
    }
}

/// Mounts one for a moment: as a module, it isn't in /proc/filesystems before.
fn kernel_has_overlayfs() -> Result<(), Missing> {
    use std::sync::OnceLock;
    static ANSWER: OnceLock<Result<(), Missing>> = OnceLock::new();
    ANSWER
        .get_or_init(|| {
            let scratch = crate::Scratch::new();
            let lowers = vec![scratch.dir("a"), scratch.dir("b")];
            let layers = Layers { lowers, ..Layers::default() };
            match crate::mount::mount_overlay(&layers.data(&[]), &scratch.dir("mnt")) {
                Ok(()) => Ok(()),
                Err(e) => Err(Missing::Kernel(format!("no overlayfs in this kernel ({e})"))),
            }
        })
        .clone()
}
