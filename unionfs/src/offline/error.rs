//! What goes wrong with layers on disk, for people.

use std::fmt;
use std::io;
use std::path::PathBuf;

use sys::Errno;

use super::printed::Printed;
use crate::error::StartError;

/// Result of work on layers that nobody has mounted.
pub type Result<T> = std::result::Result<T, OfflineError>;

/// Why it failed; printed as one line.
#[derive(Debug)]
pub enum OfflineError {
    /// A step on a path of the union or of a layer.
    At(&'static str, PathBuf, Errno),
    /// Layers can't be opened.
    Layers(StartError),
    /// What is written to doesn't take it.
    Output(io::Error),
    /// The same of a file.
    File(PathBuf, io::Error),
    /// Something else, in words.
    Words(String),
}

impl OfflineError {
    /// Returns what makes an error of a step on a path of the union.
    pub(super) fn at(
        step: &'static str,
        path: &[u8],
    ) -> impl FnOnce(Errno) -> OfflineError + use<> {
        use std::os::unix::ffi::OsStrExt;
        let path = PathBuf::from(std::ffi::OsStr::from_bytes(&[b"/", path].concat()));
        move |e| OfflineError::At(step, path, e)
    }
}

impl fmt::Display for OfflineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            OfflineError::At(step, path, e) => {
                write!(f, "{step} {}: {}", Printed(path), e.desc().to_lowercase())
            }
            OfflineError::Layers(e) => e.fmt(f),
            OfflineError::Output(e) => write!(f, "write to standard output: {e}"),
            OfflineError::File(path, e) => write!(f, "write {}: {e}", Printed(path)),
            OfflineError::Words(what) => f.write_str(what),
        }
    }
}

impl std::error::Error for OfflineError {}

impl From<io::Error> for OfflineError {
    fn from(e: io::Error) -> OfflineError {
        OfflineError::Output(e)
    }
}

impl From<StartError> for OfflineError {
    fn from(e: StartError) -> OfflineError {
        OfflineError::Layers(e)
    }
}
