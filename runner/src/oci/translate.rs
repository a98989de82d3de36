//! From a bundle's configuration to the container as data.

use std::path::Path;

use nix::libc;
use oci_spec::runtime::{Linux, LinuxDevice, LinuxDeviceType, LinuxIdMapping, LinuxNamespaceType};
use serde_json::{Map, Value};
use sys::process::clone_flags;

use crate::cgroup::place::{self, Placed};
use crate::error::{Error, Result};
use crate::launch::join::{Beforehand, Existing};
use crate::oci::bundle::{self, Bundle};
use crate::oci::process::{self, Around};
use crate::oci::{SPECIFICATION, mounts, options::CreateArgs, validate};
use crate::rootfs;
use crate::spec::{
    Base, Begin, Clocks, Enter, First, Hooks, Identity, MapWriter, Maps, Net, Node, Range, Spec,
    Step, Streams,
};

/// Devices that every container has: path, numbers.
const DEVICES: [(&str, (u32, u32)); 6] = [
    ("/dev/null", (1, 3)),
    ("/dev/zero", (1, 5)),
    ("/dev/full", (1, 7)),
    ("/dev/tty", (5, 0)),
    ("/dev/random", (1, 8)),
    ("/dev/urandom", (1, 9)),
];

/// Returns the container, and what is done before its users are entered.
pub(super) fn translate(
    bundle: &Bundle,
    args: &CreateArgs,
    placed: &[Placed],
    state_dir: &Path,
) -> Result<(Spec, Beforehand)> {
    let config = &bundle.config;
    let absent = || Error::new("config.json", "linux: it is missing");
    let linux = config.linux().as_ref().ok_or_else(absent)?;
    let mounts = config.mounts().iter().flatten().map(|m| mounts::translate(m, &bundle.dir));
    let mounts = mounts.collect::<Result<Vec<_>>>()?;
    let process = bundle.process()?;
    let around = Around {
        seccomp: linux.seccomp().as_ref(),
        personality: linux.personality().as_ref(),
        first: First::Program,
        kept: args.preserve_fds,
    };
    let (existing, new) = namespaces(linux)?;
    let spec = Spec {
        id: args.id.clone(),
        state: state_dir.as_os_str().to_owned(),
        identity: identity(linux),
        cgroups: place::cgroups(placed),
        hierarchies: place::hierarchies(placed),
        net: Net::Host,
        namespaces: new & !clone_flags::NEWTIME & !clone_flags::NEWCGROUP | clone_flags::NEWNS,
        clocks: clocks(linux, new),
        begin: Begin::WhenTold,
        ports: Vec::new(),
        root: Base::Directory { path: bundle.rootfs()?.into_os_string(), opened: None, held: None },
        shim: None,
        volumes: Vec::new(),
        devices: Vec::new(),
        nodes: nodes(linux)?,
        hooks: hooks(bundle, args)?,
        steps: steps(bundle, linux, args, new, &mounts)?,
        mounts,
        process: process::translate(process, &around)?,
        streams: Streams::Caller,
        supervisor: std::process::id() as i32,
        trace: None,
    };
    let propagation = linux.rootfs_propagation().as_deref().and_then(mounts::propagation);
    let before = Beforehand {
        existing,
        oom_score: process.oom_score_adj(),
        propagation: propagation.map_or(libc::MS_SLAVE, |(kind, _)| kind),
    };
    Ok((spec, before))
}

