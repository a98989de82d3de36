//! Copies a directory of the container into a file system that will cover it.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::os::fd::OwnedFd;

use nix::errno::Errno;
use nix::libc;
use sys::name::SetTime;
use sys::openat::open_at;
use sys::stat::{Stat, stat_at, stat_fd};

use crate::error::{Context, Error, Result};

/// Copies all that is in `from` to `to`, with modes, owners, times and attributes; what is mounted below
/// `from` stays where it is. Sockets are left out, as nobody can listen at a copy.
pub(crate) fn copy_up(from: &OwnedFd, to: &OwnedFd, name: &OsStr) -> Result<()> {
    let from =
        sys::openat::reopen(from, libc::O_RDONLY | libc::O_DIRECTORY).step_at("open", name)?;
    let to = sys::openat::reopen(to, libc::O_RDONLY | libc::O_DIRECTORY).step_at("open", name)?;
    directory(&from, &to).step_at("copy", name)
}

/// Marks a directory that is being filled. A copy that was cut off goes on where it stopped.
const FILLING: &str = "user.palimpsest.filling";

/// Fills a directory that is empty, or that an interrupted command has filled in part, with a copy of what
/// is in `from`.
pub(crate) fn fill(from: &OwnedFd, to: &OwnedFd, name: &OsStr) -> Result<()> {
    let dir = sys::openat::reopen(to, libc::O_RDONLY | libc::O_DIRECTORY).step_at("open", name)?;
    let mut is_empty = true;
    sys::getdents::for_each(&dir, |_| {
        is_empty = false;
        Ok(())
    })
    .step_at("read directory", name)?;
    let mark = OsStr::new(FILLING);
    let is_cut_off = || matches!(sys::xattr::get(sys::xattr::of(&dir), mark), Ok(Some(_)));
    if !is_empty && !is_cut_off() {
        return Ok(());
    }
    match sys::xattr::set(sys::xattr::of(&dir), mark, b"1", 0) {
        // A file system without attributes: what is cut off there stays so.
        Ok(()) | Err(Errno::EOPNOTSUPP | Errno::EPERM) => {}
        Err(e) => return Err(Error::new("mark", e).at(name)),
    }
    copy_up(from, to, name)?;
    match sys::xattr::remove(sys::xattr::of(&dir), mark) {
        Ok(()) | Err(Errno::ENODATA | Errno::EOPNOTSUPP | Errno::EPERM) => Ok(()),
        Err(e) => Err(Error::new("unmark", e).at(name)),
    }
}

fn directory(from: &OwnedFd, to: &OwnedFd) -> nix::Result<()> {
    let mut names: Vec<OsString> = Vec::new();
    sys::getdents::for_each(from, |entry| {
        names.push(entry.name.to_owned());
        Ok(())
    })?;
    for name in &names {
        let stat = stat_at(from, name)?;
        if !stat.mount_root {
            one(from, to, name, &stat)?;
        }
    }
    like(from, to, &stat_fd(from)?)
}

fn one(from: &OwnedFd, to: &OwnedFd, name: &OsStr, stat: &Stat) -> nix::Result<()> {
    let read = libc::O_RDONLY | libc::O_NOFOLLOW | libc::O_NONBLOCK;
    match stat.kind() {
        libc::S_IFDIR => {
            or_there(sys::name::mkdir(to, name, 0o700))?;
            let source = open_at(from, name, read | libc::O_DIRECTORY, 0)?;
            let copy = open_at(to, name, read | libc::O_DIRECTORY, 0)?;
            directory(&source, &copy)
        }
        libc::S_IFREG => {
            let source = open_at(from, name, read, 0)?;
            // It gets its name when it is complete.
            let flags = libc::O_WRONLY | libc::O_TMPFILE;
            match open_at(to, OsStr::new("."), flags, 0o600) {
                Ok(copy) => {
                    let copy = content(source, copy, stat)?;
                    or_there(sys::name::link_fd(&copy, to, name))
                }
                Err(Errno::EOPNOTSUPP | Errno::EISDIR) => {
                    let flags = libc::O_WRONLY | libc::O_CREAT | libc::O_EXCL | libc::O_NOFOLLOW;
                    content(source, open_at(to, name, flags, 0o600)?, stat).map(drop)
                }
                Err(e) => Err(e),
            }
        }
        libc::S_IFLNK => {
            or_there(sys::name::symlink(&sys::name::readlink(from, name)?, to, name))?;
            owner(to, name, stat)
        }
        libc::S_IFSOCK => Ok(()),
        _ => {
            or_there(sys::name::mknod(to, name, stat.mode, stat.rdev))?;
            owner(to, name, stat)
        }
    }
}

/// Copies the content of a file, and all else that it has.
fn content(source: OwnedFd, copy: OwnedFd, stat: &Stat) -> nix::Result<OwnedFd> {
    let (mut reader, mut writer) = (File::from(source), File::from(copy));
    std::io::copy(&mut reader, &mut writer)
        .map_err(|e| Errno::from_raw(e.raw_os_error().unwrap_or(libc::EIO)))?;
    let (source, copy) = (reader.into(), writer.into());
    like(&source, &copy, stat)?;
    Ok(copy)
}

/// What is there already was made by a copy that was cut off, as a whole.
fn or_there(made: nix::Result<()>) -> nix::Result<()> {
    match made {
        Err(Errno::EEXIST) => Ok(()),
        made => made,
    }
}

/// Gives a copy the owner of what it was made of; one that the container's users don't include can't be given.
fn owner(dir: &OwnedFd, name: &OsStr, stat: &Stat) -> nix::Result<()> {
    match sys::name::chown_at(dir, name, Some(stat.uid), Some(stat.gid)) {
        Ok(()) | Err(Errno::EINVAL) => Ok(()),
        Err(e) => Err(e),
    }
}

/// Gives a copy the owner, attributes, mode and times of what it was made of.
fn like(from: &OwnedFd, to: &OwnedFd, stat: &Stat) -> nix::Result<()> {
    owner(to, OsStr::new(""), stat)?;
    for name in sys::xattr::list(sys::xattr::of(from))? {
        // The merged root's own marks are not the container's, and a file system need not have all kinds.
        let bytes = name.as_encoded_bytes();
        if bytes.starts_with(b"trusted.") || bytes.starts_with(b"user.overlay.") {
            continue;
        }
        let Some(value) = sys::xattr::get(sys::xattr::of(from), &name)? else { continue };
        match sys::xattr::set(sys::xattr::of(to), &name, &value, 0) {
            Ok(()) | Err(Errno::EOPNOTSUPP | Errno::EPERM) => {}
            Err(e) => return Err(e),
        }
    }
    sys::name::chmod_fd(to, stat.mode & 0o7777)?;
    sys::name::utimens_at(to, OsStr::new(""), SetTime::At(stat.atime), SetTime::At(stat.mtime))
}
