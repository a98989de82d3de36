//! /dev: a small file system in memory, with the few devices that harm nobody, bound from the host.

use std::ffi::OsStr;
use std::os::fd::OwnedFd;

use nix::errno::Errno;
use nix::libc;
use nix::sys::stat::{Mode, mkdirat};
use nix::unistd::symlinkat;
use sys::mount::attr;
use sys::openat::open_at;

use crate::error::{Context, Error, Result};
use crate::rootfs::path::{Kind, attach, find_or_make};
use crate::rootfs::{Opt, new_mount};
use crate::spec::Device;

/// Devices and their numbers: a bind of something else under that name is refused.
const NODES: [(&str, (u64, u64)); 6] = [
    ("null", (1, 3)),
    ("zero", (1, 5)),
    ("full", (1, 7)),
    ("random", (1, 8)),
    ("urandom", (1, 9)),
    ("tty", (5, 0)),
];

/// Links that programs expect.
const LINKS: [(&str, &str); 6] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("core", "/proc/kcore"),
    ("ptmx", "pts/ptmx"),
];

/// Mounts /dev and fills it. Nodes that the container makes itself can't be opened, here or
/// elsewhere, as every file system of the container is mounted `nodev`.
pub(crate) fn dev(root: &OwnedFd) -> Result<()> {
    let options =
        [Opt::Value(c"source", "tmpfs"), Opt::Value(c"mode", "0755"), Opt::Value(c"size", "65536")];
    let mount = new_mount(c"tmpfs", &options, attr::NOSUID | attr::NODEV | attr::NOEXEC)?;
    // A root whose /dev is a symlink or a file is refused: everything below trusts this place.
    let at = find_or_make(root, OsStr::new("/dev"), Kind::Directory)?;
    attach(&mount, &at, OsStr::new("/dev"))?;
    for dir in ["pts", "shm", "mqueue"] {
        mkdirat(&mount, dir, Mode::from_bits_truncate(0o755)).step_at("create", dir)?;
    }
    make_links(&mount)?;
    for (name, numbers) in NODES {
        bind_node(&mount, name, numbers)?;
    }
    Ok(())
}

/// Makes the links in the /dev that a bundle has, as far as they are missing.
pub(crate) fn links(root: &OwnedFd) -> Result<()> {
    let dev = find_or_make(root, OsStr::new("/dev"), Kind::Directory)?;
    make_links(&dev)
}

fn make_links(dev: &OwnedFd) -> Result<()> {
    for (name, target) in LINKS {
        match symlinkat(target, dev, name) {
            Ok(()) | Err(Errno::EEXIST) => {}
            Err(e) => return Err(Error::new("create link", e).at(name)),
        }
    }
    Ok(())
}

/// Binds the host's device over an empty file.
fn bind_node(dev: &OwnedFd, name: &str, numbers: (u64, u64)) -> Result<()> {
    let node = host_node(name, numbers)?;
    let mount = sys::mount::clone_mount(&node).step_at("bind device", name)?;
    sys::name::mknod(dev, OsStr::new(name), libc::S_IFREG | 0o666, 0).step_at("create", name)?;
    let at =
        open_at(dev, OsStr::new(name), libc::O_PATH | libc::O_NOFOLLOW, 0).step_at("open", name)?;
    attach(&mount, &at, OsStr::new(name))
}

/// Opens a device of the host and makes sure that it is the one.
pub(crate) fn host_node(name: &str, numbers: (u64, u64)) -> Result<OwnedFd> {
    let path = format!("/dev/{name}");
    let fd = open_at(nix::fcntl::AT_FDCWD, OsStr::new(&path), libc::O_PATH, 0)
        .step_at("open device", &path)?;
    let stat = sys::stat::stat_fd(&fd).step_at("stat", &path)?;
    let right = libc::makedev(numbers.0 as u32, numbers.1 as u32);
    if stat.kind() != libc::S_IFCHR || stat.rdev != right {
        return Err(Error::new("open device", "it is not the device of that name").at(&path));
    }
    Ok(fd)
}

/// Opens a device of the host that is to be seen inside.
///
/// # Preconditions
/// The caller sees the host's files.
pub(crate) fn open(device: &Device) -> Result<OwnedFd> {
    let source = open_at(nix::fcntl::AT_FDCWD, &device.source, libc::O_PATH, 0)
        .step_at("open device", &device.source)?;
    let kind = sys::stat::stat_fd(&source).step_at("stat", &device.source)?.kind();
    if kind != libc::S_IFCHR && kind != libc::S_IFBLK {
        return Err(Error::new("--device", "it is no device").at(&device.source));
    }
    let mount = sys::mount::clone_mount(&source).step_at("bind device", &device.source)?;
    let attributes = attr::NOSUID | attr::NOEXEC;
    sys::mount::mount_setattr(&mount, attributes).step_at("bind device", &device.source)?;
    Ok(mount)
}

/// Attaches a device in the container.
pub(crate) fn put(root: &OwnedFd, device: &Device, mount: &OwnedFd) -> Result<()> {
    let at = find_or_make(root, &device.target, Kind::File)?;
    attach(mount, &at, &device.target)
}

/// Makes an empty file /dev/console and binds a terminal over it.
pub(crate) fn bind_console(root: &OwnedFd, terminal: &OwnedFd) -> Result<()> {
    let path = OsStr::new("/dev/console");
    let at = find_or_make(root, path, Kind::File)?;
    let mount = sys::mount::clone_mount(terminal).step_at("bind terminal", path)?;
    attach(&mount, &at, path)
}
