//! Mounting: the mount API of Linux 5.2 one call a function, and unmounting.

use std::ffi::{CStr, OsStr};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

use crate::{Errno, Result, cstr};

/// `FSOPEN_CLOEXEC` and `FSMOUNT_CLOEXEC` of `linux/mount.h`.
const CLOEXEC: u32 = 1;
/// `fsconfig(2)` commands of `linux/mount.h`.
const FSCONFIG_SET_FLAG: u32 = 0;
const FSCONFIG_SET_STRING: u32 = 1;
const FSCONFIG_CMD_CREATE: u32 = 6;
/// `MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH`: both ends are descriptors.
const MOVE_MOUNT_BY_FD: u32 = 0x04 | 0x40;

/// Attributes of a mount (`MOUNT_ATTR_*` of `linux/mount.h`).
pub mod attr {
    /// Nothing can be written through it.
    pub const RDONLY: u64 = 0x01;
    /// Set-user-ID bits and file capabilities don't count.
    pub const NOSUID: u64 = 0x02;
    /// Device nodes can't be opened.
    pub const NODEV: u64 = 0x04;
    /// Programs can't be executed.
    pub const NOEXEC: u64 = 0x08;
    /// How times of access are kept: the bits of the ways below.
    pub const ATIME: u64 = 0x70;
    /// Times of access are not kept.
    pub const NOATIME: u64 = 0x10;
    /// Times of access are always kept.
    pub const STRICTATIME: u64 = 0x20;
    /// Times of access of directories are not kept.
    pub const NODIRATIME: u64 = 0x80;
    /// Symlinks are not followed.
    pub const NOSYMFOLLOW: u64 = 0x0020_0000;
}

/// What [`mount_change`] changes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// Attributes ([`attr`]) to add.
    pub set: u64,
    /// Attributes to take away.
    pub clear: u64,
    /// `MS_SHARED`, `MS_SLAVE`, `MS_PRIVATE`, `MS_UNBINDABLE`, or 0 for what it is.
    pub propagation: u64,
}

/// Whether mounts below a mount are changed, too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// Only it.
    One,
    /// All below it as well.
    Tree,
}

/// Changes attributes and propagation of a mount (`mount_setattr(2)`, Linux 5.12).
///
/// # Errors
/// `EPERM`: an attribute that the owner of the mount's source has locked. `EINVAL`: the kernel doesn't know
/// an attribute, or the descriptor is not the top of a mount.
pub fn mount_change(mount: impl AsFd, change: Change, depth: Depth) -> Result<()> {
    let Change { set, clear, propagation } = change;
    let flags = if depth == Depth::Tree { libc::AT_RECURSIVE } else { 0 };
    call_setattr(mount, &MountAttr { set, clear, propagation, userns_fd: 0 }, flags)
}

/// Makes a private copy of the mount at `dir` (`open_tree(2)` with `OPEN_TREE_CLONE`), without
/// what is mounted below it: a view that later mounts can't change.
///
/// # Errors
/// `EPERM`: no `CAP_SYS_ADMIN` in the mount namespace's owner. `EINVAL`: in a user namespace, a
/// submount is locked over the directory.
pub fn clone_mount(dir: impl AsFd) -> Result<OwnedFd> {
    open_tree(dir, 0)
}

/// Makes a private copy of the mount at `dir` with all that is mounted below it.
///
/// # Errors
/// As [`clone_mount`], but submounts that are locked come along.
pub fn clone_mount_tree(dir: impl AsFd) -> Result<OwnedFd> {
    open_tree(dir, libc::AT_RECURSIVE as libc::c_uint)
}

fn open_tree(dir: impl AsFd, flags: libc::c_uint) -> Result<OwnedFd> {
    let flags = flags
        | libc::OPEN_TREE_CLONE
        | libc::OPEN_TREE_CLOEXEC
        | libc::AT_EMPTY_PATH as libc::c_uint;
    // SAFETY: the path is a NUL-terminated literal.
    let fd =
        unsafe { libc::syscall(libc::SYS_open_tree, dir.as_fd().as_raw_fd(), c"".as_ptr(), flags) };
    owned(fd)
}

