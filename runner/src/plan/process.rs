//! Decides what the program starts with.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

use nix::sched::{CpuSet, sched_getaffinity};
use nix::unistd::Pid;

use crate::cgroup::{Decision, Limit};
use crate::error::{Error, Result};
use crate::plan::seccomp;
use crate::spec::{
    Capabilities, Job, More, Process, Request, Rights, SeccompRequest, Security, Terminal,
};

/// Where programs are looked for.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Decides environment, working directory, CPUs and rights.
pub(super) fn decide(request: &Request, cgroup: &Decision) -> Result<Process> {
    let asked = request.process.clone();
    if !asked.cwd.has_root() {
        return Err(Error::new("--workdir", "it must be an absolute path").at(&asked.cwd));
    }
    if asked.args.first().is_none_or(|a| a.is_empty()) {
        return Err(Error::new("command line", "the program has no name"));
    }
    let nul = |s: &OsStr| s.as_bytes().contains(&0);
    if asked.args.iter().any(|a| nul(a)) {
        return Err(Error::new("command line", "an argument has a NUL byte"));
    }
    let affinity = match request.limits.whole_cpus() {
        Some(count) if !cgroup.holds(Limit::CpuSet) => some_cpus(count),
        _ => Vec::new(),
    };
    Ok(Process {
        env: environment(asked.env, &request.hostname, asked.terminal),
        args: asked.args,
        cwd: asked.cwd.into_os_string(),
        missing_cwd: asked.missing_cwd,
        user: asked.user,
        terminal: asked.terminal,
        stdin: asked.stdin,
        first: asked.first,
        affinity,
        ulimits: asked.ulimits,
        rights: rights(&request.security),
        job: Job::Execute,
        is_tied: true,
        more: More::default(),
    })
}

/// Returns a further process of a running container, which runs where its first process does.
pub(crate) fn process_beside(request: &Request, first: Option<i32>) -> Result<Process> {
    let affinity = match first.map(|pid| sched_getaffinity(Pid::from_raw(pid))) {
        Some(Ok(set)) if request.limits.cpus.is_some() => {
            (0..CpuSet::count()).filter(|&cpu| set.is_set(cpu).unwrap_or(false)).collect()
        }
        _ => Vec::new(),
    };
    let decided = decide(request, &Decision::default())?;
    Ok(Process { affinity, ..decided })
}

/// Returns what the container's programs may do.
pub(crate) fn rights(security: &Security) -> Rights {
    Rights {
        capabilities: Capabilities::of_root(security.capabilities),
        no_new_privs: security.no_new_privs,
        seccomp: match &security.seccomp {
            SeccompRequest::Default => Some(seccomp::default(security.capabilities)),
            SeccompRequest::Unconfined => None,
            SeccompRequest::Profile(profile) => Some(profile.clone()),
        },
        sysinfo: security.sysinfo,
    }
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
