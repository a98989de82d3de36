//! A worker from the outside: started, listened to, and ended with all that it has started.

use std::io::{self, BufRead, BufReader, Write};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Gid, Pid, Uid};

use super::stop::Stop;
use crate::bed::protocol::{Job, Said};
use crate::measure::trace::{Counting, Counts, Tracing};
use crate::record::{Row, Spent};
use crate::worker;
use crate::worker::namespace::map_ids;

/// Whose ids a worker has.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Identity {
    /// User, who is root in the worker's user namespace.
    pub(crate) uid: Uid,
    /// Group.
    pub(crate) gid: Gid,
}

/// How a turn ended.
#[derive(Debug)]
pub(crate) enum Ended {
    /// The worker did all that it should, and spent its time so.
    Done(Spent),
    /// It failed as a whole: why.
    Failed(String),
    /// The user wants an end.
    Stopped,
}

/// One measurement, with counts where they were asked for.
pub(crate) type Measured = (Row, Option<Result<(Counts, Counts), String>>);

/// Runs one job and returns what was measured, also if it failed after that.
pub(crate) fn turn(
    job: &Job,
    identity: Option<Identity>,
    limit: Duration,
    tracing: Option<&Tracing>,
    stop: &mut Stop,
) -> io::Result<(Vec<Measured>, Ended)> {
    let mut worker = Worker::start(job, identity)?;
    let mut measured = Vec::new();
    let mut counting: Option<Result<Counting<'_>, String>> = None;
    let mut counts = None;
    let deadline = Instant::now() + limit;
    let ended = loop {
        match worker.next(deadline, stop)? {
            Heard::Stop => break Ended::Stopped,
            Heard::Late => break Ended::Failed(format!("it hangs: no end after {limit:?}")),
            Heard::Gone(why) => break Ended::Failed(why),
            Heard::Said(Said::Done(spent)) => break Ended::Done(spent),
            Heard::Said(Said::Failed(why)) => break Ended::Failed(why),
            Heard::Said(Said::Row(row)) => measured.push((*row, counts.take())),
            Heard::Said(Said::Unshared) => {
                let who = identity.unwrap_or(Identity { uid: Uid::current(), gid: Gid::current() });
                map_ids(worker.child.id(), who.uid, who.gid.as_raw())?;
                worker.go()?;
            }
            Heard::Said(Said::Begin { device, daemon }) => {
                counting = begin(tracing, device, daemon);
                worker.go()?;
            }
            Heard::Said(Said::End) => {
                let done = counting.take();
                counts = done.map(|c| c.and_then(|c| c.end().map_err(|e| e.to_string())));
                worker.go()?;
            }
        }
    };
    worker.end(matches!(ended, Ended::Done(_)));
    Ok((measured, ended))
}

fn begin<'a>(
    tracing: Option<&'a Tracing>,
    device: u32,
    daemon: Option<i32>,
) -> Option<Result<Counting<'a>, String>> {
    Some(tracing?.begin(device, daemon?).map_err(|e| e.to_string()))
}

enum Heard {
    Said(Said),
    Stop,
    Late,
    Gone(String),
}

struct Worker {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    line: Vec<u8>,
}

impl Worker {
    fn start(job: &Job, identity: Option<Identity>) -> io::Result<Worker> {
        // The link leads to this program also for a user who couldn't find it by its path.
        let mut command = Command::new("/proc/self/exe");
        command.arg("worker").stdin(Stdio::piped()).stdout(Stdio::piped()).process_group(0);
        command.current_dir("/").env("LC_ALL", "C");
        if let Some(identity) = identity {
            command.uid(identity.uid.as_raw()).gid(identity.gid.as_raw());
        }
        let mut child = command.spawn().map_err(|e| io::Error::other(format!("worker: {e}")))?;
        let (Some(mut input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(io::Error::other("worker: no pipes"));
        };
        let mut line = serde_json::to_string(job)?;
        line.push('\n');
        input.write_all(line.as_bytes())?;
        Ok(Worker { child, input, output: BufReader::new(output), line: Vec::new() })
    }

    fn go(&mut self) -> io::Result<()> {
        self.input.write_all(b"go\n")
    }

    /// Waits for what the worker says, for a signal, or for the deadline.
    fn next(&mut self, deadline: Instant, stop: &mut Stop) -> io::Result<Heard> {
        loop {
            if self.output.buffer().is_empty() {
                let left = deadline.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    return Ok(Heard::Late);
                }
                let timeout = PollTimeout::try_from(left.min(Duration::from_secs(10)))
                    .map_err(io::Error::other)?;
                let mut fds = [
                    PollFd::new(self.output.get_ref().as_fd(), PollFlags::POLLIN),
                    PollFd::new(stop.as_fd(), PollFlags::POLLIN),
                ];
                poll(&mut fds, timeout)?;
                let ready = fds[0].any().unwrap_or(false);
                if stop.asked()? {
                    return Ok(Heard::Stop);
                }
                if !ready {
                    continue;
                }
            }
            let chunk = self.output.fill_buf()?;
            if chunk.is_empty() {
                let status = self.child.wait()?;
                return Ok(Heard::Gone(format!("the worker ended: {status}")));
            }
            let end = chunk.iter().position(|b| *b == b'\n');
            let taken = end.map_or(chunk.len(), |at| at + 1);
            self.line.extend_from_slice(&chunk[..taken]);
            self.output.consume(taken);
            if end.is_some() {
                let said = serde_json::from_slice(&self.line)?;
                self.line.clear();
                return Ok(Heard::Said(said));
            }
        }
    }

    /// Ends the worker and whatever is left of it.
    fn end(mut self, done: bool) {
        drop(self.input);
        let pid = Pid::from_raw(self.child.id() as i32);
        if !done && kill(pid, Signal::SIGTERM).is_err() {
            worker::remark(&format!("worker {pid} has ended before it was told to"));
        }
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs(20) {
            match self.child.try_wait() {
                Ok(None) => std::thread::sleep(Duration::from_millis(1)),
                _ => break,
            }
        }
        // Also what it left: this process is a subreaper.
        worker::end_children();
    }
}
