//! The file systems that are compared, each with its version, and their mounts.

use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use clap::ValueEnum;
use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};

use crate::cli::RunArgs;

/// A file system that can be compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Kind {
    /// A plain directory: what the union is laid over.
    Bare,
    /// The kernel's overlayfs with its defaults.
    Overlayfs,
    /// The fuse-overlayfs that is installed.
    FuseOverlayfs,
    /// Ours.
    Unionfs,
}

impl Kind {
    /// Returns the name as it is typed and reported.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Kind::Bare => "bare",
            Kind::Overlayfs => "overlayfs",
            Kind::FuseOverlayfs => "fuse-overlayfs",
            Kind::Unionfs => "unionfs",
        }
    }
}

/// A file system that can be measured here.
#[derive(Clone, Debug)]
pub(crate) struct Subject {
    /// Which.
    pub(crate) kind: Kind,
    /// What it says of its version.
    pub(crate) version: String,
    program: PathBuf,
}

impl Subject {
    /// Finds a subject, or says why it can't be measured.
    pub(crate) fn find(kind: Kind, args: &RunArgs) -> Result<Subject, String> {
        let program = match kind {
            Kind::Bare | Kind::Overlayfs => PathBuf::new(),
            Kind::FuseOverlayfs => in_path("fuse-overlayfs")?,
            Kind::Unionfs => match &args.unionfs {
                Some(chosen) => chosen.clone(),
                None => beside_us("unionfs").map_or_else(|| in_path("unionfs"), Ok)?,
            },
        };
        let version = match kind {
            Kind::Bare | Kind::Overlayfs => kernel_release()?,
            Kind::FuseOverlayfs | Kind::Unionfs => version_of(&program)?,
        };
        Ok(Subject { kind, version, program })
    }

    /// Mounts layers in `place` (`lower`, `upper`, `work`, `mnt`), which holds nothing else.
    pub(crate) fn mount(&self, place: &Place) -> io::Result<Mounted> {
        let point = place.point.clone();
        let data = format!(
            "lowerdir={},upperdir={},workdir={}",
            place.lower.display(),
            place.upper.display(),
            place.work.display()
        );
        let mut mounted = Mounted { point, daemon: None, kind: self.kind };
        match self.kind {
            Kind::Bare => {}
            Kind::Overlayfs => {
                // Without privileges, marks go where the user may write them.
                let initial = fs::read_to_string("/proc/self/uid_map")?;
                let root = initial.split_whitespace().eq(["0", "0", "4294967295"]);
                let data = if root { data } else { format!("userxattr,{data}") };
                let kind = Some("overlay");
                mount(kind, &mounted.point, kind, MsFlags::empty(), Some(data.as_str()))?;
            }
            Kind::FuseOverlayfs | Kind::Unionfs => {
                let out = Command::new(&self.program)
                    .args(["-o", &data])
                    .arg(&mounted.point)
                    .stdout(Stdio::null())
                    .status()?;
                if !out.success() {
                    return Err(io::Error::other(format!("{}: {out}", self.kind.name())));
                }
                mounted.daemon = daemon_of(&mounted.point);
            }
        }
        Ok(mounted)
    }
}

/// Directories of one mount.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) lower: PathBuf,
    pub(crate) upper: PathBuf,
    pub(crate) work: PathBuf,
    pub(crate) point: PathBuf,
}

/// A live mount; dropping it unmounts it.
#[derive(Debug)]
pub(crate) struct Mounted {
    /// Where.
    pub(crate) point: PathBuf,
    /// The process that serves it, if one does.
    pub(crate) daemon: Option<i32>,
    kind: Kind,
}

impl Drop for Mounted {
    fn drop(&mut self) {
        if self.kind == Kind::Bare {
            return;
        }
        let start = Instant::now();
        let mut done = umount2(&self.point, MntFlags::UMOUNT_NOFOLLOW);
        while done == Err(Errno::EBUSY) && start.elapsed() < Duration::from_secs(5) {
            std::thread::yield_now();
            done = umount2(&self.point, MntFlags::UMOUNT_NOFOLLOW);
        }
        if done.is_err() {
            done = umount2(&self.point, MntFlags::MNT_DETACH);
        }
        if let Err(e) = done {
            eprintln!("bench: unmount {}: {}", self.point.display(), e.desc());
        }
    }
}

fn in_path(name: &str) -> Result<PathBuf, String> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).map(|dir| dir.join(name)).find(|p| p.is_file());
    found.ok_or_else(|| format!("{name} is not installed"))
}

fn beside_us(name: &str) -> Option<PathBuf> {
    let path = std::env::current_exe().ok()?.with_file_name(name);
    path.is_file().then_some(path)
}

fn kernel_release() -> Result<String, String> {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease");
    release.map(|r| format!("Linux {}", r.trim())).map_err(|e| format!("kernel release: {e}"))
}

fn version_of(program: &Path) -> Result<String, String> {
    let out = Command::new(program).arg("--version").stdin(Stdio::null()).output();
    let out = out.map_err(|e| format!("{}: {e}", program.display()))?;
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    let own = text.lines().find(|l| !l.contains("fusermount")).unwrap_or("unknown");
    Ok(own.to_owned())
}

/// Returns the process whose last argument is the mount point.
fn daemon_of(point: &Path) -> Option<i32> {
    fs::read_dir("/proc").ok()?.flatten().find_map(|entry| {
        let pid = entry.file_name().to_str()?.parse().ok()?;
        let args = fs::read(entry.path().join("cmdline")).ok()?;
        let args = args.strip_suffix(b"\0").unwrap_or(&args);
        (args.rsplit(|&b| b == 0).next() == Some(point.as_os_str().as_bytes())).then_some(pid)
    })
}
