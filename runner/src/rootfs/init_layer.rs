//! The layer between image and changes: files that every container gets, and mount points that the
//! image lacks. It is made for one container and never becomes a part of an image.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, lchown};
use std::path::Path;

use nix::errno::Errno;
use nix::unistd::{AccessFlags, access};

use crate::error::{Context, Result};
use crate::rootfs::union::topmost;
use crate::spec::Root;

/// Home of root.
const HOME: &str = "root";
/// The kernel shows this owner for an id that the user namespace doesn't have.
const OVERFLOW: u32 = 65534;

/// Fills the init layer.
pub(super) fn fill(dir: &Path, root: &Root) -> Result<()> {
    let top = root.layers.first().map_or(Path::new("/"), Path::new);
    like(dir, top)?;
    for path in &root.skeleton {
        let below = Path::new(path);
        if topmost(root, below).is_none() {
            directory(dir, root, below)?;
        }
    }
    fresh_home(dir, root)?;
    for (path, content) in &root.files {
        let below = Path::new(path);
        let parent = below.parent().unwrap_or(Path::new(""));
        if !directory(dir, root, parent)? {
            continue;
        }
        let file = dir.join(below);
        fs::write(&file, content).step_at("write", &file)?;
        let mode = fs::Permissions::from_mode(0o644);
        fs::set_permissions(&file, mode).step_at("set the mode of", &file)?;
    }
    Ok(())
}

/// Makes an empty home of root that hides the image's, where that is closed to us: without rights over
/// the host's own root, nobody in the container could enter it.
fn fresh_home(dir: &Path, root: &Root) -> Result<()> {
    let Some(original) = topmost(root, Path::new(HOME)) else { return Ok(()) };
    if access(&original, AccessFlags::R_OK | AccessFlags::X_OK) != Err(Errno::EACCES) {
        return Ok(());
    }
    let home = dir.join(HOME);
    fs::DirBuilder::new().mode(0o700).create(&home).step_at("create directory", &home)?;
    let open = fs::File::open(&home).step_at("open", &home)?;
    // Only users without rights come here, whose marks are in this namespace of attributes.
    let mark = OsStr::new("user.overlay.opaque");
    sys::xattr::set(sys::xattr::of(&open), mark, b"y", 0).step_at("hide the image's", &home)
}

/// Makes a directory and those above it. Each looks as the one that it will be merged with, as the
/// topmost layer decides. Returns whether it could: what an image has as a symlink is left alone.
fn directory(dir: &Path, root: &Root, below: &Path) -> Result<bool> {
    let mut done = std::path::PathBuf::new();
    for part in below.components() {
        done.push(part);
        let original = topmost(root, &done);
        if let Some(original) = &original
            && !original.symlink_metadata().step_at("stat", original)?.is_dir()
        {
            return Ok(false);
        }
        let here = dir.join(&done);
        match fs::create_dir(&here) {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => continue,
            r => r.step_at("create directory", &here)?,
        }
        match original {
            Some(original) => like(&here, &original)?,
            None => {
                let mode = fs::Permissions::from_mode(0o755);
                fs::set_permissions(&here, mode).step_at("set the mode of", &here)?;
            }
        }
    }
    Ok(true)
}

/// Gives the top of an upper that is empty the looks of the root that it covers: it decides what `/`
/// shows.
pub(super) fn top_like(upper: &Path, original: &Path) -> Result<()> {
    match fs::read_dir(upper).step_at("read directory", upper)?.next() {
        None => like(upper, original),
        Some(_) => Ok(()),
    }
}

/// Gives a directory the mode, owner and times of another one.
fn like(dir: &Path, original: &Path) -> Result<()> {
    let meta = fs::symlink_metadata(original).step_at("stat", original)?;
    let known = |id: u32| if id == OVERFLOW { None } else { Some(id) };
    lchown(dir, known(meta.uid()), known(meta.gid())).step_at("set the owner of", dir)?;
    let mode = fs::Permissions::from_mode(meta.mode() & 0o7777);
    fs::set_permissions(dir, mode).step_at("set the mode of", dir)?;
    let times = fs::FileTimes::new()
        .set_accessed(meta.accessed().step_at("stat", original)?)
        .set_modified(meta.modified().step_at("stat", original)?);
    let set = fs::File::open(dir).and_then(|f| f.set_times(times));
    set.step_at("set the times of", dir)
}