/// Returns namespaces that are there already, and the flags of new ones.
fn namespaces(linux: &Linux) -> Result<(Vec<Existing>, u64)> {
    let (mut existing, mut new) = (Vec::new(), 0);
    for namespace in linux.namespaces().iter().flatten() {
        let kind = match namespace.typ() {
            LinuxNamespaceType::Mount => clone_flags::NEWNS,
            LinuxNamespaceType::Cgroup => clone_flags::NEWCGROUP,
            LinuxNamespaceType::Uts => clone_flags::NEWUTS,
            LinuxNamespaceType::Ipc => clone_flags::NEWIPC,
            LinuxNamespaceType::User => clone_flags::NEWUSER,
            LinuxNamespaceType::Pid => clone_flags::NEWPID,
            LinuxNamespaceType::Network => clone_flags::NEWNET,
            LinuxNamespaceType::Time => clone_flags::NEWTIME,
        };
        match namespace.path().as_ref().filter(|p| !p.as_os_str().is_empty()) {
            Some(path) => existing.push(Existing::open(kind, path.clone())?),
            None => new |= kind,
        }
    }
    // The users are made on their own.
    Ok((existing, new & !clone_flags::NEWUSER))
}

/// Returns whose users the container has, where it gets new ones.
fn identity(linux: &Linux) -> Identity {
    let user = linux.namespaces().iter().flatten().find(|n| n.typ() == LinuxNamespaceType::User);
    let Some(user) = user else { return Identity::Host };
    let ranges = |all: &Option<Vec<LinuxIdMapping>>| {
        let range = |m: &LinuxIdMapping| Range {
            inside: m.container_id(),
            outside: m.host_id(),
            count: m.size(),
        };
        all.iter().flatten().map(range).collect::<Vec<_>>()
    };
    if user.path().is_some() {
        let writer = MapWriter::Privileged;
        return Identity::Mapped(Maps { uids: Vec::new(), gids: Vec::new(), writer });
    }
    let (uids, gids) = (ranges(linux.uid_mappings()), ranges(linux.gid_mappings()));
    let me = nix::unistd::geteuid().as_raw();
    let is_own = |r: &[Range]| matches!(r, [one] if one.count == 1);
    let writer = match (me, is_own(&uids) && is_own(&gids)) {
        (0, _) => MapWriter::Privileged,
        (_, true) => MapWriter::Ourselves,
        (_, false) => MapWriter::Helpers,
    };
    Identity::Mapped(Maps { uids, gids, writer })
}

fn clocks(linux: &Linux, new: u64) -> Clocks {
    if new & clone_flags::NEWTIME == 0 {
        return Clocks::Inherited;
    }
    let offset = |name: &str| {
        let found = linux.time_offsets().as_ref().and_then(|all| all.get(name));
        found.map_or((0, 0), |o| (o.secs().unwrap_or(0), o.nanosecs().unwrap_or(0)))
    };
    Clocks::Offset { monotonic: offset("monotonic"), boottime: offset("boottime") }
}

fn nodes(linux: &Linux) -> Result<Vec<Node>> {
    let mut all = linux.devices().iter().flatten().map(node).collect::<Result<Vec<_>>>()?;
    for (path, numbers) in DEVICES {
        if !all.iter().any(|n| n.path == path) {
            let (kind, mode, owner) = (libc::S_IFCHR, 0o666, (0, 0));
            all.push(Node { path: path.into(), kind, numbers, mode, owner });
        }
    }
    Ok(all)
}

fn node(device: &LinuxDevice) -> Result<Node> {
    let failed = |why: &str| Error::new("linux.devices", why).at(device.path());
    if !device.path().is_absolute() {
        return Err(failed("the path must be absolute"));
    }
    let kind = match device.typ() {
        LinuxDeviceType::C | LinuxDeviceType::U => libc::S_IFCHR,
        LinuxDeviceType::B => libc::S_IFBLK,
        LinuxDeviceType::P => libc::S_IFIFO,
        LinuxDeviceType::A => return Err(failed("type `a` is no device")),
    };
    let number = |n: i64| u32::try_from(n).map_err(|_| failed("a number is out of range"));
    Ok(Node {
        path: device.path().as_os_str().to_owned(),
        kind,
        numbers: (number(device.major())?, number(device.minor())?),
        mode: device.file_mode().unwrap_or(0o666) & 0o7777,
        owner: (device.uid().unwrap_or(0), device.gid().unwrap_or(0)),
    })
}

