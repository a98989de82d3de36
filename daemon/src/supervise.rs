//! Holds a connection while workers serve it: one that is killed is replaced, and those who wait for
//! its answers wait a little longer.
//!
//! The connection lives as long as somebody has its descriptor. The supervisor has one thread and
//! does nothing but wait, so there is little that could end it; when it ends, its worker does too.

use std::ffi::CString;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::process::exit;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use nix::fcntl::OFlag;
use nix::sys::prctl;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, getpid, getppid, pipe2};
use sys::process::Fork;

use crate::idle::Idle;
use crate::manager;
use crate::mount::Place;
use crate::ready::Ready;
use crate::reattach::{Connection, Resume};
use crate::signals::{Event, Watch};

/// How many workers in a row may be killed before they serve: so many at least, and for so long.
const MOST_STILLBORN: u32 = 5;
/// See [`MOST_STILLBORN`]. A busy machine, or somebody who kills by name, may get that many in a moment.
const GIVE_UP_AFTER: Duration = Duration::from_secs(20);

/// A worker that served for less has hardly done anything.
const SHORT_LIFE: Duration = Duration::from_millis(100);

/// The longest wait before the next worker, where one after the other has a short life.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// How to become the program that is installed now, on SIGUSR2.
#[derive(Debug)]
pub struct Upgrade {
    /// The program.
    pub program: PathBuf,
    /// Makes its arguments, the name it is called by first.
    pub arguments: fn(Resume) -> Vec<CString>,
    /// Says why the program couldn't go on with the mount at that place; the old one goes on then.
    pub check: fn(Option<&Place>) -> Result<(), String>,
}

/// How a worker ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Exited(u8),
    Killed(Signal),
}

/// What to do after a worker's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    /// End as well.
    End(u8),
    /// Start another one, after a pause.
    Replace(Duration),
}

/// What is remembered of the workers so far.
#[derive(Debug, Default)]
struct History {
    stillborn: u32,
    /// Since when none has served.
    barren_since: Option<Instant>,
    short_lives: u32,
}

/// A running worker.
struct Worker {
    pid: Pid,
    /// Since when it serves.
    live: Option<Instant>,
}

/// Starts a worker, announces it, and replaces it as often as it is killed. SIGTERM, SIGINT, SIGHUP
/// and SIGUSR1 are passed on to it. Returns the exit code when the connection's work is done.
///
/// `worker` runs in a process of its own; its result is that process's exit code.
///
/// # Preconditions
/// The process has one thread.
///
/// # Errors
/// A process or pipe can't be made.
pub fn supervise(
    connection: &Connection,
    ready: Ready,
    upgrade: &Upgrade,
    worker: &mut dyn FnMut(Connection, Ready) -> u8,
) -> io::Result<u8> {
    let watch = Watch::block()?;
    let is_detached = matches!(ready, Ready::Detached(_));
    let mut ready = Some(ready);
    let mut history = History::default();
    loop {
        let current = start(connection, is_detached, &watch, &mut ready, worker)?;
        if current.live.is_some()
            && let Some(ready) = ready.take()
        {
            ready.announce()?;
            if let Err(e) = manager::ready(connection) {
                log::warn!("tell the service manager that the mount is live: {e}");
            }
        }
        let (end, is_wanted) = attend(&current, &watch, connection, upgrade)?;
        if is_wanted {
            unmount(connection);
            return Ok(if let End::Exited(code) = end { code } else { 0 });
        }
        match history.judge(end, current.live.map(|since| since.elapsed()), Instant::now()) {
            Next::End(code) => {
                if let End::Killed(by) = end {
                    log::error!(
                        "the last {} workers were killed before they served, this one by {}: gives up",
                        history.stillborn,
                        by.as_str()
                    );
                }
                if code != 0 {
                    unmount(connection);
                }
                return Ok(code);
            }
            Next::Replace(pause) => {
                if let End::Killed(by) = end {
                    log::warn!("the worker was killed by {}: another one takes over", by.as_str());
                }
                if watch.is_asked_to_end(pause)? {
                    unmount(connection);
                    return Ok(0);
                }
            }
        }
    }
}

