//! Decides what the program starts with.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use nix::sched::{CpuSet, sched_getaffinity};
use nix::unistd::Pid;

use crate::cgroup::{Decision, Limit};
use crate::error::{Error, Result};
use crate::spec::{First, Limits, Process, Stdin, Terminal, User};

/// Where programs are looked for.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What somebody wants to be run.
#[derive(Debug)]
pub(crate) struct ProcessRequest {
    /// Program and arguments.
    pub(crate) args: Vec<OsString>,
    /// Variables that were asked for.
    pub(crate) env: Vec<(OsString, OsString)>,
    /// Working directory.
    pub(crate) cwd: PathBuf,
    /// User.
    pub(crate) user: User,
    /// Terminal.
    pub(crate) terminal: Terminal,
    /// Standard input.
    pub(crate) stdin: Stdin,
    /// First process.
    pub(crate) first: First,
}

/// Decides environment, working directory and CPUs.
pub(super) fn decide(
    request: ProcessRequest,
    limits: &Limits,
    hostname: &str,
    cgroup: &Decision,
) -> Result<Process> {
    if !request.cwd.has_root() {
        return Err(Error::new("--workdir", "it must be an absolute path").at(&request.cwd));
    }
    if request.args.first().is_none_or(|a| a.is_empty()) {
        return Err(Error::new("command line", "the program has no name"));
    }
    let nul = |s: &OsStr| s.as_bytes().contains(&0);
    if request.args.iter().any(|a| nul(a)) {
        return Err(Error::new("command line", "an argument has a NUL byte"));
    }
    let affinity = match limits.whole_cpus() {
        Some(count) if !cgroup.holds(Limit::CpuSet) => some_cpus(count),
        _ => Vec::new(),
    };
    Ok(Process {
        env: environment(request.env, hostname, request.terminal),
        args: request.args,
        cwd: request.cwd.into_os_string(),
        user: request.user,
        terminal: request.terminal,
        stdin: request.stdin,
        first: request.first,
        affinity,
    })
}

/// Returns the default variables, replaced and followed by those that were asked for.
fn environment(
    asked: Vec<(OsString, OsString)>,
    hostname: &str,
    terminal: Terminal,
) -> Vec<(OsString, OsString)> {
    let mut env: Vec<(OsString, OsString)> = vec![
        ("PATH".into(), PATH.into()),
        ("HOSTNAME".into(), hostname.into()),
        ("container".into(), "palimpsest".into()),
    ];
    if terminal == Terminal::New {
        let term = std::env::var_os("TERM").unwrap_or_else(|| "xterm".into());
        env.push(("TERM".into(), term));
    }
    for (name, value) in asked {
        env.retain(|(n, _)| *n != name);
        env.push((name, value));
    }
    env
}

/// Returns `count` of the CPUs that we may run on ourselves; none if that can't be told, which
/// binds to nothing.
fn some_cpus(count: usize) -> Vec<usize> {
    let Ok(mine) = sched_getaffinity(Pid::from_raw(0)) else { return Vec::new() };
    let all: Vec<usize> =
        (0..CpuSet::count()).filter(|&cpu| mine.is_set(cpu).unwrap_or(false)).collect();
    if count >= all.len() {
        return Vec::new();
    }
    let start = std::process::id() as usize % all.len().max(1);
    let mut chosen: Vec<usize> = all.iter().cycle().skip(start).take(count).copied().collect();
    chosen.sort_unstable();
    chosen
}
