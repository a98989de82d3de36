//! The root of a bundle (OCI runtime specification, config-linux.md): a directory that somebody else made,
//! with mounts and devices of every kind.

use std::ffi::{CString, OsStr};
use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::libc;
use nix::mount::{MsFlags, mount};
use nix::sys::stat::{Mode, umask};
use sys::mount::{Change, Depth, attr};
use sys::openat::open_at;

use crate::error::{Context, Error, Result};
use crate::rootfs::copy_up::copy_up;
use crate::rootfs::path::{Kind, attach, find_or_make};
use crate::rootfs::{Opt, new_mount, special};
use crate::spec::{Base, Identity, Mount, Mounted, Node, Spec, Step, Version};

/// Returns a copy of the mount of the bundle's directory, which mounts outside don't reach.
pub(crate) fn root(spec: &Spec) -> Result<OwnedFd> {
    match &spec.root {
        Base::Directory { opened: Some(number), .. } => inherited(*number),
        Base::Directory { path, .. } => open_root(path),
        Base::Layers(_) => Err(Error::new("open the root", "it is made of layers")),
    }
}

/// Opens the bundle's root directory.
///
/// # Preconditions
/// The caller sees the host's files, in a mount namespace in which it may mount.
pub(crate) fn open_root(path: &OsStr) -> Result<OwnedFd> {
    let flags = libc::O_PATH | libc::O_DIRECTORY;
    let dir = open_at(nix::fcntl::AT_FDCWD, path, flags, 0).step_at("root directory", path)?;
    let tree = sys::mount::clone_mount_tree(&dir).step_at("bind the root directory", path)?;
    let private = Change { propagation: libc::MS_PRIVATE, ..Change::default() };
    sys::mount::mount_change(&tree, private, Depth::Tree).step_at("bind", path)?;
    Ok(tree)
}

/// Returns the source of a mount that is one of the host's, attached nowhere yet.
pub(crate) fn open(mount: &Mount) -> Result<Option<OwnedFd>> {
    match &mount.what {
        Mounted::Bind { opened: Some(number), .. } => inherited(*number).map(Some),
        Mounted::Bind { .. } => open_source(mount),
        _ => Ok(None),
    }
}

/// Opens the source of a bind mount.
///
/// # Preconditions
/// As those of [`open_root`].
pub(crate) fn open_source(mount: &Mount) -> Result<Option<OwnedFd>> {
    let Mounted::Bind { source, tree, .. } = &mount.what else { return Ok(None) };
    let file = open_at(nix::fcntl::AT_FDCWD, source, libc::O_PATH, 0)
        .step_at("source of a bind mount", source)?;
    let copy = match tree {
        true => sys::mount::clone_mount_tree(&file),
        false => sys::mount::clone_mount(&file),
    };
    let copy = copy.map_err(|e| {
        Error::new("bind", e)
            .at(source)
            .hint_if(Errno::EINVAL, "what is mounted below it can't be left out: use rbind")
    })?;
    change(&copy, mount)?;
    Ok(Some(copy))
}

fn inherited(number: i32) -> Result<OwnedFd> {
    sys::process::inherited_fd(number).step("take over a mount")
}

/// Gives a mount its attributes and propagation.
fn change(at: &OwnedFd, mount: &Mount) -> Result<()> {
    let apply = |change: Change, depth| match change == Change::default() {
        true => Ok(()),
        false => sys::mount::mount_change(at, change, depth)
            .step_at("set the options of the mount at", &mount.target),
    };
    let (own, tree) = (mount.own, mount.tree);
    apply(Change { set: own.set, clear: own.clear, propagation: 0 }, Depth::One)?;
    apply(Change { set: tree.set, clear: tree.clear, propagation: 0 }, Depth::Tree)?;
    for (propagation, is_tree) in &mount.propagation {
        let depth = if *is_tree { Depth::Tree } else { Depth::One };
        apply(Change { propagation: *propagation, ..Change::default() }, depth)?;
    }
    Ok(())
}

/// Attaches the root over `/` of the caller's mount namespace, of which nothing reaches the host's, and
/// returns its top.
pub(crate) fn attach_root(tree: OwnedFd) -> Result<OwnedFd> {
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount(None::<&str>, "/", None::<&str>, private, None::<&str>)
        .step("detach from the host's mounts")?;
    let flags = libc::O_PATH | libc::O_DIRECTORY;
    let top = open_at(nix::fcntl::AT_FDCWD, OsStr::new("/"), flags, 0).step_at("open", "/")?;
    sys::mount::move_mount(&tree, &top).step("attach the root")?;
    Ok(tree)
}

