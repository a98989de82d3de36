//! Files into and out of a container, as a tar stream: the container's end is a process inside it, where
//! no symlink leads out (CVE-2018-15664), and which loads nothing of the container's (CVE-2019-14271); the
//! host's end believes nothing of what comes.

use std::ffi::OsStr;
use std::fs;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;
use nix::libc;
use nix::sys::stat::{Mode, mkdirat};
use nix::unistd::{UnlinkatFlags, linkat, symlinkat, unlinkat};
use sys::openat::{Confine, open_at, open_confined};
use tar::{Archive, Builder, EntryType};

use crate::error::{Context, Error, Result};

/// Writes a file or directory as a stream; a path that ends in `/.` is what is in the directory.
pub(crate) fn send(path: &Path, to: impl Write) -> Result<()> {
    let mut builder = Builder::new(to);
    builder.follow_symlinks(false);
    let meta = fs::symlink_metadata(path).step_at("copy", path)?;
    let name = path.file_name().map_or_else(|| PathBuf::from("."), PathBuf::from);
    let is_content = path.as_os_str().as_bytes().ends_with(b"/.");
    let sent = match (meta.is_dir(), is_content) {
        (true, true) => builder.append_dir_all(".", path),
        (true, false) => builder.append_dir_all(&name, path),
        (false, _) => builder.append_path_with_name(path, &name),
    };
    sent.and_then(|()| builder.finish()).step_at("copy", path)
}

/// Unpacks a stream: into `path` if it is a directory, else as `path`. What is there is replaced, as
/// `cp -r` does; files are the caller's.
pub(crate) fn receive(path: &Path, from: impl Read) -> Result<()> {
    let (dir, rename) = match fs::metadata(path) {
        Ok(meta) if meta.is_dir() => (path.to_path_buf(), None),
        _ => {
            let name =
                path.file_name().ok_or_else(|| Error::new("copy to", Errno::EISDIR).at(path))?;
            let parent = path.parent().filter(|p| !p.as_os_str().is_empty());
            (parent.unwrap_or(Path::new(".")).to_path_buf(), Some(name.to_owned()))
        }
    };
    let flags = libc::O_RDONLY | libc::O_DIRECTORY;
    let top = open_at(nix::fcntl::AT_FDCWD, dir.as_os_str(), flags, 0).step_at("copy to", &dir)?;
    let mut archive = Archive::new(from);
    for entry in archive.entries().step("read the copied files")? {
        let mut entry = entry.step("read the copied files")?;
        let name = entry.path().step("read the copied files")?.into_owned();
        let Some(below) = placed(&name, rename.as_deref())? else { continue };
        let link = entry.link_name().step("read the copied files")?.map(|l| l.into_owned());
        let link = match (entry.header().entry_type(), link) {
            (EntryType::Link, Some(to)) => placed(&to, rename.as_deref())?,
            (_, link) => link,
        };
        put(&top, &below, &mut entry, link).step_at("copy to", dir.join(&below))?;
    }
    Ok(())
}

/// Returns where an entry goes, below the directory; `None`: it is the directory itself.
fn placed(name: &Path, rename: Option<&OsStr>) -> Result<Option<PathBuf>> {
    let mut out = PathBuf::new();
    for part in name.components() {
        match part {
            Component::CurDir => {}
            Component::Normal(part) if out.as_os_str().is_empty() => {
                out.push(rename.unwrap_or(part));
            }
            Component::Normal(part) => out.push(part),
            _ => {
                return Err(Error::new("copy", "a name leads outside of what was copied").at(name));
            }
        }
    }
    Ok(if out.as_os_str().is_empty() { rename.map(PathBuf::from) } else { Some(out) })
}

