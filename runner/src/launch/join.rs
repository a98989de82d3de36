//! How a bundle's container comes into its cgroups and namespaces: some are there already, and are named
//! by a path.

use std::ffi::OsString;
use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::PathBuf;

use nix::errno::Errno;
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::prctl;
use nix::sys::resource::{getrlimit, setrlimit};
use nix::unistd::{Gid, Uid, setgroups, setresgid, setresuid};
use sys::process::{CAP_SYS_ADMIN, clone_flags, has_capability};

use crate::cgroup;
use crate::error::{Context, Error, Result};
use crate::identity;
use crate::launch::exec::resource;
use crate::launch::sync::{Channel, ToContainer, ToSupervisor};
use crate::rootfs::bundle;
use crate::spec::{Base, Cgroup, Identity, Mount, Spec, Ulimit};

/// A namespace that is there already.
#[derive(Debug)]
pub(crate) struct Existing {
    /// What kind (`sys::process::clone_flags`).
    pub(crate) kind: u64,
    /// Where it was found.
    pub(crate) path: PathBuf,
    /// It, open.
    pub(crate) fd: OwnedFd,
}

impl Existing {
    /// Opens a namespace by a path, such as `/proc/PID/ns/net`.
    pub(crate) fn open(kind: u64, path: PathBuf) -> Result<Existing> {
        let fd = File::open(&path).step_at("open namespace", &path)?.into();
        Ok(Existing { kind, path, fd })
    }

    fn enter(&self) -> nix::Result<()> {
        setns(&self.fd, CloneFlags::from_bits_retain(self.kind as i32))
    }
}

/// What is done with the rights of whoever creates the container, before its users are entered.
#[derive(Debug)]
pub(crate) struct Beforehand {
    /// Namespaces that are there already.
    pub(crate) existing: Vec<Existing>,
    /// How likely the container is to be killed when memory gets short.
    pub(crate) oom_score: Option<i32>,
    /// How mounts travel between the container and the host: `MS_SLAVE` and its like.
    pub(crate) propagation: u64,
}

/// Enters what is to be entered, and opens what the container's users may not reach.
/// The builder that this process becomes holds what this one does.
pub(super) fn join(
    channel: &mut Channel,
    spec: &Spec,
    before: &Beforehand,
    held: &OwnedFd,
) -> Result<OwnedFd> {
    join_groups(&spec.cgroups, before.oom_score)?;
    raise_limits(&spec.process.ulimits)?;
    let is = |kind: u64| move |e: &&Existing| e.kind == kind;
    let users = before.existing.iter().find(is(clone_flags::NEWUSER));
    let others = before
        .existing
        .iter()
        .filter(|e| e.kind != clone_flags::NEWUSER && e.kind != clone_flags::NEWNS);
    let can_mount = has_capability(CAP_SYS_ADMIN);
    // Those that belong to whoever creates the container can't be entered from within its users, and
    // those of its users only from there.
    let mut later = Vec::new();
    for namespace in others {
        if namespace.enter().is_err() {
            later.push(namespace);
        }
    }
    let opened = if can_mount { Some(open_files(spec, before)?) } else { None };
    match (users, &spec.identity) {
        (Some(users), _) => {
            // Its processes must not get at our memory.
            prctl::set_dumpable(false).step("hide the runner's memory")?;
            users.enter().step_at("enter user namespace", &users.path)?;
            become_root()?;
        }
        (None, Identity::Mapped(maps)) => {
            unshare(CloneFlags::CLONE_NEWUSER).map_err(identity::refused)?;
            channel.send(&ToSupervisor::Unmapped)?;
            let (ToContainer::Mapped, _) = channel.expect()? else {
                return Err(Error::new("wait for id maps", "another message came"));
            };
            identity::become_root(maps)?;
        }
        (None, Identity::Host) => {}
    }
    for namespace in later {
        namespace.enter().step_at("enter namespace", &namespace.path)?;
    }
    let (root, mounts, exe) = match opened {
        Some(opened) => opened,
        None => open_files(spec, before)?,
    };
    let number = |fd: OwnedFd| {
        sys::process::keep_on_exec(&fd).step("hand over a mount")?;
        let number = fd.as_raw_fd();
        // The builder takes it over.
        std::mem::forget(fd);
        Ok(number)
    };
    sys::process::keep_on_exec(held).step("hand over what is held")?;
    let root = number(root)?;
    let mounts = mounts.into_iter().map(|fd| fd.map(number).transpose());
    let mounts = mounts.collect::<Result<Vec<_>>>()?;
    channel.send(&ToSupervisor::Opened { root, mounts })?;
    Ok(exe)
}

