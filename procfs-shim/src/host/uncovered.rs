//! /proc and /sys without what is bound over them: a program that takes over a daemon's mount must not
//! read the daemon's own files, which nobody answers for at that moment.

use std::os::fd::OwnedFd;
use std::path::Path;

use super::held;
use crate::error::ReadError;

/// The two directories.
#[derive(Debug)]
pub(super) struct Directories {
    pub(super) proc: OwnedFd,
    /// A recorded machine may lack it.
    pub(super) sys: Result<OwnedFd, ReadError>,
}

impl Directories {
    /// Opens them below `root`.
    pub(super) fn open(root: &Path) -> Result<Directories, ReadError> {
        let open = |name| held::directory(&root.join(name));
        Ok(Directories { proc: open("proc")?, sys: open("sys") })
    }

    /// Opens this machine's, without the files of the mount whose identity is `mount`.
    ///
    /// # Errors
    /// `EPERM`, `EINVAL`: files are bound over them, and there is no privilege to look below.
    pub(super) fn below(mount: u64) -> Result<Directories, ReadError> {
        let at = Path::new("/proc/self/mountinfo");
        let mountinfo =
            std::fs::read_to_string(at).map_err(|e| ReadError::Io(at.into(), held::errno(&e)))?;
        let open = |path: &str| {
            let path = Path::new(path);
            let dir = held::directory(path)?;
            if !is_covered(&mountinfo, path, mount) {
                return Ok(dir);
            }
            sys::mount::clone_mount(&dir).map_err(|e| ReadError::Io(path.to_path_buf(), e))
        };
        Ok(Directories { proc: open("/proc")?, sys: Ok(open("/sys")?) })
    }
}

/// Whether files of a mount are bound below a directory, by the text of mountinfo: looking at them might
/// wait for an answer.
fn is_covered(mountinfo: &str, dir: &Path, mount: u64) -> bool {
    let parse = |line: &str| {
        let mut words = line.split(' ');
        let id: u64 = words.next()?.parse().ok()?;
        let device = words.nth(1)?.to_owned();
        Some((id, device, words.nth(1)?.to_owned()))
    };
    let all: Vec<(u64, String, String)> = mountinfo.lines().filter_map(parse).collect();
    let Some((_, device, _)) = all.iter().find(|(id, ..)| *id == mount) else { return false };
    all.iter().any(|(_, theirs, at)| theirs == device && Path::new(at).starts_with(dir))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_own_files_are_looked_below() {
        let text = "30 1 0:40 / /var/lib/procfs-shim rw - fuse.procfs-shim procfs-shim rw\n\
                    31 1 0:40 /proc/stat /proc/stat rw - fuse.procfs-shim procfs-shim rw\n\
                    32 1 0:41 /proc/stat /proc/stat rw - fuse.procfs-shim procfs-shim rw\n\
                    33 1 0:42 / /mnt rw - fuse.procfs-shim procfs-shim rw\n";
        let covered = |dir: &str, mount| is_covered(text, Path::new(dir), mount);
        assert!(covered("/proc", 30));
        assert!(!covered("/sys", 30));
        assert!(!covered("/proc", 33));
        assert!(!covered("/proc", 99));
    }
}
