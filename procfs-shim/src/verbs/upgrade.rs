//! `procfs-shim upgrade`: asks a supervisor to become the program that is installed now.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Args;
use nix::sys::signal::Signal;

use crate::error::StartError;

/// How long a new worker may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// How often to look for it.
const STEP: Duration = Duration::from_millis(5);

/// Arguments.
#[derive(Debug, Args)]
pub struct UpgradeArgs {
    /// Number of the daemon's process (not of its worker)
    #[arg(value_name = "PID", required_unless_present = "pidfile")]
    pid: Option<i32>,

    /// Take the number from the FILE that the daemon was given by --pidfile
    #[arg(short = 'p', long, value_name = "FILE", conflicts_with = "pid")]
    pidfile: Option<PathBuf>,
}

/// Asks, and waits until the new program serves.
///
/// # Errors
/// There is no such daemon, or it still is the old program.
pub fn upgrade(args: &UpgradeArgs) -> Result<ExitCode, StartError> {
    let pid = number(args)?;
    let failed = |what: String| StartError::Failed(format!("upgrade process {pid}: {what}"));
    let daemon = sys::process::pidfd_open(pid)
        .map_err(|e| failed(format!("{}: give a running daemon's number", e.desc())))?;
    let before = worker(pid);
    if before.is_none() || !waits_to_be_asked(pid) {
        return Err(failed("it doesn't hold a mount of procfs-shim: give the number of the daemon, which is the parent of its worker".into()));
    }
    sys::process::pidfd_send_signal(&daemon, Signal::SIGUSR2 as i32)
        .map_err(|e| failed(e.desc().into()))?;
    let start = Instant::now();
    while start.elapsed() < PATIENCE {
        let now = worker(pid);
        if now.is_some() && now != before {
            return verdict(pid).map_err(failed);
        }
        std::thread::sleep(STEP);
    }
    Err(failed("no new worker within 10 seconds: see the daemon's log".into()))
}

fn number(args: &UpgradeArgs) -> Result<i32, StartError> {
    let Some(file) = &args.pidfile else { return Ok(args.pid.unwrap_or_default()) };
    let failed = |what: String| {
        StartError::Failed(format!(
            "--pidfile {}: {what}: give the file that the daemon was started with",
            file.display()
        ))
    };
    let text = std::fs::read_to_string(file).map_err(|e| failed(e.to_string()))?;
    text.trim().parse().map_err(|_| failed("it has no process number".into()))
}

/// Whether a process is not ended by SIGUSR2, as another program would be.
fn waits_to_be_asked(pid: i32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let ignored = status.lines().find_map(|l| l.strip_prefix("SigIgn:"));
    let mask = ignored.and_then(|m| u64::from_str_radix(m.trim(), 16).ok()).unwrap_or(0);
    mask >> (Signal::SIGUSR2 as u64 - 1) & 1 == 1
}

fn worker(pid: i32) -> Option<i32> {
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).ok()?;
    children.split_ascii_whitespace().next()?.parse().ok()
}

/// A program that was replaced on disk but not in the process is named as deleted.
fn verdict(pid: i32) -> Result<ExitCode, String> {
    let program = std::fs::read_link(format!("/proc/{pid}/exe")).map_err(|e| e.to_string())?;
    if program.to_string_lossy().ends_with(" (deleted)") {
        return Err("it goes on as the old program, and its log says why".into());
    }
    Ok(ExitCode::SUCCESS)
}
