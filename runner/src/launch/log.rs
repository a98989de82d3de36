//! What a container's program wrote, kept in podman's `k8s-file` form: a line each
//! `TIME stdout|stderr F|P TEXT`, where `P` says that the line goes on in the next.

use std::fs;
use std::io::Write;
use std::path::Path;

use crate::error::{Context, Result};
use crate::store::{now, rfc3339};

/// Which stream was written to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stream {
    /// Standard output, or the terminal.
    Out,
    /// Standard error.
    Err,
}

impl Stream {
    fn name(self) -> &'static str {
        match self {
            Stream::Out => "stdout",
            Stream::Err => "stderr",
        }
    }
}

/// The file that is written.
#[derive(Debug)]
pub(super) struct Log(fs::File);

impl Log {
    /// Opens the log, behind what earlier runs wrote.
    pub(super) fn open(path: &Path) -> Result<Log> {
        let file = fs::File::options().create(true).append(true).open(path);
        file.map(Log).step_at("open log", path)
    }

    /// Adds what was written.
    pub(super) fn add(&mut self, stream: Stream, bytes: &[u8]) -> std::io::Result<()> {
        self.0.write_all(&lines(&rfc3339(now()), stream, bytes))
    }
}

fn lines(time: &str, stream: Stream, bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len() + 64);
    for line in bytes.split_inclusive(|&b| b == b'\n') {
        let (text, mark) = match line.split_last() {
            Some((b'\n', text)) => (text, "F"),
            _ => (line, "P"),
        };
        out.extend_from_slice(format!("{time} {} {mark} ", stream.name()).as_bytes());
        out.extend_from_slice(text);
        out.push(b'\n');
    }
    out
}

/// One line of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LogLine<'a> {
    /// When, in RFC 3339.
    pub(crate) time: &'a str,
    /// Where.
    pub(crate) stream: Stream,
    /// What, with its end of line if it has one.
    pub(crate) text: Vec<u8>,
}

/// Reads a line of a log, without its end of line; `None`: it is none, as where a crash cut it off.
pub(crate) fn parse(line: &[u8]) -> Option<LogLine<'_>> {
    let mut parts = line.splitn(4, |&b| b == b' ');
    let time = std::str::from_utf8(parts.next()?).ok()?;
    let stream = match parts.next()? {
        b"stdout" => Stream::Out,
        b"stderr" => Stream::Err,
        _ => return None,
    };
    let whole = match parts.next()? {
        b"F" => true,
        b"P" => false,
        _ => return None,
    };
    let mut text = parts.next()?.to_vec();
    if whole {
        text.push(b'\n');
    }
    Some(LogLine { time, stream, text })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        let written = lines("T", Stream::Err, b"one\n\xff two\npart");
        assert_eq!(written, b"T stderr F one\nT stderr F \xff two\nT stderr P part\n");
        let read: Vec<u8> = written
            .strip_suffix(b"\n")
            .unwrap()
            .split(|&b| b == b'\n')
            .flat_map(|l| parse(l).unwrap().text)
            .collect();
        assert_eq!(read, b"one\n\xff two\npart");
        assert_eq!(parse(b"half a li"), None);
    }
}
