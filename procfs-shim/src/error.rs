//! Errors: one for people who start the daemon, one for the cause of a file that can't be made.

use std::fmt;
use std::path::PathBuf;

use nix::errno::Errno;

/// Why the daemon can't start; each message names the option or path and says what to do.
#[derive(Debug)]
pub enum StartError {
    /// The command line is wrong: exit code 2.
    Usage(String),
    /// Something of the machine is missing or refused: exit code 1.
    Failed(String),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StartError::Usage(what) | StartError::Failed(what) => f.write_str(what),
        }
    }
}

impl std::error::Error for StartError {}

/// What is wrong with a text of the kernel: the line (from 1) and what was expected there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseError {
    /// Line, from 1.
    pub line: usize,
    /// What was expected.
    pub expected: &'static str,
}

/// Why a value of a container can't be known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReadError {
    /// A file can't be read.
    Io(PathBuf, Errno),
    /// A file has another form than the kernel's documentation says.
    Parse(PathBuf, ParseError),
    /// The reader's process number is not visible here: it lives outside our pid namespace.
    UnknownReader,
    /// No mounted hierarchy has this controller.
    NoController(&'static str),
    /// The container has no cgroup of its own that counts this.
    NotCounted(&'static str),
    /// The cgroup of a process lies outside of what is mounted here.
    OutsideHierarchy(String),
}

impl ReadError {
    /// Says which file a parse error is of.
    pub fn of(file: impl Into<PathBuf>) -> impl FnOnce(ParseError) -> ReadError {
        |e| ReadError::Parse(file.into(), e)
    }

    /// The number for the kernel.
    pub fn errno(&self) -> Errno {
        match self {
            ReadError::Io(_, e) => *e,
            ReadError::UnknownReader => Errno::ESRCH,
            ReadError::Parse(..)
            | ReadError::NoController(_)
            | ReadError::NotCounted(_)
            | ReadError::OutsideHierarchy(_) => Errno::EIO,
        }
    }
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ReadError::Io(path, e) => write!(f, "read {}: {}", path.display(), e.desc()),
            ReadError::Parse(path, e) => {
                write!(f, "parse {}: line {}: expected {}", path.display(), e.line, e.expected)
            }
            ReadError::UnknownReader => {
                f.write_str("the reader's process is not visible in the daemon's pid namespace")
            }
            ReadError::NoController(name) => {
                write!(f, "no mounted cgroup hierarchy has the controller {name}")
            }
            ReadError::NotCounted(what) => {
                write!(f, "the container has no cgroup of its own that counts {what}")
            }
            ReadError::OutsideHierarchy(path) => {
                write!(f, "the cgroup {path} lies outside of the mounted hierarchy")
            }
        }
    }
}

impl std::error::Error for ReadError {}