/// Takes a descriptor that a raw system call returned.
fn owned(fd: libc::c_long) -> Result<OwnedFd> {
    let fd = Errno::result(fd)?;
    // SAFETY: the call succeeded, so this is a new descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// Opens a context for a new mount of the file system type `kind` (`fsopen(2)`).
///
/// # Errors
/// `ENODEV`: the kernel doesn't know the type. `EPERM`: no `CAP_SYS_ADMIN` over the mount namespace.
pub fn fsopen(kind: &CStr) -> Result<OwnedFd> {
    // SAFETY: the type is NUL-terminated and outlives the call.
    owned(unsafe { libc::syscall(libc::SYS_fsopen, kind.as_ptr(), CLOEXEC) })
}

/// Sets `key=value` in a mount context (`fsconfig(2)`).
///
/// # Errors
/// `EINVAL`: the type doesn't take it; [`fs_message`] says more.
pub fn fsconfig_string(context: impl AsFd, key: &CStr, value: &OsStr) -> Result<()> {
    let value = cstr(value)?;
    // SAFETY: key and value are NUL-terminated and outlive the call.
    let r = unsafe {
        libc::syscall(
            libc::SYS_fsconfig,
            context.as_fd().as_raw_fd(),
            FSCONFIG_SET_STRING,
            key.as_ptr(),
            value.as_ptr(),
            0,
        )
    };
    Errno::result(r).map(drop)
}

/// Sets a key that has no value in a mount context (`fsconfig(2)`).
pub fn fsconfig_flag(context: impl AsFd, key: &CStr) -> Result<()> {
    let none = std::ptr::null::<libc::c_void>();
    // SAFETY: the key is NUL-terminated and outlives the call; a flag takes no value.
    let r = unsafe {
        libc::syscall(
            libc::SYS_fsconfig,
            context.as_fd().as_raw_fd(),
            FSCONFIG_SET_FLAG,
            key.as_ptr(),
            none,
            0,
        )
    };
    Errno::result(r).map(drop)
}

/// Creates the file system that a mount context describes (`fsconfig(2)`).
///
/// # Errors
/// What the file system answers; [`fs_message`] says more.
pub fn fsconfig_create(context: impl AsFd) -> Result<()> {
    let none = std::ptr::null::<libc::c_void>();
    // SAFETY: this command takes neither key nor value.
    let r = unsafe {
        libc::syscall(
            libc::SYS_fsconfig,
            context.as_fd().as_raw_fd(),
            FSCONFIG_CMD_CREATE,
            none,
            none,
            0,
        )
    };
    Errno::result(r).map(drop)
}

/// Makes a mount, attached nowhere, of a created context (`fsmount(2)`), with attributes [`attr`].
pub fn fsmount(context: impl AsFd, attributes: u64) -> Result<OwnedFd> {
    // SAFETY: fsmount takes no pointer.
    owned(unsafe {
        libc::syscall(libc::SYS_fsmount, context.as_fd().as_raw_fd(), CLOEXEC, attributes)
    })
}

/// Returns what the kernel says about the last failure of a mount context, if it says anything.
pub fn fs_message(context: impl AsFd) -> Option<String> {
    let mut buf = [0u8; 512];
    // SAFETY: the buffer is writable for its whole length, which is passed.
    let n = unsafe { libc::read(context.as_fd().as_raw_fd(), buf.as_mut_ptr().cast(), buf.len()) };
    let n = usize::try_from(n).ok()?;
    // Each message starts with its kind and a space: "e overlay: ...".
    let text = String::from_utf8_lossy(buf.get(..n)?).trim().to_owned();
    Some(text.split_once(' ').map_or(text.clone(), |(_, t)| t.to_owned()))
}

/// Attaches the detached mount `from` at the file or directory that `to` refers to
/// (`move_mount(2)` between two descriptors, so that no path is looked up again).
pub fn move_mount(from: impl AsFd, to: impl AsFd) -> Result<()> {
    // SAFETY: both paths are NUL-terminated literals.
    let r = unsafe {
        libc::syscall(
            libc::SYS_move_mount,
            from.as_fd().as_raw_fd(),
            c"".as_ptr(),
            to.as_fd().as_raw_fd(),
            c"".as_ptr(),
            MOVE_MOUNT_BY_FD,
        )
    };
    Errno::result(r).map(drop)
}

/// Adds attributes [`attr`] to a mount (`mount_setattr(2)`, Linux 5.12).
pub fn mount_setattr(mount: impl AsFd, attributes: u64) -> Result<()> {
    setattr(mount, attributes, 0)
}

/// Adds attributes [`attr`] to a mount and to each that is below it.
pub fn mount_setattr_tree(mount: impl AsFd, attributes: u64) -> Result<()> {
    setattr(mount, attributes, libc::AT_RECURSIVE)
}

/// Makes a mount show owners as a user namespace maps them (`MOUNT_ATTR_IDMAP`, Linux 5.12). The mount must
/// be new: [`clone_mount`] makes such a one.
///
/// # Errors
/// `EINVAL`: the file system can't. `EPERM`: no `CAP_SYS_ADMIN` over the file system's user namespace.
pub fn mount_idmap(mount: impl AsFd, user_namespace: impl AsFd) -> Result<()> {
    let userns_fd = user_namespace.as_fd().as_raw_fd() as u64;
    let set = libc::MOUNT_ATTR_IDMAP;
    call_setattr(mount, &MountAttr { set, clear: 0, propagation: 0, userns_fd }, 0)
}

/// `struct mount_attr` of `linux/mount.h`.
#[repr(C)]
struct MountAttr {
    set: u64,
    clear: u64,
    propagation: u64,
    userns_fd: u64,
}

fn setattr(mount: impl AsFd, set: u64, flags: i32) -> Result<()> {
    call_setattr(mount, &MountAttr { set, clear: 0, propagation: 0, userns_fd: 0 }, flags)
}

fn call_setattr(mount: impl AsFd, attr: &MountAttr, flags: i32) -> Result<()> {
    // SAFETY: the path is a NUL-terminated literal; `attr` has the layout and the size that the
    // call expects, and outlives it.
    let r = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_fd().as_raw_fd(),
            c"".as_ptr(),
            flags | libc::AT_EMPTY_PATH,
            attr,
            size_of::<MountAttr>(),
        )
    };
    Errno::result(r).map(drop)
}

/// `umount2(2)` with raw flags (`MNT_DETACH`, `UMOUNT_NOFOLLOW`, …).
pub fn umount(target: &OsStr, flags: i32) -> Result<()> {
    let target = cstr(target)?;
    // SAFETY: the path is NUL-terminated and outlives the call.
    Errno::result(unsafe { libc::umount2(target.as_ptr(), flags) }).map(drop)
}
