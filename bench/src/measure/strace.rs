//! Counts of a daemon's system calls by strace(1), where trace events may not be used.

use std::fs;
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::trace::Counts;

/// A strace that watches.
#[derive(Debug)]
pub(crate) struct Watch {
    child: Child,
    summary: PathBuf,
    // Kept open: strace tells of new threads, and would end if nobody listened.
    errors: Option<BufReader<ChildStderr>>,
}

impl Watch {
    /// Begins to count the system calls of a daemon's threads; `dir` is for a temporary file.
    pub(crate) fn begin(dir: &Path, daemon: i32) -> io::Result<Watch> {
        let summary = dir.join("strace");
        let mut child = Command::new("strace")
            .args(["-c", "-f", "-o"])
            .arg(&summary)
            .args(["-p", &daemon.to_string()])
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|e| io::Error::new(e.kind(), format!("strace: {e}")))?;
        let mut said = String::new();
        let mut errors = child.stderr.take().map(BufReader::new);
        if let Some(errors) = &mut errors {
            // It says "Process N attached" when it has begun.
            errors.read_line(&mut said)?;
        }
        match said.contains("attached") {
            true => Ok(Watch { child, summary, errors }),
            false => {
                child.kill()?;
                child.wait()?;
                Err(io::Error::other(said.trim().to_owned()))
            }
        }
    }

    /// Ends it and returns the counts.
    pub(crate) fn end(mut self) -> io::Result<Counts> {
        // Of the signals that end it with a summary, the one that nobody here blocks or ignores.
        kill(Pid::from_raw(self.child.id() as i32), Signal::SIGQUIT)?;
        self.child.wait()?;
        drop(self.errors.take());
        let text = fs::read_to_string(&self.summary)?;
        fs::remove_file(&self.summary)?;
        Ok(counts(&text))
    }
}

/// Reads strace's table: `% time seconds usecs/call calls errors syscall`, of which errors may be
/// missing.
fn counts(text: &str) -> Counts {
    let of = |line: &str| {
        let words: Vec<_> = line.split_whitespace().collect();
        let name = (*words.last()?).to_owned();
        let calls = words.get(3)?.parse().ok()?;
        (name != "total").then_some((name, calls))
    };
    text.lines().filter_map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_summary_is_read() {
        let text = "% time     seconds  usecs/call     calls    errors syscall\n\
                    ------ ----------- ----------- --------- --------- ----------------\n \
                    60.00    0.000600           6       100           read\n \
                    40.00    0.000400           4       103         2 openat\n\
                    ------ ----------- ----------- --------- --------- ----------------\n\
                    100.00    0.001000           4       203         2 total\n";
        let expected = [("openat".to_owned(), 103), ("read".to_owned(), 100)];
        assert_eq!(counts(text), Counts::from(expected));
    }
}