fn hooks(bundle: &Bundle, args: &CreateArgs) -> Result<Hooks> {
    let all = bundle.config.hooks().clone().unwrap_or_default();
    Ok(Hooks {
        create_container: bundle::hooks(all.create_container())?,
        start_container: bundle::hooks(all.start_container())?,
        state: state(bundle, &args.id),
        bundle: bundle.dir.as_os_str().to_owned(),
    })
}

/// Returns what is always said of a container's state.
pub(super) fn state(bundle: &Bundle, id: &str) -> Map<String, Value> {
    let mut all = Map::new();
    all.insert("ociVersion".into(), SPECIFICATION.into());
    all.insert("id".into(), id.into());
    all.insert("bundle".into(), bundle.dir.to_string_lossy().into());
    let annotations = bundle.config.annotations().iter().flatten();
    let annotations: Map<String, Value> =
        annotations.map(|(k, v)| (k.clone(), v.as_str().into())).collect();
    if !annotations.is_empty() {
        all.insert("annotations".into(), annotations.into());
    }
    all
}

/// Returns what the container's first process does. What covers comes after what it covers, and hooks see
/// all that is mounted, before the root is changed.
fn steps(
    bundle: &Bundle,
    linux: &Linux,
    args: &CreateArgs,
    new: u64,
    mounts: &[crate::spec::Mount],
) -> Result<Vec<Step>> {
    let config = &bundle.config;
    let mut steps = Vec::new();
    if !args.no_new_keyring {
        steps.push(Step::Keyring(format!("_ses.{}", args.id)));
    }
    if new & clone_flags::NEWCGROUP != 0 {
        steps.push(Step::CgroupNamespace);
    }
    steps.extend(config.hostname().clone().map(Step::Hostname));
    steps.extend(config.domainname().clone().map(Step::Domainname));
    if new & clone_flags::NEWNET != 0 {
        steps.push(Step::Loopback);
    }
    let mut sysctls: Vec<_> = linux.sysctl().iter().flatten().collect();
    sysctls.sort();
    steps.extend(sysctls.into_iter().map(|(k, v)| Step::Sysctl(k.clone(), v.clone())));
    steps.push(Step::Root);
    steps.extend((0..mounts.len()).map(Step::Mount));
    // A /dev of the host's is the host's to fill.
    if !rootfs::bundle::is_bound(mounts, "/dev") {
        steps.extend([Step::Nodes, Step::DevLinks]);
    }
    if bundle.process()?.terminal() == Some(true) {
        steps.push(Step::Console);
    }
    let hooks = config.hooks().clone().unwrap_or_default();
    let any = |list: &Option<Vec<_>>| list.as_ref().is_some_and(|l| !l.is_empty());
    #[allow(deprecated, reason = "tools still use it")]
    if any(hooks.prestart()) || any(hooks.create_runtime()) {
        steps.push(Step::OuterHooks);
    }
    if any(hooks.create_container()) {
        steps.push(Step::InnerHooks);
    }
    let paths = |list: &Option<Vec<String>>| list.clone().unwrap_or_default();
    steps.extend(paths(linux.readonly_paths()).into_iter().map(Step::ReadOnly));
    steps.extend(paths(linux.masked_paths()).into_iter().map(Step::Mask));
    if config.root().as_ref().and_then(|r| r.readonly()) == Some(true) {
        steps.push(Step::ReadOnlyRoot);
    }
    steps.push(Step::Pivot(if args.no_pivot { Enter::Move } else { Enter::Pivot }));
    if let Some(name) = linux.rootfs_propagation().as_ref().filter(|n| !n.is_empty()) {
        let (kind, tree) = mounts::propagation(name).ok_or_else(|| {
            Error::new("linux.rootfsPropagation", format!("`{name}` is not known"))
        })?;
        // That of a private one is what it is.
        if kind != libc::MS_PRIVATE {
            steps.push(Step::Propagation(kind, tree));
        }
    }
    debug_assert!(validate::has(linux, LinuxNamespaceType::Mount));
    Ok(steps)
}
