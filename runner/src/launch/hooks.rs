//! Hooks of a bundle: programs that are told the container's state on standard input (OCI runtime
//! specification, config.md, "POSIX-platform Hooks").

use std::ffi::OsStr;
use std::fs::File;
use std::io::{Read, Seek, Write};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::memfd::{MFdFlags, memfd_create};
use serde_json::{Map, Value};

use crate::error::{Context, Error, Result};
use crate::spec::Hook;

/// How much of what a hook says is told.
const LONGEST: u64 = 4096;

/// Returns the state as a hook is told it.
pub(crate) fn state(of: &Map<String, Value>, status: &str, pid: Option<i32>) -> String {
    let mut all = of.clone();
    all.insert("status".into(), status.into());
    if let Some(pid) = pid {
        all.insert("pid".into(), pid.into());
    }
    Value::Object(all).to_string()
}

/// Runs hooks one after the other.
///
/// # Errors
/// One can't be started, takes longer than it may, or fails; those after it aren't run.
pub(crate) fn run(kind: &str, hooks: &[Hook], state: &str, dir: &OsStr) -> Result<()> {
    for (n, hook) in hooks.iter().enumerate() {
        let name = format!("hooks.{kind}[{n}]");
        one(&name, hook, state, dir).map_err(|why| Error::new(name, why).at(&hook.path))?;
    }
    Ok(())
}

fn one(name: &str, hook: &Hook, state: &str, dir: &OsStr) -> Result<()> {
    // What it says belongs to us, not to the container's own streams.
    let said = File::from(memfd_create(name, MFdFlags::MFD_CLOEXEC).step("start")?);
    let ours = || said.try_clone().step("start");
    let mut command = Command::new(&hook.path);
    if let Some(name) = hook.args.first() {
        command.arg0(name);
    }
    command
        .args(hook.args.iter().skip(1))
        .env_clear()
        .envs(hook.env.iter().map(|(name, value)| (name, value)))
        .current_dir(dir)
        .stdin(Stdio::piped())
        .stdout(ours()?)
        .stderr(ours()?);
    let mut child = command.spawn().step("start")?;
    if let Some(mut input) = child.stdin.take() {
        match input.write_all(state.as_bytes()) {
            // It need not read it.
            Ok(()) | Err(_) => {}
        }
    }
    let status = wait(&mut child, hook.timeout)?;
    if status.success() {
        return Ok(());
    }
    let mut text = String::new();
    let mut said = said;
    said.rewind().step("read what it says")?;
    said.take(LONGEST).read_to_string(&mut text).step("read what it says")?;
    Err(Error::new("it failed", format!("{status}: {}", text.trim().replace('\n', "; "))))
}

fn wait(child: &mut Child, timeout: Option<u64>) -> Result<ExitStatus> {
    let Some(seconds) = timeout else { return child.wait().step("wait") };
    let pidfd = sys::process::pidfd_open(child.id() as i32).step("wait")?;
    let mut fds = [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)];
    let patience = PollTimeout::try_from(seconds.saturating_mul(1000).min(i32::MAX as u64) as i32);
    if poll(&mut fds, patience.unwrap_or(PollTimeout::MAX)).step("wait")? == 0 {
        child.kill().step("end it")?;
        child.wait().step("wait")?;
        return Err(Error::new("timeout", format!("it ran longer than {seconds} s")));
    }
    child.wait().step("wait")
}