type Files = (OwnedFd, Vec<Option<OwnedFd>>, OwnedFd);

/// Makes the mount namespace, or enters it, and opens in it the root, the sources of mounts, and this
/// program.
fn open_files(spec: &Spec, before: &Beforehand) -> Result<Files> {
    match before.existing.iter().find(|e| e.kind == clone_flags::NEWNS) {
        Some(mounts) => mounts.enter().step_at("enter mount namespace", &mounts.path)?,
        None => {
            unshare(CloneFlags::CLONE_NEWNS).step("create mount namespace")?;
            bundle::propagate_host(before.propagation)?;
        }
    }
    let root = match &spec.root {
        Base::Directory { path, .. } => bundle::open_root(path)?,
        Base::Layers(_) => return Err(Error::new("open the root", "it is made of layers")),
    };
    let sources = spec.mounts.iter().map(bundle::open_source).collect::<Result<Vec<_>>>()?;
    Ok((root, sources, super::parent::sealed_self()?))
}

/// Puts the caller into cgroups, and sets how likely it is to be killed.
fn join_groups(cgroups: &[Cgroup], oom_score: Option<i32>) -> Result<()> {
    cgroups.iter().try_for_each(cgroup::join)?;
    let Some(score) = oom_score else { return Ok(()) };
    let path = "/proc/self/oom_score_adj";
    match std::fs::write(path, score.to_string()) {
        // Only who has the right to may make it less likely; as the specification says, an error.
        Err(e) => Err(Error::new(format!("process.oomScoreAdj: set it to {score}"), e).at(path)),
        Ok(()) => Ok(()),
    }
}

/// Raises hard limits, which the container's users may not; the process sets its own later.
fn raise_limits(limits: &[Ulimit]) -> Result<()> {
    for limit in limits {
        let Some(resource) = resource(&limit.name) else { continue };
        let (soft, hard) = getrlimit(resource).step("read a limit")?;
        if limit.hard > hard {
            match setrlimit(resource, soft, limit.hard) {
                // What we may not either is told when the limit is set.
                Ok(()) | Err(Errno::EPERM) => {}
                Err(e) => return Err(Error::new("set limit", e).at(&limit.name)),
            }
        }
    }
    Ok(())
}

/// Becomes root of the user namespace that was entered.
pub(super) fn become_root() -> Result<()> {
    let denied = std::fs::read_to_string("/proc/self/setgroups").is_ok_and(|t| t.trim() == "deny");
    if !denied {
        setgroups(&[]).step("drop groups")?;
    }
    let (root, group) = (Uid::from_raw(0), Gid::from_raw(0));
    setresgid(group, group, group).step("become group 0 of the container")?;
    setresuid(root, root, root).step("become user 0 of the container")
}

/// Returns the namespaces of a process that are not our own, and whose users it has.
pub(crate) fn namespaces_of(pid: i32) -> Result<u64> {
    const KINDS: [(&str, u64); 8] = [
        ("user", clone_flags::NEWUSER),
        ("mnt", clone_flags::NEWNS),
        ("pid", clone_flags::NEWPID),
        ("uts", clone_flags::NEWUTS),
        ("ipc", clone_flags::NEWIPC),
        ("net", clone_flags::NEWNET),
        ("cgroup", clone_flags::NEWCGROUP),
        ("time", clone_flags::NEWTIME),
    ];
    let mut all = 0;
    for (name, flag) in KINDS {
        let of = |who: &str| std::fs::read_link(format!("/proc/{who}/ns/{name}"));
        match (of("self"), of(&pid.to_string())) {
            (Ok(ours), Ok(theirs)) if ours != theirs => all |= flag,
            (Ok(_), Ok(_)) => {}
            // A kernel without namespaces of this kind.
            (Err(_), _) => {}
            (_, Err(e)) => {
                let path = OsString::from(format!("/proc/{pid}/ns/{name}"));
                return Err(Error::new("read", e).at(path));
            }
        }
    }
    Ok(all)
}

/// Notes the numbers of what the builder finds open: the root, what it holds, and the sources of mounts.
pub(super) fn opened(spec: &mut Spec, root: i32, held: i32, mounts: &[Option<i32>]) {
    if let Base::Directory { opened, held: theirs, .. } = &mut spec.root {
        *opened = Some(root);
        *theirs = Some(held);
    }
    for (mount, number) in spec.mounts.iter_mut().zip(mounts) {
        set_number(mount, *number);
    }
}

fn set_number(mount: &mut Mount, number: Option<i32>) {
    if let crate::spec::Mounted::Bind { opened, .. } = &mut mount.what {
        *opened = number;
    }
}
