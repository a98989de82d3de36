//! A lower layer: read-only by type.

use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::owners::is_idmapped;
use super::{Mapped, Owners, Permissions};
use sys::openat::{Confine, open_confined};
use sys::{Errno, Result};

/// A lower layer, opened before the union is mounted.
#[derive(Debug)]
pub struct LowerLayer {
    root: Arc<OwnedFd>,
    path: PathBuf,
    dev: u64,
    permissions: Option<Permissions>,
    /// What its mount does to owners.
    mapped: Option<Mapped>,
    /// The upper may share blocks of its files, as far as we know.
    shares: AtomicBool,
}

impl LowerLayer {
    /// Opens a directory as a layer. Where the process may, it takes a private copy of the mount
    /// without submounts, so that no mount below the layer, ours included, is ever seen.
    ///
    /// # Errors
    /// `ENOENT`, `ENOTDIR`, `EACCES`: the directory can't be used.
    pub fn open(path: &Path) -> Result<LowerLayer> {
        LowerLayer::open_mapped(path, None)
    }

    /// The same for a union with maps of owners: a layer whose mount maps them is taken to be mapped
    /// by these already, so that they count once. Root's podman 4.2 to 4.4 gives the lowers of a
    /// container with a user namespace so (containers/storage, pull request 1551).
    pub fn open_mapped(path: &Path, maps: Option<&Mapped>) -> Result<LowerLayer> {
        use nix::fcntl::{OFlag, open};
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let fd = open(path, flags, nix::sys::stat::Mode::empty())?;
        let mapped = maps.filter(|_| is_idmapped(&fd)).cloned();
        let root = match sys::mount::clone_mount(&fd) {
            Ok(clone) => clone,
            Err(e) => {
                log::debug!("layer {}: no private mount: {}", path.display(), e.desc());
                fd
            }
        };
        let dev = sys::stat::stat_fd(&root)?.dev;
        let permissions = Permissions::of_layer(sys::xattr::of(&root))?;
        Ok(LowerLayer {
            root: Arc::new(root),
            path: path.to_path_buf(),
            dev,
            permissions,
            mapped,
            shares: true.into(),
        })
    }

    /// Returns the descriptor of the layer's root.
    pub fn root(&self) -> &Arc<OwnedFd> {
        &self.root
    }

    /// Returns the path by which the layer was named.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the device of the layer's root.
    pub fn dev(&self) -> u64 {
        self.dev
    }

    /// Returns in which attribute the layer keeps owners and modes, if in any.
    pub fn permissions(&self) -> Option<Permissions> {
        self.permissions
    }

    /// Returns how the layer tells owners and modes.
    pub fn owners(&self) -> Owners<'_> {
        Owners { attribute: self.permissions, mapped: self.mapped.as_ref() }
    }

    /// Whether the upper may be able to share blocks of this layer's files.
    pub fn shares(&self) -> bool {
        self.shares.load(Ordering::Relaxed)
    }

    /// Notes that it can't.
    pub fn cannot_share(&self) {
        self.shares.store(false, Ordering::Relaxed);
    }

    /// Opens what is at `path` below the layer's root (empty: the root), following no symlink and
    /// crossing no mount.
    pub fn open_at(&self, path: &[u8], flags: i32) -> Result<OwnedFd> {
        let path = if path.is_empty() { b"." } else { path };
        open_confined(
            &self.root,
            OsStr::from_bytes(path),
            flags | libc::O_NOFOLLOW,
            0,
            Confine::BeneathNoSymlinks,
        )
    }

    /// Opens the directory at `path` as an address (`O_PATH`).
    pub fn open_dir(&self, path: &[u8]) -> Result<Arc<OwnedFd>> {
        if path.is_empty() {
            return Ok(Arc::clone(&self.root));
        }
        self.open_at(path, libc::O_PATH | libc::O_DIRECTORY).map(Arc::new)
    }
}

/// An object of a lower layer by its path, which needs no descriptor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LowerRef {
    /// Index of the layer in the stack; 0 is the topmost lower.
    pub layer: u16,
    /// Something is mounted here: what is below can't be seen, so it counts as empty.
    pub barrier: bool,
    /// Whiteouts in this directory may be files with an attribute.
    pub xattr_whiteouts: bool,
    /// Path from the layer's root, without a leading slash; empty for the root itself.
    pub path: Arc<[u8]>,
}

impl LowerRef {
    /// Returns the path of an entry of this directory.
    pub fn child(&self, name: &OsStr) -> Arc<[u8]> {
        if self.path.is_empty() {
            return name.as_bytes().into();
        }
        [&self.path, name.as_bytes()].join(&b'/').into()
    }

    /// Returns an entry of this directory.
    pub fn child_ref(&self, name: &OsStr) -> LowerRef {
        let path = self.child(name);
        LowerRef { layer: self.layer, barrier: false, xattr_whiteouts: false, path }
    }

    /// Splits the path into directory and last name.
    ///
    /// # Errors
    /// `EINVAL`: the root has no name.
    pub fn split(&self) -> Result<(&[u8], &OsStr)> {
        match self.path.iter().rposition(|&b| b == b'/') {
            Some(i) => {
                let dir = self.path.get(..i).unwrap_or_default();
                Ok((dir, OsStr::from_bytes(self.path.get(i + 1..).unwrap_or_default())))
            }
            None if self.path.is_empty() => Err(Errno::EINVAL),
            None => Ok((b"", OsStr::from_bytes(&self.path))),
        }
    }
}
