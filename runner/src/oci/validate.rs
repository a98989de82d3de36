//! What of a configuration is wrong, or is not known here: the specification wants an error, never silence.

use oci_spec::runtime::{Linux, LinuxNamespaceType, Process, Spec};

/// Parameters of the kernel that belong to a namespace, by their beginning.
const SYSCTLS: [(&str, LinuxNamespaceType); 5] = [
    ("net.", LinuxNamespaceType::Network),
    ("fs.mqueue.", LinuxNamespaceType::Ipc),
    ("kernel.msg", LinuxNamespaceType::Ipc),
    ("kernel.shm", LinuxNamespaceType::Ipc),
    ("kernel.sem", LinuxNamespaceType::Ipc),
];

/// Looks a configuration through.
///
/// # Errors
/// The property, and what is wrong with it.
pub(super) fn config(config: &Spec) -> Result<(), String> {
    version(config.version())?;
    if config.vm().is_some() {
        return Err("vm: virtual machines are not supported".to_owned());
    }
    let Some(linux) = config.linux() else {
        return Err(
            "linux: it is missing: containers of other systems are not supported".to_owned()
        );
    };
    let has = |kind| has(linux, kind);
    if config.hostname().is_some() && !has(LinuxNamespaceType::Uts) {
        return Err("hostname: it needs a uts namespace".to_owned());
    }
    if config.domainname().is_some() && !has(LinuxNamespaceType::Uts) {
        return Err("domainname: it needs a uts namespace".to_owned());
    }
    for (name, _) in linux.sysctl().iter().flatten() {
        sysctl(name, linux)?;
    }
    for mount in config.mounts().iter().flatten() {
        if mount.uid_mappings().is_some() || mount.gid_mappings().is_some() {
            return Err("mounts: uidMappings are not supported".to_owned());
        }
    }
    self::linux(linux)?;
    config.process().as_ref().map_or(Ok(()), process)
}

fn version(version: &str) -> Result<(), String> {
    match version.strip_prefix("1.") {
        Some(_) => Ok(()),
        None if version.is_empty() => Err("ociVersion: it is missing".to_owned()),
        None => Err(format!("ociVersion: `{version}` is not known: 1.x is")),
    }
}

/// Whether there is a namespace of a kind, new or another's.
pub(super) fn has(linux: &Linux, kind: LinuxNamespaceType) -> bool {
    linux.namespaces().iter().flatten().any(|n| n.typ() == kind)
}

fn sysctl(name: &str, linux: &Linux) -> Result<(), String> {
    let name = name.replace('/', ".");
    if matches!(name.as_str(), "kernel.hostname" | "kernel.domainname") {
        return Err(format!("linux.sysctl: {name} is set by a property of its own"));
    }
    match SYSCTLS.iter().find(|(start, _)| name.starts_with(start)) {
        Some((_, kind)) if has(linux, *kind) => Ok(()),
        Some((_, kind)) => Err(format!("linux.sysctl: {name} needs a namespace of kind {kind}")),
        None => {
            Err(format!("linux.sysctl: {name} would change the host, as no namespace holds it"))
        }
    }
}

fn linux(linux: &Linux) -> Result<(), String> {
    let mut kinds: Vec<LinuxNamespaceType> = Vec::new();
    for namespace in linux.namespaces().iter().flatten() {
        let kind = namespace.typ();
        if kinds.contains(&kind) {
            return Err(format!("linux.namespaces: {kind} is there twice"));
        }
        kinds.push(kind);
    }
    if !kinds.contains(&LinuxNamespaceType::Mount) {
        return Err(
            "linux.namespaces: without mount, the container's would be the host's".to_owned()
        );
    }
    let user = linux.namespaces().iter().flatten().find(|n| n.typ() == LinuxNamespaceType::User);
    let is_mapped = |m: &Option<Vec<_>>| m.as_ref().is_some_and(|m| !m.is_empty());
    let (uids, gids) = (is_mapped(linux.uid_mappings()), is_mapped(linux.gid_mappings()));
    match user {
        None if uids || gids => {
            return Err("linux.uidMappings: they need a user namespace".to_owned());
        }
        Some(n) if n.path().is_none() && !(uids && gids) => {
            return Err(
                "linux.uidMappings and gidMappings: a new user namespace needs both".to_owned()
            );
        }
        _ => {}
    }
    if linux.time_offsets().as_ref().is_some_and(|o| !o.is_empty())
        && !kinds.contains(&LinuxNamespaceType::Time)
    {
        return Err("linux.timeOffsets: they need a time namespace".to_owned());
    }
    let absent = [
        ("linux.intelRdt", linux.intel_rdt().is_some()),
        ("linux.netDevices", linux.net_devices().as_ref().is_some_and(|d| !d.is_empty())),
        ("linux.memoryPolicy", linux.memory_policy().is_some()),
        ("linux.mountLabel", linux.mount_label().as_ref().is_some_and(|l| !l.is_empty())),
    ];
    match absent.iter().find(|(_, is_there)| *is_there) {
        Some((name, _)) => Err(format!("{name}: it is not supported")),
        None => Ok(()),
    }
}

/// Looks a process through.
pub(super) fn process(process: &Process) -> Result<(), String> {
    let absent = [
        ("process.selinuxLabel", process.selinux_label().as_ref().is_some_and(|l| !l.is_empty())),
        ("process.ioPriority", process.io_priority().is_some()),
        ("process.scheduler", process.scheduler().is_some()),
        ("process.execCPUAffinity", process.exec_cpu_affinity().is_some()),
    ];
    if let Some((name, _)) = absent.iter().find(|(_, is_there)| *is_there) {
        return Err(format!("{name}: it is not supported"));
    }
    if !process.cwd().is_absolute() {
        return Err(format!("process.cwd: {} is not absolute", process.cwd().display()));
    }
    if process.args().as_ref().and_then(|a| a.first()).is_none_or(String::is_empty) {
        return Err("process.args: the program has no name".to_owned());
    }
    let has_nul = |text: &String| text.contains('\0');
    let strings = process.args().iter().flatten().chain(process.env().iter().flatten());
    if strings.into_iter().any(has_nul) {
        return Err("process: a text has a NUL byte".to_owned());
    }
    let mut limits: Vec<String> = Vec::new();
    for limit in process.rlimits().iter().flatten() {
        let name = limit.typ().to_string();
        if limits.contains(&name) {
            return Err(format!("process.rlimits: {name} is there twice"));
        }
        limits.push(name);
    }
    Ok(())
}
