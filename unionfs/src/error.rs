//! Two kinds of errors: a number for the kernel, a sentence for people.

use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};

use sys::Errno;

/// Result of a request: the kernel reads only the number.
pub type Result<T> = std::result::Result<T, Errno>;

/// Why the daemon can't start; printed as one line.
#[derive(Debug)]
pub enum StartError {
    /// An option of the command line is wrong.
    Option(String),
    /// A path given by an option can't be used.
    Path(&'static str, PathBuf, Errno),
    /// Upper and work directory are on different file systems or mounts.
    Apart(PathBuf, PathBuf),
    /// Upper and work directory lie in each other.
    Nested(PathBuf, PathBuf),
    /// The work directory holds something foreign.
    NotEmpty(PathBuf, OsString),
    /// The layer was used by a volatile mount, of which this mark tells.
    WasVolatile(PathBuf),
    /// Another daemon uses the work directory.
    InUse(PathBuf),
    /// Mounting failed.
    Mount(daemon::MountError),
    /// Something else failed; the first part says what was being done.
    Io(&'static str, std::io::Error),
}

impl StartError {
    /// Names the option and the path that an error is about.
    pub fn path(option: &'static str, path: &Path, e: Errno) -> StartError {
        StartError::Path(option, path.into(), e)
    }
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StartError::Option(what) => f.write_str(what),
            StartError::Path(option, path, e) => {
                write!(f, "{option} {}: {}", path.display(), describe(*e))
            }
            StartError::Apart(upper, work) => write!(
                f,
                "workdir {}: not on the same mount as upperdir {}: put both on one file system",
                work.display(),
                upper.display()
            ),
            StartError::Nested(upper, work) => write!(
                f,
                "workdir {} and upperdir {} lie in each other: make them separate directories",
                work.display(),
                upper.display()
            ),
            StartError::NotEmpty(work, name) => write!(
                f,
                "workdir {}: not empty (holds {name:?}): give an empty directory",
                work.display()
            ),
            StartError::WasVolatile(mark) => write!(
                f,
                "workdir: an earlier volatile mount may have left the upper incomplete: remove {} to use it all the same",
                mark.display()
            ),
            StartError::InUse(work) => write!(
                f,
                "workdir {}: in use by another unionfs: unmount that one first, or give each mount its own, or -o ro to look at it",
                work.display()
            ),
            StartError::Mount(e) => e.fmt(f),
            StartError::Io(doing, e) => write!(f, "{doing}: {e}"),
        }
    }
}

fn describe(e: Errno) -> String {
    let hint = match e {
        Errno::ENOENT => ": create it first",
        Errno::ENOTDIR => ": give a directory",
        Errno::EACCES | Errno::EPERM => ": this user may not use it",
        Errno::EROFS => ": leave out upperdir for a read-only union",
        _ => "",
    };
    format!("{}{hint}", e.desc())
}

impl std::error::Error for StartError {}

impl From<daemon::MountError> for StartError {
    fn from(e: daemon::MountError) -> StartError {
        StartError::Mount(e)
    }
}

/// Goes on after a failure that must not fail the request, and logs it.
pub fn best_effort(doing: &str, result: Result<()>) {
    if let Err(e) = result {
        log::warn!("{doing}: {}", e.desc());
    }
}