/// Attaches a mount of the bundle.
pub(crate) fn put(
    root: &OwnedFd,
    mount: &Mount,
    opened: Option<OwnedFd>,
    spec: &Spec,
) -> Result<()> {
    let target = mount.target.as_os_str();
    match (&mount.what, opened) {
        (Mounted::Cgroups, _) => cgroups(root, mount, spec),
        (Mounted::Bind { .. }, Some(source)) => {
            let is_dir = sys::stat::stat_fd(&source).step_at("stat", target)?.is_dir();
            let kind = if is_dir { Kind::Directory } else { Kind::File };
            let at = find_or_make(root, target, kind)?;
            attach(&source, &at, target)
        }
        (Mounted::Bind { .. }, None) => Err(Error::new("mount", "it was not opened").at(target)),
        (Mounted::FileSystem { kind, source, options, copy_up }, _) => {
            file_system(root, mount, (kind, source), options, *copy_up)
        }
    }
}

fn file_system(
    root: &OwnedFd,
    mount: &Mount,
    (kind, source): (&str, &str),
    options: &[(String, Option<String>)],
    copies: bool,
) -> Result<()> {
    let target = mount.target.as_os_str();
    let c = |text: &str| CString::new(text).step_at("mount", target);
    let name = c(kind)?;
    let keys = options.iter().map(|(key, _)| c(key)).collect::<Result<Vec<_>>>()?;
    let mut all = vec![Opt::Value(c"source", source)];
    all.extend(keys.iter().zip(options).map(|(key, (_, value))| match value {
        Some(value) => Opt::Value(key, value),
        None => Opt::Flag(key),
    }));
    let at = find_or_make(root, target, Kind::Directory)?;
    if !sys::stat::stat_fd(&at).step_at("stat", target)?.is_dir() {
        return Err(Error::new("mount in the container", Errno::ENOTDIR).at(target));
    }
    let made = match new_mount(&name, &all, mount.own.set & !attr::RDONLY) {
        // Only the owner of the network namespace may mount a sysfs of it.
        Err(e) if kind == "sysfs" && e.is(Errno::EPERM) => {
            return special::host_sys_at(root, target);
        }
        made => made.map_err(|e| e.at(target))?,
    };
    if copies {
        copy_up(&at, &made, target)?;
    }
    change(&made, mount)?;
    attach(&made, &at, target)
}

/// Mounts the container's cgroups: as its cgroup namespace shows them, or else its own directories of the
/// host's.
fn cgroups(root: &OwnedFd, mount: &Mount, spec: &Spec) -> Result<()> {
    let target = mount.target.as_os_str();
    let access = mount.own.set & attr::RDONLY;
    if spec.steps.contains(&Step::CgroupNamespace) {
        return special::cgroups(root, &spec.hierarchies, target, access);
    }
    let attributes = attr::NOSUID | attr::NODEV | attr::NOEXEC | access;
    let bind = |path: &OsStr| {
        let dir = open_at(nix::fcntl::AT_FDCWD, path, libc::O_PATH, 0).step_at("open", path)?;
        let copy = sys::mount::clone_mount(&dir).step_at("bind", path)?;
        sys::mount::mount_setattr(&copy, attributes).step_at("bind", path).map(|()| copy)
    };
    let at = find_or_make(root, target, Kind::Directory)?;
    if let [only] = spec.cgroups.as_slice()
        && only.version == Version::V2
        && spec.hierarchies.iter().all(|h| h.name.is_empty())
    {
        return attach(bind(&only.path)?, &at, target);
    }
    let options = [Opt::Value(c"source", "tmpfs"), Opt::Value(c"mode", "0755")];
    let top = new_mount(c"tmpfs", &options, attr::NOSUID | attr::NODEV | attr::NOEXEC)?;
    attach(&top, &at, target)?;
    for h in spec.hierarchies.iter().filter(|h| !h.name.is_empty()) {
        let host = Path::new("/sys/fs/cgroup").join(&h.name);
        let own = spec.cgroups.iter().find(|c| Path::new(&c.path).starts_with(&host));
        let Some(own) = own else { continue };
        let at = find_or_make(&top, OsStr::new(&h.name), Kind::Directory)?;
        attach(bind(&own.path)?, &at, OsStr::new(&h.name))?;
        special::links_of_hierarchy(&top, &h.name)?;
    }
    sys::mount::mount_setattr(&top, access).step_at("make read-only", target)
}