impl History {
    /// Decides after a worker's end; `served` is how long it served, if it came to that.
    fn judge(&mut self, end: End, served: Option<Duration>, now: Instant) -> Next {
        match (end, served) {
            (End::Exited(code), None) => return Next::End(code),
            (End::Exited(0), Some(_)) => return Next::End(0),
            (_, None) => {
                self.stillborn += 1;
                let since = *self.barren_since.get_or_insert(now);
                let long = now.saturating_duration_since(since) >= GIVE_UP_AFTER;
                if long && self.stillborn >= MOST_STILLBORN {
                    return Next::End(1);
                }
            }
            (_, Some(_)) => (self.stillborn, self.barren_since) = (0, None),
        }
        if served.is_some_and(|s| s >= SHORT_LIFE) {
            self.short_lives = 0;
        } else {
            self.short_lives += 1;
        }
        let doubled = 1u64.checked_shl(self.short_lives).unwrap_or(u64::MAX);
        let pause = if self.short_lives < 2 { 0 } else { doubled };
        Next::Replace(Duration::from_millis(pause).min(LONGEST_PAUSE))
    }
}

static STARTED: AtomicU64 = AtomicU64::new(0);

/// Returns how many workers were started so far; in a worker, itself included.
pub fn workers_started() -> u64 {
    STARTED.load(Ordering::Relaxed)
}

/// Starts a worker and waits until it serves or has ended.
fn start(
    connection: &Connection,
    is_detached: bool,
    watch: &Watch,
    ready: &mut Option<Ready>,
    worker: &mut dyn FnMut(Connection, Ready) -> u8,
) -> io::Result<Worker> {
    let (read, write) = pipe2(OFlag::O_CLOEXEC)?;
    let supervisor = getpid();
    STARTED.fetch_add(1, Ordering::Relaxed);
    match sys::process::fork()? {
        Fork::Child => {
            drop(read);
            // Who waits for the announcement must not wait for the worker's end.
            drop(ready.take());
            let live = if is_detached { Ready::Detached(write) } else { Ready::Descriptor(write) };
            let own = tie(supervisor, watch).and_then(|()| connection.try_clone());
            match own {
                Ok(own) => exit(i32::from(worker(own, live))),
                Err(e) => {
                    log::error!("start a worker: {e}");
                    exit(1)
                }
            }
        }
        Fork::Parent(pid) => {
            drop(write);
            let live = says_so(read)?.then(Instant::now);
            Ok(Worker { pid: Pid::from_raw(pid), live })
        }
    }
}

/// Ends this process with its supervisor.
fn tie(supervisor: Pid, watch: &Watch) -> io::Result<()> {
    prctl::set_pdeathsig(Signal::SIGKILL)?;
    if getppid() != supervisor {
        // It ended before the line above.
        exit(1);
    }
    watch.release()?;
    Ok(())
}

/// Waits for a byte; false where the pipe is closed without one.
fn says_so(pipe: OwnedFd) -> io::Result<bool> {
    let mut byte = [0; 1];
    let mut pipe = File::from(pipe);
    loop {
        match pipe.read(&mut byte) {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            other => return other.map(|n| n == 1),
        }
    }
}

/// Waits for a worker's end, and obeys signals meanwhile. Returns how it ended, and whether we were
/// asked to end.
fn attend(
    worker: &Worker,
    watch: &Watch,
    connection: &Connection,
    upgrade: &Upgrade,
) -> io::Result<(End, bool)> {
    let mut is_wanted = false;
    let mut idle = Idle::default();
    loop {
        if let Some(end) = ended(worker.pid, WaitPidFlag::WNOHANG)? {
            return Ok((end, is_wanted));
        }
        match watch.wait(&mut idle)? {
            Event::WorkerEnded => {}
            Event::End => {
                is_wanted = true;
                pass_on(worker.pid, Signal::SIGTERM);
            }
            Event::Statistics => pass_on(worker.pid, Signal::SIGUSR1),
            Event::Upgrade => {
                if let Err(cause) = (upgrade.check)(connection.place()) {
                    log::warn!("upgrade: {cause}");
                    continue;
                }
                // No worker may run beside those of the new program, and this one's unanswered
                // requests come again.
                pass_on(worker.pid, Signal::SIGKILL);
                let end = ended(worker.pid, WaitPidFlag::empty())?;
                let cause = become_new(connection, upgrade);
                log::warn!("upgrade to {}: {cause}: goes on as it is", upgrade.program.display());
                return Ok((end.unwrap_or(End::Killed(Signal::SIGKILL)), is_wanted));
            }
        }
    }
}

