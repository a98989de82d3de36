//! Paths of the container, resolved below its root: no symlink leads out, no race either, as what
//! was found is kept as a descriptor.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;
use nix::libc;
use sys::openat::{Confine, open_confined};

use crate::error::{Context, Error, Result};

/// What has to be at a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A directory.
    Directory,
    /// Anything but a directory.
    File,
}

/// Opens a path below the root by `O_PATH`, following symlinks inside it. Makes what is missing:
/// directories on the way, and a directory or an empty file at the end.
pub(crate) fn find_or_make(root: impl AsFd, path: &OsStr, kind: Kind) -> Result<OwnedFd> {
    let root = root.as_fd();
    match open_confined(root, &below(path), libc::O_PATH, 0, Confine::InRoot) {
        Err(Errno::ENOENT) => {}
        r => return r.step_at("open in the container", path),
    }
    let mut done = PathBuf::new();
    let parts: Vec<OsString> = parts(path);
    let last = parts.len().saturating_sub(1);
    let mut dir = open_confined(root, OsStr::new("."), libc::O_PATH, 0, Confine::InRoot)
        .step("open the root")?;
    for (n, part) in parts.iter().enumerate() {
        done.push(part);
        let made = |e: Errno| {
            Error::new("create mount point in the container", e)
                .at(path)
                .hint_if(Errno::EROFS, "nothing can be made in a root that is read-only")
        };
        let open = || open_confined(root, done.as_os_str(), libc::O_PATH, 0, Confine::InRoot);
        dir = match open() {
            Ok(fd) => fd,
            Err(Errno::ENOENT) => {
                // Refuses, by EEXIST, to make what a dangling symlink points at.
                make(&dir, part, if n == last { kind } else { Kind::Directory }).map_err(made)?;
                open().map_err(made)?
            }
            Err(e) => return Err(made(e)),
        };
    }
    Ok(dir)
}

/// Attaches a mount that is attached nowhere yet.
pub(crate) fn attach(mount: impl AsFd, at: impl AsFd, name: &OsStr) -> Result<()> {
    sys::mount::move_mount(mount, at).step_at("attach mount", name)
}

fn make(dir: &OwnedFd, name: &OsStr, kind: Kind) -> nix::Result<()> {
    let mode = nix::sys::stat::Mode::from_bits_truncate(match kind {
        Kind::Directory => 0o755,
        Kind::File => 0o644,
    });
    match kind {
        Kind::Directory => nix::sys::stat::mkdirat(dir, name, mode),
        Kind::File => sys::name::mknod(dir, name, libc::S_IFREG | mode.bits(), 0),
    }
}

/// Returns the path without its leading slash; the root itself is ".".
fn below(path: &OsStr) -> OsString {
    let parts = parts(path);
    if parts.is_empty() { OsString::from(".") } else { parts.iter().collect::<PathBuf>().into() }
}

fn parts(path: &OsStr) -> Vec<OsString> {
    let normal = |c| if let Component::Normal(p) = c { Some(p.to_owned()) } else { None };
    Path::new(path).components().filter_map(normal).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_symlink_stays_inside_and_missing_parts_are_made() {
        let dir = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("/etc", dir.path().join("out")).unwrap();
        std::fs::create_dir(dir.path().join("etc")).unwrap();
        let root = std::fs::File::open(dir.path()).unwrap();
        find_or_make(&root, OsStr::new("/out/a/b"), Kind::File).unwrap();
        assert!(dir.path().join("etc/a/b").is_file());
        assert!(!Path::new("/etc/a").exists());
    }

    #[test]
    fn a_dangling_symlink_is_not_made() {
        let dir = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("/nowhere", dir.path().join("x")).unwrap();
        let root = std::fs::File::open(dir.path()).unwrap();
        assert!(find_or_make(&root, OsStr::new("/x"), Kind::File).is_err());
        assert!(!dir.path().join("nowhere").exists());
    }
}
