//! `runner logs`.

use std::fs;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::time::Duration;

use clap::Args;

use crate::error::{Context, Error, Result};
use crate::launch::{Stream, parse_log};
use crate::store::{self, Entry, Keep, Status, Store};

/// How often a log is looked at while it is followed.
const PACE: Duration = Duration::from_millis(50);

/// Print what a container's program has written.
#[derive(Debug, Args)]
pub(crate) struct LogsArgs {
    /// Go on until the container ends
    #[arg(short, long)]
    follow: bool,
    /// The last N lines only
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    tail: Option<i64>,
    /// Print the time of each line
    #[arg(short, long)]
    timestamps: bool,
    /// Container
    #[arg(value_name = "CONTAINER")]
    container: String,
}

/// Prints a log.
pub(super) fn logs(args: LogsArgs, state: Option<&Path>) -> Result<u8> {
    let mut entry = store::find(&Store::choose(state)?, &args.container)?;
    if entry.record.keep == Keep::Thrown {
        return Err(Error::new(
            format!("logs of {}", args.container),
            "a container that goes with its program has none",
        )
        .hint("give it a --name, or start it by --detach, without --rm"));
    }
    let path = entry.log();
    let mut file = match fs::File::open(&path) {
        Ok(file) => file,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound && !args.follow => return Ok(0),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => wait_for_log(&mut entry, &path, e)?,
        Err(e) => return Err(e).step_at("read log", path),
    };
    let mut text = Vec::new();
    file.read_to_end(&mut text).step_at("read log", &path)?;
    let start = match args.tail {
        Some(n) if n >= 0 => tail(&text, n as usize),
        _ => 0,
    };
    let mut rest = text.split_off(start);
    let mut shower = Shower { timestamps: args.timestamps, begins_line: true };
    loop {
        if !shower.show(&mut rest)? || !args.follow {
            return Ok(0);
        }
        entry.refresh();
        let ended = !matches!(entry.status(), Status::Running | Status::Busy);
        let at = file.stream_position().step_at("read log", &path)?;
        file.seek(SeekFrom::Start(at)).step_at("read log", &path)?;
        let more = file.read_to_end(&mut rest).step_at("read log", &path)?;
        if more == 0 {
            if ended {
                return Ok(0);
            }
            std::thread::sleep(PACE);
        }
    }
}

/// Waits for the first thing that is logged.
fn wait_for_log(entry: &mut Entry, path: &Path, e: std::io::Error) -> Result<fs::File> {
    loop {
        match fs::File::open(path) {
            Ok(file) => return Ok(file),
            Err(_) if entry.status() == Status::Created => std::thread::sleep(PACE),
            Err(_) => return Err(e).step_at("read log", path),
        }
        entry.refresh();
    }
}

/// Returns where the last `n` lines begin; parts of one line count as one.
fn tail(text: &[u8], n: usize) -> usize {
    let mut starts = vec![0];
    let mut at = 0;
    for line in text.split_inclusive(|&b| b == b'\n') {
        at += line.len();
        let is_whole = parse_log(line.trim_ascii_end()).is_none_or(|l| l.text.ends_with(b"\n"));
        if is_whole {
            starts.push(at);
        }
    }
    if starts.last() == Some(&text.len()) {
        starts.pop();
    }
    match starts.len().checked_sub(n) {
        Some(skip) => starts.get(skip).copied().unwrap_or(text.len()),
        None => 0,
    }
}

struct Shower {
    timestamps: bool,
    begins_line: bool,
}

impl Shower {
    /// Shows the lines that are complete, and takes them off; false: nobody reads any more.
    fn show(&mut self, text: &mut Vec<u8>) -> Result<bool> {
        let Some(end) = text.iter().rposition(|&b| b == b'\n') else { return Ok(true) };
        let rest = text.split_off(end + 1);
        let lines = std::mem::replace(text, rest);
        for line in lines.split_inclusive(|&b| b == b'\n') {
            let line = line.strip_suffix(b"\n").unwrap_or(line);
            let Some(line) = parse_log(line) else { continue };
            let mut out = Vec::new();
            if self.timestamps && self.begins_line {
                out.extend_from_slice(line.time.as_bytes());
                out.push(b' ');
            }
            self.begins_line = line.text.ends_with(b"\n");
            out.extend_from_slice(&line.text);
            let written = match line.stream {
                Stream::Out => {
                    let mut to = std::io::stdout().lock();
                    to.write_all(&out).and_then(|()| to.flush())
                }
                Stream::Err => std::io::stderr().lock().write_all(&out),
            };
            match written {
                Err(e) if e.kind() == std::io::ErrorKind::BrokenPipe => return Ok(false),
                r => r.step("write output")?,
            }
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tail_has_whole_lines() {
        let text = b"T stdout F a\nT stdout P b\nT stdout F c\nT stdout F d\n";
        assert_eq!(&text[tail(text, 1)..], b"T stdout F d\n");
        assert_eq!(&text[tail(text, 2)..], b"T stdout P b\nT stdout F c\nT stdout F d\n");
        assert_eq!(tail(text, 9), 0);
        assert_eq!(tail(text, 0), text.len());
    }
}
