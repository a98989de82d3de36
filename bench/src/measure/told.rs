//! Counts of messages that a daemon keeps itself and tells of on SIGUSR1.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::trace::Counts;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// What stands before the counts in an answer.
const BEFORE: &str = "messages: ";
/// Messages that the kernel's trace doesn't show either: nobody waits for an answer.
const UNASKED: [&str; 2] = ["FORGET", "BATCH_FORGET"];

/// A daemon that was asked once.
#[derive(Debug)]
pub(crate) struct Told {
    log: PathBuf,
    daemon: i32,
    before: Counts,
}

impl Told {
    /// Asks a daemon whose standard error is the file `log`.
    pub(crate) fn begin(log: &Path, daemon: i32) -> io::Result<Told> {
        let before = ask(log, daemon)?;
        Ok(Told { log: log.to_path_buf(), daemon, before })
    }

    /// Asks again, and returns the messages that came meanwhile.
    pub(crate) fn end(self) -> io::Result<Counts> {
        let after = ask(&self.log, self.daemon)?;
        let since = |(name, n): (String, u64)| {
            let n = n - self.before.get(&name).copied().unwrap_or(0).min(n);
            (n > 0 && !UNASKED.contains(&name.as_str())).then_some((name, n))
        };
        Ok(after.into_iter().filter_map(since).collect())
    }
}

fn ask(log: &Path, daemon: i32) -> io::Result<Counts> {
    let old = fs::read_to_string(log)?.len();
    kill(Pid::from_raw(daemon), Signal::SIGUSR1)?;
    let start = Instant::now();
    loop {
        let text = fs::read_to_string(log)?;
        let new = text.get(old..).unwrap_or("");
        if let Some(line) = new.split_inclusive('\n').find(|l| l.ends_with('\n'))
            && let Some(counts) = counts(line)
        {
            return Ok(counts);
        }
        if start.elapsed() > PATIENCE {
            return Err(io::Error::other("the daemon doesn't say what it has counted"));
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Reads `…; messages: 12 LOOKUP, 3 GETATTR`.
fn counts(line: &str) -> Option<Counts> {
    let (_, list) = line.split_once(BEFORE)?;
    let count = |part: &str| {
        let (n, name) = part.trim().split_once(' ')?;
        Some((name.to_owned(), n.parse().ok()?))
    };
    Some(list.split(',').filter_map(count).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_daemon_says_is_read() {
        let line = "unionfs: 7 inodes, 1 with descriptors; messages: 12 LOOKUP, 3 GETATTR\n";
        let expected = [("GETATTR".to_owned(), 3), ("LOOKUP".to_owned(), 12)];
        assert_eq!(counts(line), Some(Counts::from(expected)));
        assert_eq!(counts("unionfs: 7 inodes\n"), None);
    }
}
