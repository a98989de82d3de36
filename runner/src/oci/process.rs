//! `process`: the program of a bundle, or a further one.

use std::ffi::OsString;

use oci_spec::runtime::{
    Capabilities as Set, LinuxPersonality, LinuxPersonalityDomain, LinuxSeccomp, Process as Asked,
};

use crate::error::{Error, Result};
use crate::oci::bundle::variables;
use crate::oci::seccomp;
use crate::spec::{
    Capabilities, First, Job, MissingCwd, More, Principal, Process, Rights, Stdin, Sysinfo,
    Terminal, Ulimit, User, capability,
};

/// What is known of a program beside `process`.
pub(super) struct Around<'a> {
    /// The bundle's filter of system calls.
    pub(super) seccomp: Option<&'a LinuxSeccomp>,
    /// The bundle's execution domain.
    pub(super) personality: Option<&'a LinuxPersonality>,
    /// Which process it is.
    pub(super) first: First,
    /// Descriptors to hand over.
    pub(super) kept: u32,
}

/// Translates a process.
pub(super) fn translate(asked: &Asked, around: &Around<'_>) -> Result<Process> {
    let seccomp = around.seccomp.map(seccomp::translate).transpose();
    let seccomp = seccomp.map_err(|why| Error::new("linux.seccomp", why))?;
    let apparmor = asked.apparmor_profile().clone().filter(|p| !p.is_empty() && p != "unconfined");
    if let Some(profile) = &apparmor
        && !std::path::Path::new("/sys/kernel/security/apparmor").exists()
    {
        return Err(Error::new("process.apparmorProfile", "the host has no AppArmor").at(profile));
    }
    let terminal = if asked.terminal() == Some(true) { Terminal::New } else { Terminal::Inherited };
    let user = asked.user();
    Ok(Process {
        args: asked.args().iter().flatten().map(OsString::from).collect(),
        env: environment(asked, around.kept),
        cwd: asked.cwd().as_os_str().to_owned(),
        // As all runtimes do: images name directories that they lack.
        missing_cwd: MissingCwd::Make,
        user: User {
            user: Principal::Id(user.uid()),
            group: Some(Principal::Id(user.gid())),
            more: user.additional_gids().clone().unwrap_or_default(),
        },
        terminal,
        stdin: Stdin::Inherited,
        first: around.first,
        affinity: Vec::new(),
        ulimits: ulimits(asked),
        rights: Rights {
            capabilities: capabilities(asked),
            no_new_privs: asked.no_new_privileges() == Some(true),
            seccomp,
            sysinfo: Sysinfo::Kernel,
        },
        job: Job::Execute,
        is_tied: false,
        more: More {
            umask: user.umask(),
            personality: around.personality.map(personality).transpose()?,
            apparmor,
            kept: around.kept,
            own_streams: true,
            check_program: true,
        },
    })
}

/// Returns the variables; descriptors that systemd's protocol hands over are announced as it wants.
fn environment(asked: &Asked, kept: u32) -> Vec<(OsString, OsString)> {
    let mut all = variables(asked.env().as_deref().unwrap_or_default());
    let count = std::env::var("LISTEN_FDS").ok().and_then(|n| n.parse::<u32>().ok());
    if let Some(count) = count.filter(|n| *n > 0 && *n <= kept) {
        all.push(("LISTEN_FDS".into(), count.to_string().into()));
        all.push(("LISTEN_PID".into(), "1".into()));
    }
    all
}

fn capabilities(asked: &Asked) -> Capabilities {
    let Some(sets) = asked.capabilities() else { return Capabilities::default() };
    let set = |names: &Option<Set>| {
        let number = |c: &oci_spec::runtime::Capability| capability::named(&c.to_string());
        names.iter().flatten().filter_map(number).fold(0, |set, bit| set | bit)
    };
    Capabilities {
        bounding: set(sets.bounding()),
        effective: set(sets.effective()),
        permitted: set(sets.permitted()),
        inheritable: set(sets.inheritable()),
        ambient: set(sets.ambient()),
    }
}

fn ulimits(asked: &Asked) -> Vec<Ulimit> {
    let one = |limit: &oci_spec::runtime::PosixRlimit| {
        let name = limit.typ().to_string().trim_start_matches("RLIMIT_").to_ascii_lowercase();
        Ulimit { name, soft: limit.soft(), hard: limit.hard() }
    };
    asked.rlimits().iter().flatten().map(one).collect()
}

fn personality(asked: &LinuxPersonality) -> Result<u32> {
    if asked.flags().as_ref().is_some_and(|flags| !flags.is_empty()) {
        return Err(Error::new("linux.personality", "flags are not supported"));
    }
    Ok(match asked.domain() {
        LinuxPersonalityDomain::PerLinux => 0,
        LinuxPersonalityDomain::PerLinux32 => 8,
    })
}
