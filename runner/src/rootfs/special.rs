//! The kernel's own file systems in the container: /proc, /sys, /dev/pts, /dev/shm, /dev/mqueue.

use std::ffi::{CString, OsStr};
use std::fs;
use std::os::fd::OwnedFd;

use nix::errno::Errno;
use nix::unistd::symlinkat;
use sys::mount::attr;

use crate::error::{Context, Error, Result};
use crate::rootfs::path::{Kind, attach, find_or_make};
use crate::rootfs::{Opt, new_mount};
use crate::spec::{Access, Hierarchy, Tmpfs, Version};

/// What nothing below /proc, /sys and the like may be.
const INERT: u64 = attr::NOSUID | attr::NODEV | attr::NOEXEC;

/// Mounts /proc of the pid namespace of the caller.
pub(crate) fn proc(root: &OwnedFd) -> Result<()> {
    let mount = new_mount(c"proc", &[Opt::Value(c"source", "proc")], INERT).map_err(|e| {
        e.hint_if(
            Errno::EPERM,
            "the kernel allows it only where the host's own /proc is wholly visible; something covers a part of it (are we inside a container?)",
        )
    })?;
    put(root, "/proc", &mount)
}

/// Mounts /sys of the network namespace of the caller.
pub(crate) fn sys(root: &OwnedFd, access: Access) -> Result<()> {
    let options = [Opt::Value(c"source", "sysfs")];
    let attributes = match access {
        Access::ReadWrite => INERT,
        Access::ReadOnly => INERT | attr::RDONLY,
    };
    match new_mount(c"sysfs", &options, attributes) {
        Ok(mount) => put(root, "/sys", &mount),
        // As with /proc, a host that covers parts of its own /sys hides it.
        Err(e) if e.is(Errno::EPERM) => host_sys(root),
        Err(e) => Err(e),
    }
}

/// Binds the host's /sys with all below it, read-only.
pub(crate) fn host_sys(root: &OwnedFd) -> Result<()> {
    host_sys_at(root, OsStr::new("/sys"))
}

/// Binds the host's /sys at another place.
pub(crate) fn host_sys_at(root: &OwnedFd, path: &OsStr) -> Result<()> {
    let host = fs::File::open("/sys").step_at("open", "/sys")?;
    let mount = ::sys::mount::clone_mount_tree(&host).step_at("bind", "/sys")?;
    ::sys::mount::mount_setattr_tree(&mount, INERT | attr::RDONLY)
        .step_at("make read-only", "/sys")?;
    put_at(root, path, &mount)
}

/// Mounts the hierarchies of cgroups as the cgroup namespace of the caller has them: programs read their
/// limits there. `access` is `RDONLY` or 0.
pub(crate) fn cgroups(
    root: &OwnedFd,
    hierarchies: &[Hierarchy],
    path: &OsStr,
    access: u64,
) -> Result<()> {
    let attributes = INERT | access;
    if let [Hierarchy { name, version: Version::V2, .. }] = hierarchies
        && name.is_empty()
    {
        return put_at(
            root,
            path,
            &new_mount(c"cgroup2", &[Opt::Value(c"source", "cgroup2")], attributes)?,
        );
    }
    // Without any, or with v1 at the top itself, there is nothing that programs would look for.
    if hierarchies.is_empty() || hierarchies.iter().any(|h| h.name.is_empty()) {
        return Ok(());
    }
    let options = [Opt::Value(c"source", "tmpfs"), Opt::Value(c"mode", "0755")];
    let top = new_mount(c"tmpfs", &options, INERT)?;
    put_at(root, path, &top)?;
    for h in hierarchies {
        let at = find_or_make(&top, OsStr::new(&h.name), Kind::Directory)?;
        attach(&hierarchy(h, attributes)?, &at, OsStr::new(&h.name))?;
        links_of_hierarchy(&top, &h.name)?;
    }
    ::sys::mount::mount_setattr(&top, attributes).step_at("make read-only", path)
}

/// Makes the names of single controllers that lead to a hierarchy of several (`cpu`, `cpuacct`).
pub(crate) fn links_of_hierarchy(top: &OwnedFd, name: &str) -> Result<()> {
    for one in name.split(',').filter(|one| *one != name) {
        symlinkat(name, top, one).step_at("create link", one)?;
    }
    Ok(())
}

