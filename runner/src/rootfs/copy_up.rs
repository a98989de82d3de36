//! Copies a directory of the container into a file system that will cover it.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::os::fd::OwnedFd;

use nix::errno::Errno;
use nix::libc;
use sys::name::SetTime;
use sys::openat::open_at;
use sys::stat::{Stat, stat_at, stat_fd};

use crate::error::{Context, Result};

/// Copies all that is in `from` to `to`, with modes, owners, times and attributes; what is mounted below
/// `from` stays where it is. Sockets are left out, as nobody can listen at a copy.
pub(crate) fn copy_up(from: &OwnedFd, to: &OwnedFd, name: &OsStr) -> Result<()> {
    let from =
        sys::openat::reopen(from, libc::O_RDONLY | libc::O_DIRECTORY).step_at("open", name)?;
    let to = sys::openat::reopen(to, libc::O_RDONLY | libc::O_DIRECTORY).step_at("open", name)?;
    let device = stat_fd(&from).step_at("stat", name)?.dev;
    directory(&from, &to, device).step_at("copy", name)
}

fn directory(from: &OwnedFd, to: &OwnedFd, device: u64) -> nix::Result<()> {
    let mut names: Vec<OsString> = Vec::new();
    sys::getdents::for_each(from, |entry| {
        names.push(entry.name.to_owned());
        Ok(())
    })?;
    for name in &names {
        let stat = stat_at(from, name)?;
        if stat.dev == device {
            one(from, to, name, &stat)?;
        }
    }
    like(from, to, &stat_fd(from)?)
}

fn one(from: &OwnedFd, to: &OwnedFd, name: &OsStr, stat: &Stat) -> nix::Result<()> {
    let read = libc::O_RDONLY | libc::O_NOFOLLOW | libc::O_NONBLOCK;
    match stat.kind() {
        libc::S_IFDIR => {
            sys::name::mkdir(to, name, 0o700)?;
            let source = open_at(from, name, read | libc::O_DIRECTORY, 0)?;
            let copy = open_at(to, name, read | libc::O_DIRECTORY, 0)?;
            directory(&source, &copy, stat.dev)
        }
        libc::S_IFREG => {
            let source = open_at(from, name, read, 0)?;
            let flags = libc::O_WRONLY | libc::O_CREAT | libc::O_EXCL | libc::O_NOFOLLOW;
            let copy = open_at(to, name, flags, 0o600)?;
            let (mut reader, mut writer) = (File::from(source), File::from(copy));
            std::io::copy(&mut reader, &mut writer)
                .map_err(|e| Errno::from_raw(e.raw_os_error().unwrap_or(libc::EIO)))?;
            like(&reader.into(), &writer.into(), stat)
        }
        libc::S_IFLNK => {
            sys::name::symlink(&sys::name::readlink(from, name)?, to, name)?;
            owner(to, name, stat)
        }
        libc::S_IFSOCK => Ok(()),
        _ => {
            sys::name::mknod(to, name, stat.mode, stat.rdev)?;
            owner(to, name, stat)
        }
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
