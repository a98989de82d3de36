//! Files of the kernel that are opened once and read many times from their beginning.

use std::cell::RefCell;
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::errno::Errno;
use nix::fcntl::{OFlag, open, openat};
use nix::sys::stat::Mode;

use crate::error::ReadError;

/// Room for one read: holds the longest text, /proc/stat of 512 processors or more. What is longer is
/// read in several steps, between which another thread may make the kernel write it anew.
const ROOM: usize = 256 * 1024;

thread_local! {
    /// Where a thread reads to; of its memory only as much is used as texts have filled.
    static BUFFER: RefCell<Vec<u8>> = RefCell::new(vec![0; ROOM]);
}

/// A file of /proc, /sys or a cgroup that stays open. The kernel makes its text anew at each read
/// from offset 0, and nothing that is mounted over the path later can take its place: a daemon whose
/// own files are mounted over its own /proc would otherwise wait for itself.
#[derive(Debug)]
pub struct HeldFile {
    file: File,
    /// The directory's path, which its files share.
    base: Arc<Path>,
    name: Box<str>,
}

impl HeldFile {
    /// Opens `name` below a directory whose path is `base` (for messages).
    ///
    /// # Errors
    /// What `openat(2)` answers.
    pub fn open_at(dir: impl AsFd, base: &Arc<Path>, name: &str) -> Result<HeldFile, ReadError> {
        let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC;
        match openat(dir, name, flags, Mode::empty()) {
            Ok(fd) => Ok(HeldFile { file: File::from(fd), base: base.clone(), name: name.into() }),
            Err(e) => Err(ReadError::Io(base.join(name), e)),
        }
    }

    /// Opens `name` below a directory, or `None` where there is no such file: cgroup files depend on
    /// version, controller and kernel.
    ///
    /// # Errors
    /// Any other failure.
    pub fn find_at(
        dir: impl AsFd,
        base: &Arc<Path>,
        name: &str,
    ) -> Result<Option<HeldFile>, ReadError> {
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
        self.read(End::ShortRead)
    }

    /// Reads a text of many records (/proc/cpuinfo, /proc/swaps), of which a read returns as many as
    /// fit a page.
    ///
    /// # Errors
    /// As [`HeldFile::text`].
    pub fn records(&self) -> Result<String, ReadError> {
        self.read(End::EmptyRead)
    }

    fn read(&self, end_is: End) -> Result<String, ReadError> {
        super::trace::note(|| self.path());
        BUFFER.with_borrow_mut(|buffer| {
            let end = self.fill(buffer, end_is);
            let text = buffer.get(..end?).unwrap_or_default();
            // The kernel writes nothing but ASCII in the files read here, save for names of processes.
            Ok(String::from_utf8_lossy(text).into_owned())
        })
    }

    /// Fills the buffer, which grows as it must, from its beginning; returns how far.
    fn fill(&self, buffer: &mut Vec<u8>, end_is: End) -> Result<usize, ReadError> {
        let mut end = 0;
        loop {
            let room = buffer.get_mut(end..).unwrap_or_default();
            let room_len = room.len();
            match self.file.read_at(room, end as u64) {
                Ok(0) => return Ok(end),
                Ok(n) => {
                    end += n;
                    if n < room_len && end_is == End::ShortRead {
                        return Ok(end);
                    }
                }
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                Err(e) => return Err(ReadError::Io(self.path(), errno(&e))),
            }
            if end == buffer.len() {
                buffer.resize(end + ROOM, 0);
            }
        }
    }

    /// The path it was opened by.
    pub fn path(&self) -> PathBuf {
        self.base.join(&*self.name)
    }
}

impl From<&HeldFile> for PathBuf {
    fn from(file: &HeldFile) -> PathBuf {
        file.path()
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
