//! The machine's /sys/devices/system/cpu, below which only reading is possible.

use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;

use nix::dir::{Dir, Type};
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat, readlinkat};
use nix::sys::stat::{Mode, SFlag, fstatat};

use super::held::HeldFile;
use crate::error::ReadError;

/// Path of the directory below the root.
pub const CPU_DIRECTORY: &str = "sys/devices/system/cpu";

/// What a name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Directory.
    Directory,
    /// File.
    File,
    /// Symbolic link.
    Link,
}

/// The directory, held open.
#[derive(Debug)]
pub struct CpuDirectory {
    dir: OwnedFd,
    path: Arc<Path>,
}

impl CpuDirectory {
    /// Opens it below `sys`, which is that of `root`.
    ///
    /// # Errors
    /// There is none.
    pub(super) fn open(sys: &OwnedFd, root: &Path) -> Result<CpuDirectory, ReadError> {
        let path = root.join(CPU_DIRECTORY);
        let below = CPU_DIRECTORY.trim_start_matches("sys/");
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        match openat(sys, below, flags, Mode::empty()) {
            Ok(dir) => Ok(CpuDirectory { dir, path: path.into() }),
            Err(e) => Err(ReadError::Io(path, e)),
        }
    }

    /// Returns kind and permission bits of a path below; no link is followed at its end.
    ///
    /// # Errors
    /// `ENOENT`: there is no such thing.
    pub fn look(&self, path: &Path) -> Result<(Kind, u16), ReadError> {
        let stat = fstatat(&self.dir, path, AtFlags::AT_SYMLINK_NOFOLLOW);
        let mode = stat.map_err(|e| self.fail(path, e))?.st_mode;
        let kind = match SFlag::from_bits_truncate(mode) & SFlag::S_IFMT {
            SFlag::S_IFDIR => Kind::Directory,
            SFlag::S_IFLNK => Kind::Link,
            _ => Kind::File,
        };
        Ok((kind, (mode & 0o555) as u16))
    }

    /// Lists a directory below, `.` and `..` left out.
    ///
    /// # Errors
    /// It can't be read.
    pub fn list(&self, path: &Path) -> Result<Vec<(String, Kind)>, ReadError> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let at = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        let mut dir =
            Dir::openat(&self.dir, at, flags, Mode::empty()).map_err(|e| self.fail(path, e))?;
        let entry = |e: nix::dir::Entry| {
            let name = e.file_name().to_str().ok()?.to_owned();
            let kind = match e.file_type()? {
                Type::Directory => Kind::Directory,
                Type::Symlink => Kind::Link,
                _ => Kind::File,
            };
            (name != "." && name != "..").then_some((name, kind))
        };
        Ok(dir.iter().filter_map(Result::ok).filter_map(entry).collect())
    }

    /// Reads a file below.
    ///
    /// # Errors
    /// It can't be read.
    pub fn text(&self, path: &Path) -> Result<String, ReadError> {
        let name = path.to_str().ok_or_else(|| self.fail(path, Errno::EINVAL))?;
        HeldFile::open_at(&self.dir, &self.path, name)?.text()
    }

    /// Reads a link below.
    ///
    /// # Errors
    /// It is none.
    pub fn link(&self, path: &Path) -> Result<OsString, ReadError> {
        readlinkat(&self.dir, path).map_err(|e| self.fail(path, e))
    }

    fn fail(&self, path: &Path, e: Errno) -> ReadError {
        ReadError::Io(self.path.join(path), e)
    }
}