fn ended(worker: Pid, flags: WaitPidFlag) -> io::Result<Option<End>> {
    match waitpid(worker, Some(flags))? {
        WaitStatus::Exited(_, code) => Ok(Some(End::Exited(code as u8))),
        WaitStatus::Signaled(_, by, _) => Ok(Some(End::Killed(by))),
        _ => Ok(None),
    }
}

fn pass_on(worker: Pid, signal: Signal) {
    if let Err(e) = kill(worker, signal) {
        log::debug!("send {} to the worker: {}", signal.as_str(), e.desc());
    }
}

/// Becomes the program that is installed now; returns only where that fails.
fn become_new(connection: &Connection, upgrade: &Upgrade) -> io::Error {
    let (resume, _file) = match connection.keep_on_exec() {
        Ok(handed) => handed,
        Err(e) => return e.into(),
    };
    let Ok(program) = CString::new(upgrade.program.as_os_str().as_bytes()) else {
        return io::ErrorKind::InvalidInput.into();
    };
    // Signals stay blocked meanwhile, so none is lost.
    match nix::unistd::execv(&program, &(upgrade.arguments)(resume)) {
        Ok(never) => match never {},
        Err(e) => e.into(),
    }
}

fn unmount(connection: &Connection) {
    if let Some(place) = connection.place()
        && let Err(e) = place.unmount()
    {
        log::warn!("{e}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KILLED: End = End::Killed(Signal::SIGKILL);

    #[test]
    fn a_worker_that_served_is_replaced_unless_its_work_is_done() {
        let mut history = History::default();
        let (long, now) = (Some(Duration::from_secs(1)), Instant::now());
        for _ in 0..100 {
            assert_eq!(history.judge(KILLED, long, now), Next::Replace(Duration::ZERO));
            assert_eq!(history.judge(End::Exited(101), long, now), Next::Replace(Duration::ZERO));
        }
        assert_eq!(history.judge(End::Exited(0), long, now), Next::End(0));
    }

    #[test]
    fn a_worker_that_cannot_start_has_said_why() {
        assert_eq!(History::default().judge(End::Exited(2), None, Instant::now()), Next::End(2));
    }

    #[test]
    fn short_lives_are_spaced_and_stillborn_workers_end_it() {
        let mut history = History::default();
        let (short, now) = (Some(Duration::ZERO), Instant::now());
        let mut last = Duration::ZERO;
        for _ in 0..100 {
            let Next::Replace(pause) = history.judge(KILLED, short, now) else { panic!() };
            assert!(pause >= last);
            last = pause;
        }
        assert_eq!(last, LONGEST_PAUSE);
        let late = now + GIVE_UP_AFTER;
        for _ in 1..MOST_STILLBORN {
            assert!(matches!(history.judge(KILLED, None, now), Next::Replace(_)));
        }
        // As many in a moment as there may be; one that serves begins anew.
        assert!(matches!(history.judge(KILLED, None, now), Next::Replace(_)));
        assert!(matches!(history.judge(KILLED, short, late), Next::Replace(_)));
        assert!(matches!(history.judge(KILLED, None, late), Next::Replace(_)));
        for _ in 2..MOST_STILLBORN {
            let much_later = late + 2 * GIVE_UP_AFTER;
            assert!(matches!(history.judge(KILLED, None, much_later), Next::Replace(_)));
        }
        assert_eq!(history.judge(KILLED, None, late + 2 * GIVE_UP_AFTER), Next::End(1));
    }
}
