//! Binding the daemon's files over those of a container, from outside of it.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sched::{CloneFlags, setns};
use nix::sys::stat::Mode;
use nix::sys::statfs::{FUSE_SUPER_MAGIC, fstatfs};
use sys::openat::{Confine, open_confined};

use crate::error::StartError;
use crate::host::held::errno;
use crate::host::sysfs::CPU_DIRECTORY;

/// Where a daemon is mounted, by convention.
pub(super) const MOUNT: &str = "/var/lib/procfs-shim";

/// Type of our mounts in mountinfo.
const KIND: &str = "fuse.procfs-shim";

/// `MNT_DETACH | UMOUNT_NOFOLLOW` of `umount2(2)`.
const DETACH: i32 = 2 | 8;

/// A file of the daemon, ready to be attached in any mount namespace.
pub(super) struct Bind {
    /// Path below the daemon's mount and below the container's root.
    pub(super) path: PathBuf,
    mount: OwnedFd,
}

/// A bound file of some daemon, as a process sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Bound {
    /// Which file of the daemon it is.
    pub(super) file: PathBuf,
    /// Where it is bound.
    pub(super) at: PathBuf,
}

fn failed(what: &str, path: &Path, e: Errno) -> StartError {
    StartError::Failed(format!("{what} {}: {}", path.display(), e.desc()))
}

/// Makes binds of all files of the daemon that is mounted at `at`.
///
/// # Errors
/// No daemon is mounted there, or it doesn't answer.
pub(super) fn of_mount(at: &Path) -> Result<Vec<Bind>, StartError> {
    let top = handle(at).map_err(|e| failed("open", at, e))?;
    if !fstatfs(&top).is_ok_and(|s| s.filesystem_type() == FUSE_SUPER_MAGIC) {
        return Err(StartError::Failed(format!(
            "{}: no procfs-shim is mounted there: start one (`procfs-shim {}`), or name its mount by --mount",
            at.display(),
            at.display()
        )));
    }
    let mut paths = Vec::new();
    list(&at.join("proc"), &mut paths).map_err(|e| failed("list", at, errno(&e)))?;
    paths.push(at.join(CPU_DIRECTORY));
    paths.iter().filter_map(|path| Bind::new(at, path).transpose()).collect()
}

fn list(dir: &Path, files: &mut Vec<PathBuf>) -> std::io::Result<()> {
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        match entry.file_type()?.is_dir() {
            true => list(&entry.path(), files)?,
            false => files.push(entry.path()),
        }
    }
    Ok(())
}

fn handle(path: &Path) -> nix::Result<OwnedFd> {
    open(path, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty())
}

impl Bind {
    /// `None` for a file that this machine has not.
    fn new(at: &Path, path: &Path) -> Result<Option<Bind>, StartError> {
        let below = path.strip_prefix(at).unwrap_or(path).to_path_buf();
        let file = match handle(path) {
            Err(Errno::ENOENT) => return Ok(None),
            other => other.map_err(|e| failed("open", path, e))?,
        };
        let mount = sys::mount::clone_mount(&file).map_err(|e| failed("bind", path, e))?;
        Ok(Some(Bind { path: below, mount }))
    }

    /// Attaches it at its path below `root`; false where there is nothing to cover, or a daemon's file
    /// already.
    ///
    /// # Preconditions
    /// This process is in the mount namespace of `root`.
    pub(super) fn attach(&self, root: &OwnedFd) -> Result<bool, StartError> {
        let confine = Confine::InRoot;
        let found = open_confined(root, self.path.as_os_str(), OFlag::O_PATH.bits(), 0, confine);
        let target = match found {
            Err(Errno::ENOENT | Errno::ENOTDIR) => return Ok(false),
            other => other.map_err(|e| failed("open in the container", &self.path, e))?,
        };
        if fstatfs(&target).is_ok_and(|s| s.filesystem_type() == FUSE_SUPER_MAGIC) {
            return Ok(false);
        }
        let moved = sys::mount::move_mount(&self.mount, &target);
        moved.map(|()| true).map_err(|e| failed("bind in the container", &self.path, e))
    }

    /// Attaches it at `at` of the root directory of this process.
    pub(super) fn attach_at(&self, at: &Path) -> Result<(), StartError> {
        let target = handle(at).map_err(|e| failed("open in the container", at, e))?;
        let moved = sys::mount::move_mount(&self.mount, &target);
        moved.map_err(|e| failed("bind in the container", at, e))
    }
}

/// Enters a process's mount namespace and returns its root directory.
///
/// # Preconditions
/// This process has one thread.
///
/// # Errors
/// There is no such process, or no privilege over its namespace.
pub(super) fn enter(pid: u32) -> Result<OwnedFd, StartError> {
    let what = |e: Errno| {
        StartError::Failed(format!(
            "enter the mount namespace of process {pid}: {}: give a running container's process, as root",
            e.desc()
        ))
    };
    let namespace = File::open(format!("/proc/{pid}/ns/mnt")).map_err(|e| what(errno(&e)))?;
    let root = handle(Path::new(&format!("/proc/{pid}/root"))).map_err(what)?;
    setns(namespace, CloneFlags::CLONE_NEWNS).map_err(what)?;
    Ok(root)
}

/// Makes `root` the root directory of this process, so that paths are the container's.
pub(super) fn stay_below(root: &OwnedFd) -> Result<(), StartError> {
    let stay = nix::unistd::fchdir(root).and_then(|()| nix::unistd::chroot("."));
    stay.map_err(|e| failed("enter", Path::new("the container's root"), e))
}

/// Unmounts a bound file; the kernel's own is seen again.
pub(super) fn unbind(at: &Path) -> Result<(), StartError> {
    sys::mount::umount(at.as_os_str(), DETACH).map_err(|e| failed("unmount", at, e))
}

/// Whether nobody answers for a bound file any more.
pub(super) fn is_dead(at: &Path) -> bool {
    File::open(at).is_err_and(|e| errno(&e) == Errno::ENOTCONN)
}

/// Returns what is bound of daemons' files, the newest first, by the text of mountinfo.
pub(super) fn bound(mountinfo: &str) -> Vec<Bound> {
    let line = |line: &str| {
        let (mount, kind) = line.split_once(" - ")?;
        if kind.split(' ').next()? != KIND {
            return None;
        }
        let mut fields = mount.split(' ').skip(3);
        let file = fields.next()?.trim_start_matches('/');
        let at = fields.next()?;
        // The mount itself is no bind; names with blanks don't occur below /proc and /sys.
        (!file.is_empty()).then(|| Bound { file: file.into(), at: at.into() })
    };
    let mut all: Vec<Bound> = mountinfo.lines().filter_map(line).collect();
    all.reverse();
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn binds_are_told_from_mounts() {
        let text = "30 1 0:40 / /var/lib/procfs-shim rw - fuse.procfs-shim procfs-shim rw\n\
                    31 1 0:40 /proc/stat /proc/stat rw - fuse.procfs-shim procfs-shim rw\n\
                    32 1 0:41 /a /proc/stat rw - tmpfs none rw\n\
                    33 1 0:40 /proc/swaps /proc/swaps rw - fuse.procfs-shim procfs-shim rw\n";
        let files: Vec<PathBuf> = bound(text).into_iter().map(|b| b.at).collect();
        assert_eq!(files, [Path::new("/proc/swaps"), Path::new("/proc/stat")]);
    }
}
