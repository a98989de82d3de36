//! A file that has its name only when it is complete.

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::error::{OfflineError, Result};

/// Size of what is written at once.
pub(super) const BUFFER: usize = 1 << 17;

/// Has `write` write a file that appears, or takes the place of an older one, when it succeeded. What
/// is no file, as a pipe, is written to as it is.
///
/// # Errors
/// What `write` returns, or [`OfflineError::Output`] that names the path.
pub(super) fn write<T>(
    path: &Path,
    write: impl FnOnce(&mut BufWriter<File>) -> Result<T>,
) -> Result<T> {
    let fail = |e: io::Error| OfflineError::File(path.into(), e);
    let name = |e| match e {
        OfflineError::Output(e) => fail(e),
        e => e,
    };
    match path.metadata() {
        Ok(m) if m.is_dir() => return Err(fail(io::ErrorKind::IsADirectory.into())),
        Ok(m) if !m.is_file() => {
            let mut out = BufWriter::with_capacity(
                BUFFER,
                OpenOptions::new().write(true).open(path).map_err(fail)?,
            );
            let done = write(&mut out).map_err(name)?;
            out.into_inner().map_err(|e| fail(e.into_error()))?;
            return Ok(done);
        }
        Ok(_) | Err(_) => {}
    }
    // The file itself, where the path is a link to it.
    let target = path.canonicalize().unwrap_or_else(|_| path.into());
    let new = New::create(&target).map_err(fail)?;
    let mut out = BufWriter::with_capacity(BUFFER, new.file.try_clone().map_err(fail)?);
    let done = write(&mut out).map_err(name)?;
    out.into_inner().map_err(|e| fail(e.into_error()))?;
    new.appear(&target).map_err(fail)?;
    Ok(done)
}

/// A file without a name, or with one that goes away again.
struct New {
    file: File,
    part: PathBuf,
    named: bool,
}

impl New {
    fn create(path: &Path) -> io::Result<New> {
        let dir = match path.parent() {
            Some(dir) if !dir.as_os_str().is_empty() => dir,
            _ => Path::new("."),
        };
        let mut part = path.as_os_str().to_os_string();
        part.push(format!(".{}.part", std::process::id()));
        let mut open = OpenOptions::new();
        let open = open.write(true).mode(0o666);
        // A killed writer leaves nothing of a file without a name.
        match open.clone().custom_flags(libc::O_TMPFILE).open(dir) {
            Ok(file) => Ok(New { file, part: part.into(), named: false }),
            // File systems that have no such files.
            Err(e) if matches!(e.raw_os_error(), Some(libc::EOPNOTSUPP | libc::EISDIR)) => {
                let file = open.create_new(true).open(&part)?;
                Ok(New { file, part: part.into(), named: true })
            }
            Err(e) => Err(e),
        }
    }

    fn appear(mut self, path: &Path) -> io::Result<()> {
        self.file.sync_all()?;
        if !self.named {
            sys::name::link_fd(&self.file, nix::fcntl::AT_FDCWD, self.part.as_os_str())?;
            self.named = true;
        }
        std::fs::rename(&self.part, path)?;
        self.named = false;
        Ok(())
    }
}

impl Drop for New {
    fn drop(&mut self) {
        if self.named
            && let Err(e) = std::fs::remove_file(&self.part)
        {
            log::warn!("remove {}: {e}", self.part.display());
        }
    }
}