/// Makes one file, below what is no symlink.
fn put(
    top: &OwnedFd,
    below: &Path,
    entry: &mut (impl Read + Header),
    link: Option<PathBuf>,
) -> io::Result<()> {
    let name = below.file_name().unwrap_or_default();
    let parent = match below.parent().filter(|p| !p.as_os_str().is_empty()) {
        None => top.try_clone()?,
        Some(parent) => {
            let flags = libc::O_RDONLY | libc::O_DIRECTORY;
            open_confined(top, parent.as_os_str(), flags, 0, Confine::BeneathCrossMounts)?
        }
    };
    let mode = entry.mode()? & 0o7777;
    match entry.kind() {
        EntryType::Directory => match mkdirat(&parent, name, Mode::from_bits_truncate(0o700)) {
            Err(e) if e != Errno::EEXIST => return Err(e.into()),
            _ => {
                let flags = libc::O_RDONLY | libc::O_DIRECTORY | libc::O_NOFOLLOW;
                let dir = fs::File::from(open_at(&parent, name, flags, 0)?);
                dir.set_permissions(fs::Permissions::from_mode(mode))?;
            }
        },
        EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
            clear(&parent, name)?;
            let flags = libc::O_WRONLY | libc::O_CREAT | libc::O_EXCL | libc::O_NOFOLLOW;
            let mut file = fs::File::from(open_at(&parent, name, flags, 0o600)?);
            io::copy(entry, &mut file)?;
            // Whose it was is not kept, so rights that come with the owner are not either.
            file.set_permissions(fs::Permissions::from_mode(mode & 0o1777))?;
            file.set_modified(
                std::time::UNIX_EPOCH + std::time::Duration::from_secs(entry.mtime()?),
            )?;
        }
        EntryType::Symlink => {
            clear(&parent, name)?;
            symlinkat(link.unwrap_or_default().as_path(), &parent, name)?;
        }
        EntryType::Link => {
            clear(&parent, name)?;
            let to = link.unwrap_or_default();
            let old =
                open_confined(top, to.as_os_str(), libc::O_PATH, 0, Confine::BeneathCrossMounts)?;
            let old = sys::openat::proc_path(&old);
            let follow = nix::fcntl::AtFlags::AT_SYMLINK_FOLLOW;
            linkat(nix::fcntl::AT_FDCWD, old.as_str(), &parent, name, follow)?;
        }
        other => {
            return Err(io::Error::other(format!("a file of kind {other:?} can't be copied")));
        }
    }
    Ok(())
}

/// Removes what is there, if it is no directory.
fn clear(parent: &OwnedFd, name: &OsStr) -> io::Result<()> {
    match unlinkat(parent, name, UnlinkatFlags::NoRemoveDir) {
        Ok(()) | Err(Errno::ENOENT) => Ok(()),
        Err(e) => Err(e.into()),
    }
}

/// What an entry of a stream says of itself.
trait Header {
    fn kind(&self) -> EntryType;
    fn mode(&self) -> io::Result<u32>;
    fn mtime(&self) -> io::Result<u64>;
}

impl<R: Read> Header for tar::Entry<'_, R> {
    fn kind(&self) -> EntryType {
        self.header().entry_type()
    }

    fn mode(&self) -> io::Result<u32> {
        self.header().mode()
    }

    fn mtime(&self) -> io::Result<u64> {
        self.header().mtime()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_arrives_as_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let from = dir.path().join("from");
        fs::create_dir_all(from.join("a/b")).unwrap();
        fs::write(from.join("a/b/f"), "x").unwrap();
        std::os::unix::fs::symlink("/etc", from.join("a/l")).unwrap();
        let mut stream = Vec::new();
        send(&from.join("a"), &mut stream).unwrap();
        let to = dir.path().join("to");
        receive(&to, stream.as_slice()).unwrap();
        assert_eq!(fs::read(to.join("b/f")).unwrap(), b"x");
        assert_eq!(fs::read_link(to.join("l")).unwrap(), Path::new("/etc"));
        // Into a directory that is there it goes under its own name.
        receive(&to, stream.as_slice()).unwrap();
        assert_eq!(fs::read(to.join("a/b/f")).unwrap(), b"x");
    }

    #[test]
    fn a_stream_can_t_lead_outside() {
        let dir = tempfile::tempdir().unwrap();
        let (to, outside) = (dir.path().join("to"), dir.path().join("outside"));
        fs::create_dir(&to).unwrap();
        fs::create_dir(&outside).unwrap();
        let mut builder = Builder::new(Vec::new());
        let mut link = tar::Header::new_gnu();
        link.set_entry_type(EntryType::Symlink);
        link.set_size(0);
        builder.append_link(&mut link, "l", &outside).unwrap();
        let mut file = tar::Header::new_gnu();
        file.set_size(1);
        file.set_mode(0o644);
        file.set_mtime(0);
        builder.append_data(&mut file, "l/f", &b"x"[..]).unwrap();
        let stream = builder.into_inner().unwrap();
        assert!(receive(&to, stream.as_slice()).is_err());
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
    }
}
