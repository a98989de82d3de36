//! What a worker and the run that started it say to each other: lines of JSON.

use std::io::{self, BufRead, BufReader, Stdin, Stdout, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::bed::scale::Scale;
use crate::record::{Row, Spent};
use crate::subject::Subject;

/// What a worker shall do.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Job {
    /// On what.
    pub(crate) subject: Subject,
    /// Suite and block of it.
    pub(crate) suite: String,
    /// Block.
    pub(crate) block: String,
    /// How.
    pub(crate) mode: Mode,
    /// How large.
    pub(crate) scale: Scale,
    /// Directory of this identity: fixtures and the place for mounts.
    pub(crate) home: PathBuf,
    /// Seed of random choices; the same for all subjects.
    pub(crate) seed: u64,
    /// Work that begins cold finds nothing of the machine's file systems in memory.
    pub(crate) drop_caches: bool,
    /// Who starts engines, where a worker of root does so for an ordinary user.
    pub(crate) user: Option<Ids>,
}

/// Ids of a user.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Ids {
    /// User.
    pub(crate) uid: u32,
    /// Group.
    pub(crate) gid: u32,
}

/// How a worker works.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Mode {
    /// Makes the files that these blocks (`suite/block`) start from.
    Fixtures(Vec<String>),
    /// Mounts, writes, reads.
    Probe,
    /// Measures time.
    Time,
    /// Has messages and system calls counted.
    Count,
    /// Counts system calls itself, by strace.
    Watch,
}

impl Job {
    /// Returns the name of the run's directory, which cgroups have as well.
    pub(crate) fn stage_name(&self) -> String {
        let stage = self.home.parent().and_then(Path::file_name).unwrap_or_default();
        stage.to_string_lossy().into_owned()
    }

    /// Whether things are counted, and time says nothing.
    pub(crate) fn counts(&self) -> bool {
        matches!(self.mode, Mode::Count | Mode::Watch)
    }
}

/// What a worker says.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Said {
    /// It has a user namespace, whose ids are to be mapped. Wants an answer.
    Unshared,
    /// Counting shall begin. Wants an answer.
    Begin {
        /// Device number of the mount.
        device: u32,
        /// Process that serves it.
        daemon: Option<i32>,
    },
    /// Counting shall end; the counts belong to the row that follows. Wants an answer.
    End,
    /// A measurement.
    Row(Box<Row>),
    /// All is done, and where its time went.
    Done(Spent),
    /// The job failed as a whole.
    Failed(String),
}

/// A worker's side.
#[derive(Debug)]
pub(crate) struct Link {
    input: BufReader<Stdin>,
    output: Stdout,
}

impl Link {
    /// Speaks over the standard streams.
    pub(crate) fn standard() -> Link {
        Link { input: BufReader::new(io::stdin()), output: io::stdout() }
    }

    /// Reads the job.
    pub(crate) fn job(&mut self) -> io::Result<Job> {
        Ok(serde_json::from_str(&self.line()?)?)
    }

    /// Says something.
    pub(crate) fn say(&mut self, what: &Said) -> io::Result<()> {
        let mut line = serde_json::to_string(what)?;
        line.push('\n');
        let mut out = self.output.lock();
        out.write_all(line.as_bytes())?;
        out.flush()
    }

    /// Says something and waits for the answer, a line.
    pub(crate) fn ask(&mut self, what: &Said) -> io::Result<()> {
        self.say(what)?;
        match self.line()?.trim() {
            "go" => Ok(()),
            other => Err(io::Error::other(other.to_owned())),
        }
    }

    fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        match self.input.read_line(&mut line)? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(line),
        }
    }
}