/// Makes the devices of the bundle.
pub(crate) fn nodes(root: &OwnedFd, nodes: &[Node], identity: &Identity) -> Result<()> {
    let before = umask(Mode::empty());
    let made = nodes.iter().try_for_each(|node| make_node(root, node, identity));
    umask(before);
    made
}

fn make_node(root: &OwnedFd, node: &Node, identity: &Identity) -> Result<()> {
    let path = Path::new(&node.path);
    let parent = path.parent().unwrap_or(Path::new("/"));
    let dir = find_or_make(root, parent.as_os_str(), Kind::Directory)?;
    let name = path.file_name().ok_or_else(|| Error::new("make device", "it has no name"))?;
    let rdev = libc::makedev(node.numbers.0, node.numbers.1);
    if let Ok(there) = sys::stat::stat_at(&dir, name) {
        let is_it = there.kind() == node.kind && (node.kind == libc::S_IFIFO || there.rdev == rdev);
        return match is_it {
            true => Ok(()),
            false => Err(Error::new("make device", "something else is there").at(path)),
        };
    }
    let may_make = *identity == Identity::Host && sys::process::is_in_first_user_namespace();
    if !may_make && node.kind != libc::S_IFIFO {
        return bind_node(root, node, rdev);
    }
    match sys::name::mknod(&dir, name, node.kind | node.mode, rdev) {
        // Where devices can't be made, as in a container around this one, the host's own is shown.
        Err(Errno::EPERM) => return bind_node(root, node, rdev),
        r => r.step_at("make device", path)?,
    }
    let owner = (Some(node.owner.0), Some(node.owner.1));
    sys::name::chown_at(&dir, name, owner.0, owner.1).step_at("set the owner of", path)?;
    sys::name::chmod_at(&dir, name, node.mode).step_at("set the mode of", path)
}

fn bind_node(root: &OwnedFd, node: &Node, rdev: u64) -> Result<()> {
    let path = node.path.as_os_str();
    let host = open_at(nix::fcntl::AT_FDCWD, path, libc::O_PATH | libc::O_NOFOLLOW, 0)
        .step_at("open device of the host", path)?;
    let stat = sys::stat::stat_fd(&host).step_at("stat", path)?;
    if stat.kind() != node.kind || stat.rdev != rdev {
        let text = "the host's device of that name is another, and without root none can be made";
        return Err(Error::new("make device", text).at(path));
    }
    let mount = sys::mount::clone_mount(&host).step_at("bind device", path)?;
    let at = find_or_make(root, path, Kind::File)?;
    attach(mount.as_fd(), &at, path)
}

/// Sets a parameter of the kernel in the namespaces of the caller.
///
/// # Preconditions
/// /proc is the host's, which nobody in the container could have replaced.
pub(crate) fn sysctl(name: &str, value: &str) -> Result<()> {
    let below = name.replace('.', "/");
    let path = Path::new("/proc/sys").join(&below);
    let is_plain =
        Path::new(&below).components().all(|c| matches!(c, std::path::Component::Normal(_)));
    if !is_plain || below.is_empty() {
        return Err(Error::new("linux.sysctl", format!("`{name}` is no parameter")));
    }
    let written = fs::File::options()
        .write(true)
        .open(&path)
        .and_then(|mut file| std::io::Write::write_all(&mut file, value.as_bytes()));
    written.map_err(|e| {
        let unknown = "this kernel has no such parameter";
        Error::new(format!("linux.sysctl: set {name} to `{value}`"), e)
            .hint_if(Errno::ENOENT, unknown)
    })
}

/// Lets mounts below `/` travel as asked for.
pub(crate) fn propagate_root(kind: u64, is_tree: bool) -> Result<()> {
    let mut flags = MsFlags::from_bits_retain(kind as libc::c_ulong);
    if is_tree {
        flags |= MsFlags::MS_REC;
    }
    mount(None::<&str>, "/", None::<&str>, flags, None::<&str>)
        .step("linux.rootfsPropagation: set the propagation of the root")
}

/// Lets mounts of the host reach the caller's namespace, or those of the caller the host, as asked for.
pub(crate) fn propagate_host(kind: u64) -> Result<()> {
    propagate_root(kind, true)
}

/// Whether a bundle's own mount covers a directory with a part of the host's.
pub(crate) fn is_bound(mounts: &[Mount], path: &str) -> bool {
    mounts.iter().any(|m| m.target == path && matches!(m.what, Mounted::Bind { .. }))
}
