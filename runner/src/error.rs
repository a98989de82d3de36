//! What went wrong, for a person: step and path first, then the cause and what to do.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io::{self, Write};
use std::path::Path;

use nix::errno::Errno;
use serde::{Deserialize, Serialize};

/// Result of whatever a person waits for.
pub(crate) type Result<T> = std::result::Result<T, Error>;

/// Exit codes of `runner run` that are not the program's own, as podman has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Exit {
    /// The container could not be made, or the command line is wrong.
    Ours = 125,
    /// The program was found, but can't be run.
    CannotRun = 126,
    /// There is no such program.
    NotFound = 127,
}

/// One failure. It crosses processes, as the container's first process fails far from the terminal.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Error {
    exit: Exit,
    step: String,
    path: Option<OsString>,
    cause: String,
    hint: Option<String>,
    errno: Option<i32>,
}

/// Why: the kernel's number, or words.
#[derive(Debug)]
pub(crate) enum Cause {
    /// What a system call answered.
    Errno(Errno),
    /// What we found ourselves.
    Words(String),
}

impl From<Errno> for Cause {
    fn from(e: Errno) -> Cause {
        Cause::Errno(e)
    }
}

impl From<io::Error> for Cause {
    fn from(e: io::Error) -> Cause {
        match e.raw_os_error() {
            Some(n) => Cause::Errno(Errno::from_raw(n)),
            None => Cause::Words(e.to_string()),
        }
    }
}

impl From<serde_json::Error> for Cause {
    fn from(e: serde_json::Error) -> Cause {
        Cause::Words(e.to_string())
    }
}

impl From<Error> for Cause {
    fn from(e: Error) -> Cause {
        Cause::Words(e.to_string())
    }
}

impl From<&str> for Cause {
    fn from(s: &str) -> Cause {
        Cause::Words(s.to_owned())
    }
}

impl From<String> for Cause {
    fn from(s: String) -> Cause {
        Cause::Words(s)
    }
}

impl Error {
    /// Returns an error of ours (exit code 125) in a step.
    pub(crate) fn new(step: impl Into<String>, cause: impl Into<Cause>) -> Error {
        let (cause, errno) = match cause.into() {
            Cause::Errno(e) => (e.desc().to_lowercase(), Some(e as i32)),
            Cause::Words(w) => (w, None),
        };
        Error { exit: Exit::Ours, step: step.into(), path: None, cause, hint: None, errno }
    }

    /// Names the path that the step was about.
    #[must_use]
    pub(crate) fn at(mut self, path: impl AsRef<OsStr>) -> Error {
        self.path = Some(path.as_ref().to_owned());
        self
    }

    /// Says what to do about it.
    #[must_use]
    pub(crate) fn hint(mut self, what: impl Into<String>) -> Error {
        self.hint = Some(what.into());
        self
    }

    /// Says what else may be done about it.
    #[must_use]
    pub(crate) fn or_hint(mut self, what: impl Into<String>) -> Error {
        let what = what.into();
        self.hint =
            Some(self.hint.take().map_or(what.clone(), |before| format!("{before}; {what}")));
        self
    }

    /// Says what to do about it where the cause is `errno`.
    #[must_use]
    pub(crate) fn hint_if(self, errno: Errno, what: &str) -> Error {
        if self.errno == Some(errno as i32) { self.hint(what) } else { self }
    }

    /// Makes the command end with another code than 125.
    #[must_use]
    pub(crate) fn with_exit(mut self, exit: Exit) -> Error {
        self.exit = exit;
        self
    }

    /// Returns the code that the command ends with.
    pub(crate) fn exit(&self) -> Exit {
        self.exit
    }

    /// Whether the kernel answered with this number.
    pub(crate) fn is(&self, errno: Errno) -> bool {
        self.errno == Some(errno as i32)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.step)?;
        if let Some(path) = &self.path {
            write!(f, " {}", Path::new(path).display())?;
        }
        write!(f, ": {}", self.cause)?;
        match &self.hint {
            Some(hint) => write!(f, ": {hint}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Error {}

/// Turns the answer of a call into an [`Error`] that names the step.
pub(crate) trait Context<T> {
    /// Names the step.
    fn step(self, step: &str) -> Result<T>;
    /// Names the step and the path it was about.
    fn step_at(self, step: &str, path: impl AsRef<OsStr>) -> Result<T>;
}

impl<T, E: Into<Cause>> Context<T> for std::result::Result<T, E> {
    fn step(self, step: &str) -> Result<T> {
        self.map_err(|e| Error::new(step, e))
    }

    fn step_at(self, step: &str, path: impl AsRef<OsStr>) -> Result<T> {
        self.map_err(|e| Error::new(step, e).at(path))
    }
}

/// Writes one line to standard error, under the command's name. Unlike `eprintln!` it goes on where
/// nobody listens any more: a container is to be cleared then too.
pub(crate) fn say(text: impl fmt::Display) {
    match io::stderr().lock().write_all(format!("runner: {text}\n").as_bytes()) {
        Ok(()) | Err(_) => {}
    }
}

/// Tells the user something that doesn't end the command.
pub(crate) fn warn(text: impl fmt::Display) {
    say(format_args!("warning: {text}"));
}

/// Goes on after a failure that is not worth ending for, and says so.
pub(crate) fn best_effort<T, E: Into<Cause>>(what: &str, result: std::result::Result<T, E>) {
    if let Err(e) = result {
        warn(Error::new(what, e));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_with_step_path_cause_and_hint() {
        let e = Error::new("open layer", Errno::ENOENT).at("/no").hint("give a directory");
        assert_eq!(e.to_string(), "open layer /no: no such file or directory: give a directory");
        assert_eq!(e.exit() as u8, 125);
        assert!(e.is(Errno::ENOENT));
    }
}
