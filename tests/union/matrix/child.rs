//! Runs one test body in a process of its own, so that neither a panic nor a hang of one file system
//! is the end of the others' run.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use support::Scratch;
use support::process::{adopt_orphans, wait};

use crate::subjects::NOT_APPLICABLE;

/// Says to the process that is started which body it runs, as `FILE::NAME`.
pub(crate) const BODY: &str = "PALIMPSEST_BODY";
/// The same for the subject.
pub(crate) const SUBJECT: &str = "PALIMPSEST_SUBJECT";

/// How a body ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// All that it asserts is so.
    Holds,
    /// Something isn't; what it said.
    Fails(String),
    /// It can't be asked, and why.
    Moot(String),
}

/// Runs `body` on `subject` by `command`, which starts this test program.
pub(crate) fn run(command: &mut Command, body: &str, subject: &str) -> Verdict {
    adopt_orphans();
    let scratch = Scratch::new();
    verdict(command.env("TMPDIR", scratch.path()), scratch.path(), body, subject)
}

/// As [`run`], with the output in `dir`, below which the command lets the body work.
pub(crate) fn verdict(command: &mut Command, dir: &Path, body: &str, subject: &str) -> Verdict {
    let said = dir.join("said");
    let file = || std::fs::File::options().append(true).create(true).open(&said).expect("open");
    let mut child = command
        .args(["--exact", "matrix::a_body_is_run", "--nocapture", "--test-threads=1"])
        .env(BODY, body)
        .env(SUBJECT, subject)
        .stdin(Stdio::null())
        .stdout(file())
        .stderr(file())
        .spawn()
        .unwrap_or_else(|e| panic!("start {command:?}: {e}"));
    let status = end_after(&mut child, dir);
    let text = String::from_utf8_lossy(&std::fs::read(&said).expect("read")).into_owned();
    let after = |mark: &str| text.split(mark).nth(1).and_then(|rest| rest.lines().next());
    match status {
        None => Verdict::Fails("it hangs".to_owned()),
        Some(_) if after(NOT_APPLICABLE).is_some() => {
            Verdict::Moot(after(NOT_APPLICABLE).unwrap_or("").to_owned())
        }
        Some(_) if after("SKIPPED: ").is_some() => {
            Verdict::Moot(after("SKIPPED: ").unwrap_or("").to_owned())
        }
        // The harness succeeds also where its filter finds nothing to run.
        Some(status) if status.success() && text.contains("1 passed") => Verdict::Holds,
        Some(_) => Verdict::Fails(text),
    }
}

/// Waits for a body; `None` if it hangs. Then its daemons are ended first: what waits for an answer of
/// theirs can't be killed.
fn end_after(child: &mut Child, dir: &Path) -> Option<ExitStatus> {
    let (done, watch) = mpsc::channel::<()>();
    std::thread::scope(|scope| {
        let watchdog = scope.spawn(move || {
            let late = watch.recv_timeout(PATIENCE) == Err(mpsc::RecvTimeoutError::Timeout);
            if late {
                end_daemons(dir);
            }
            late
        });
        let status = wait(child);
        drop(done);
        let late = watchdog.join().expect("join the watchdog");
        if late { None } else { status }
    })
}

/// How long a body may take; less than what [`wait`] grants.
const PATIENCE: Duration = Duration::from_secs(45);

/// Ends the processes that were started with a path below `dir`: the daemons of mounts there, also
/// those of other mount namespaces.
fn end_daemons(dir: &Path) {
    let wanted = dir.as_os_str().as_bytes();
    let own = std::process::id() as i32;
    for entry in std::fs::read_dir("/proc").expect("list processes").flatten() {
        let name = entry.file_name();
        let Some(pid) = name.to_str().and_then(|n| n.parse::<i32>().ok()) else { continue };
        let Ok(args) = std::fs::read(entry.path().join("cmdline")) else { continue };
        let named = args.windows(wanted.len()).any(|part| part == wanted);
        if pid != own
            && named
            && let Err(e) = kill(Pid::from_raw(pid), Signal::SIGKILL)
        {
            eprintln!("kill {pid}: {e}");
        }
    }
}