fn hierarchy(h: &Hierarchy, attributes: u64) -> Result<OwnedFd> {
    if h.version == Version::V2 {
        return new_mount(c"cgroup2", &[Opt::Value(c"source", "cgroup2")], attributes);
    }
    let mut keys = Vec::new();
    for option in h.options.iter().filter(|o| !o.starts_with("name=")) {
        keys.push(CString::new(option.as_str()).step("mount cgroup")?);
    }
    let mut options = vec![Opt::Value(c"source", "cgroup")];
    options.extend(keys.iter().map(|k| Opt::Flag(k)));
    if let Some(name) = h.options.iter().find_map(|o| o.strip_prefix("name=")) {
        if keys.is_empty() {
            options.push(Opt::Flag(c"none"));
        }
        options.push(Opt::Value(c"name", name));
    }
    new_mount(c"cgroup", &options, attributes)
}

/// Mounts a /dev/pts of the container's own. `tty_group`: whether the ids of the container include
/// group 5, which owns terminals.
pub(crate) fn devpts(root: &OwnedFd, tty_group: TtyGroup) -> Result<()> {
    let mut options = vec![
        Opt::Value(c"source", "devpts"),
        Opt::Value(c"mode", "0620"),
        Opt::Value(c"ptmxmode", "0666"),
    ];
    if tty_group == TtyGroup::Mapped {
        options.push(Opt::Value(c"gid", "5"));
    }
    let mount = new_mount(c"devpts", &options, attr::NOSUID | attr::NOEXEC)?;
    put(root, "/dev/pts", &mount)
}

/// Whether group 5 exists in the container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TtyGroup {
    /// It does.
    Mapped,
    /// It doesn't.
    Unmapped,
}

/// Mounts /dev/shm, of so many bytes.
pub(crate) fn shm(root: &OwnedFd, size: u64) -> Result<()> {
    let size = size.to_string();
    let options =
        [Opt::Value(c"source", "shm"), Opt::Value(c"mode", "1777"), Opt::Value(c"size", &size)];
    put(root, "/dev/shm", &new_mount(c"tmpfs", &options, INERT)?)
}

/// Mounts /dev/mqueue; a kernel without message queues has none.
pub(crate) fn mqueue(root: &OwnedFd) -> Result<()> {
    match new_mount(c"mqueue", &[Opt::Value(c"source", "mqueue")], INERT) {
        Ok(mount) => put(root, "/dev/mqueue", &mount),
        Err(e) if e.is(Errno::ENODEV) => Ok(()),
        Err(e) => Err(e),
    }
}

/// Covers a directory with an empty one that is root's alone.
pub(crate) fn hide(root: &OwnedFd, path: &OsStr) -> Result<()> {
    let options = [Opt::Value(c"source", "hidden"), Opt::Value(c"mode", "0700")];
    let mount = new_mount(c"tmpfs", &options, attr::NOSUID | attr::NODEV)?;
    let at = find_or_make(root, path, Kind::Directory)?;
    attach(&mount, &at, path)
}

/// Mounts a file system in memory that was asked for.
pub(crate) fn tmpfs(root: &OwnedFd, tmpfs: &Tmpfs) -> Result<()> {
    let named = |(key, value): &(String, String)| {
        CString::new(key.as_str()).step("mount tmpfs").map(|key| (key, value.clone()))
    };
    let options = tmpfs.options.iter().map(named).collect::<Result<Vec<_>>>()?;
    let mut all = vec![Opt::Value(c"source", "tmpfs")];
    all.extend(options.iter().map(|(key, value)| Opt::Value(key, value)));
    let mount = new_mount(c"tmpfs", &all, tmpfs.attributes)?;
    let at = find_or_make(root, &tmpfs.target, Kind::Directory)?;
    attach(&mount, &at, &tmpfs.target)
}

fn put(root: &OwnedFd, path: &str, mount: &OwnedFd) -> Result<()> {
    put_at(root, OsStr::new(path), mount)
}

fn put_at(root: &OwnedFd, path: &OsStr, mount: &OwnedFd) -> Result<()> {
    let at = find_or_make(root, path, Kind::Directory)?;
    // Not statx(2) with all that it knows: what the merged root doesn't keep would be asked for.
    let kind = nix::sys::stat::fstat(&at).step_at("stat", path)?.st_mode & nix::libc::S_IFMT;
    if kind != nix::libc::S_IFDIR {
        return Err(Error::new("mount in the container", Errno::ENOTDIR).at(path));
    }
    attach(mount, &at, path)
}
