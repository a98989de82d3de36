//! A directory of one test: made where an overlay's upper can live, gone at the end with whatever is
//! mounted below it.

use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use nix::mount::{MntFlags, MsFlags, mount, umount2};

/// Magic number of overlayfs (statfs(2)), which can't hold the upper of another overlay.
const OVERLAYFS: i64 = 0x794c_7630;

/// A private directory. Dropping it unmounts everything below it and removes it.
#[derive(Debug)]
pub struct Scratch(PathBuf);

impl Scratch {
    /// Makes a directory below `$PALIMPSEST_SCRATCH`, else below the directory for temporary files.
    /// Where that is an overlay itself (inside a container), a tmpfs is mounted over it.
    pub fn new() -> Scratch {
        let scratch = Scratch::bare();
        let dir = std::fs::File::open(scratch.path()).expect("open the scratch directory");
        if sys::stat::statfs_fd(&dir).expect("statfs of the scratch directory").magic == OVERLAYFS {
            scratch.cover();
        }
        scratch
    }

    /// Makes a directory on a tmpfs of its own, which is faster than a disk, if the kernel's tmpfs
    /// has user xattrs (Linux 6.6); else, and where the environment names a place, it is as
    /// [`Scratch::new`].
    pub fn in_memory() -> Scratch {
        if std::env::var_os("PALIMPSEST_SCRATCH").is_some() {
            return Scratch::new();
        }
        let scratch = Scratch::bare();
        scratch.cover();
        let dir = std::fs::File::open(scratch.path()).expect("open the scratch directory");
        let probe = sys::xattr::set(sys::xattr::of(&dir), "user.probe".as_ref(), b"1", 0);
        if probe.is_err() {
            drop(dir);
            drop(scratch);
            return Scratch::new();
        }
        sys::xattr::remove(sys::xattr::of(&dir), "user.probe".as_ref()).expect("remove the probe");
        scratch
    }

    /// Makes a directory on a tmpfs of `size` bytes, to run out of space in.
    pub fn of_size(size: u64) -> Scratch {
        let scratch = Scratch::bare();
        scratch.tmpfs(&format!("mode=755,size={size}"));
        scratch
    }

    fn bare() -> Scratch {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let base = std::env::var_os("PALIMPSEST_SCRATCH").map(PathBuf::from);
        let n = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("ptest-{}-{n}", std::process::id());
        let path = base.unwrap_or_else(std::env::temp_dir).join(name);
        std::fs::DirBuilder::new().mode(0o755).create(&path).expect("make a scratch directory");
        // The directory is for other users too, whatever the umask.
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755))
            .expect("open the scratch directory to others");
        Scratch(path.canonicalize().expect("resolve the scratch directory"))
    }

    fn cover(&self) {
        self.tmpfs("mode=755");
    }

    fn tmpfs(&self, data: &str) {
        mount(Some("tmpfs"), &self.0, Some("tmpfs"), MsFlags::empty(), Some(data))
            .expect("mount a tmpfs over the scratch directory");
    }

    /// Returns the directory.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Makes a directory in it with mode 0755 and returns its path.
    pub fn dir(&self, name: &str) -> PathBuf {
        let path = self.0.join(name);
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o755)
            .create(&path)
            .expect("make a directory in scratch");
        path
    }
}

impl Default for Scratch {
    fn default() -> Self {
        Scratch::new()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        for point in mounts_below(&self.0) {
            // Best effort: a test that has failed already must not abort in a second panic.
            if let Err(e) = umount2(&point, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW) {
                eprintln!("unmount {}: {e}", point.display());
            }
        }
        if let Err(e) = std::fs::remove_dir_all(&self.0) {
            eprintln!("remove {}: {e}", self.0.display());
        }
    }
}

/// Returns the mount points at and below `dir`, the last mounted first.
pub fn mounts_below(dir: &Path) -> Vec<PathBuf> {
    let info = std::fs::read("/proc/self/mountinfo").expect("read mountinfo");
    let points = info.split(|&b| b == b'\n').filter_map(|line| {
        let field = line.split(|&b| b == b' ').nth(4)?;
        let point = PathBuf::from(std::ffi::OsStr::from_bytes(&crate::tree::unescape_octal(field)));
        point.starts_with(dir).then_some(point)
    });
    let mut points: Vec<_> = points.collect();
    points.reverse();
    points
}
