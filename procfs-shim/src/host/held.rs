//! Files of the kernel that are opened once and read many times from their beginning.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open, openat};
use nix::sys::stat::Mode;

use crate::error::ReadError;

/// Room for one read of a short text: holds a whole /proc/meminfo, memory.stat or the like. What is
/// longer is read in several steps, between which another thread may make the kernel write it anew.
const SHORT: usize = 4 * 1024;

/// Room for one read of a text that grows with the machine: /proc/stat of 512 processors.
const LONG: usize = 256 * 1024;

/// A file of /proc, /sys or a cgroup that stays open. The kernel makes its text anew at each read
/// from offset 0, and nothing that is mounted over the path later can take its place: a daemon whose
/// own files are mounted over its own /proc would otherwise wait for itself.
#[derive(Debug)]
pub struct HeldFile {
    file: File,
    path: PathBuf,
}

impl HeldFile {
    /// Opens `name` below a directory whose path is `base` (for messages).
    ///
    /// # Errors
    /// What `openat(2)` answers.
    pub fn open_at(dir: impl AsFd, base: &Path, name: &str) -> Result<HeldFile, ReadError> {
        let path = base.join(name);
        let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC;
        match openat(dir, name, flags, Mode::empty()) {
            Ok(fd) => Ok(HeldFile { file: File::from(fd), path }),
            Err(e) => Err(ReadError::Io(path, e)),
        }
    }

    /// Opens `name` below a directory, or `None` where there is no such file: cgroup files depend on
    /// version, controller and kernel.
    ///
    /// # Errors
    /// Any other failure.
    pub fn find_at(dir: impl AsFd, base: &Path, name: &str) -> Result<Option<HeldFile>, ReadError> {
        match HeldFile::open_at(dir, base, name) {
            Ok(file) => Ok(Some(file)),
            Err(ReadError::Io(_, Errno::ENOENT)) => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Reads a text that the kernel writes as one record, as it does each file of a cgroup, and most of
    /// /proc: where there is room left, there is no more.
    ///
    /// # Errors
    /// `ESRCH`, `ENODEV`: the process or cgroup that the file belongs to is gone.
    pub fn text(&self) -> Result<String, ReadError> {
        self.read(End::ShortRead, SHORT).map(into_text)
    }

    /// Reads a text of one record that grows with the machine.
    ///
    /// # Errors
    /// As [`HeldFile::text`].
    pub fn long_text(&self) -> Result<String, ReadError> {
        self.read(End::ShortRead, LONG).map(into_text)
    }

    /// Reads a text of many records (/proc/cpuinfo, /proc/swaps), of which a read returns as many as
    /// fit a page.
    ///
    /// # Errors
    /// As [`HeldFile::text`].
    pub fn records(&self) -> Result<String, ReadError> {
        self.read(End::EmptyRead, LONG).map(into_text)
    }

    fn read(&self, end_is: End, step: usize) -> Result<Vec<u8>, ReadError> {
        super::trace::note(&self.path);
        let mut text = vec![0; step];
        let mut end = 0;
        loop {
            let room = text.get_mut(end..).unwrap_or_default();
            let room_len = room.len();
            match self.file.read_at(room, end as u64) {
                Ok(0) => break,
                Ok(n) => {
                    end += n;
                    if n < room_len && end_is == End::ShortRead {
                        break;
                    }
                }
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                Err(e) => return Err(ReadError::Io(self.path.clone(), errno(&e))),
            }
            text.resize(end + step, 0);
        }
        text.truncate(end);
        Ok(text)
    }

    /// The path it was opened by.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// How the end of a text shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// By a read that doesn't fill its room.
    ShortRead,
    /// By a read of nothing.
    EmptyRead,
}

/// The kernel writes nothing but ASCII in the files read here, save for names of processes.
fn into_text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap_or_else(|e| String::from_utf8_lossy(e.as_bytes()).into_owned())
}

/// Opens a directory to look up names in.
///
/// # Errors
/// What `open(2)` answers.
pub fn directory(path: &Path) -> Result<OwnedFd, ReadError> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    open(path, flags, Mode::empty()).map_err(|e| ReadError::Io(path.to_path_buf(), e))
}

/// Returns the kernel's number of an I/O error (`EIO` where there is none).
pub fn errno(e: &std::io::Error) -> Errno {
    e.raw_os_error().map_or(Errno::EIO, Errno::from_raw)
}
