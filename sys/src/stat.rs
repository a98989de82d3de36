//! `statx(2)` into a typed [`Stat`], and `fstatfs(2)`.

use std::ffi::{CStr, OsStr};
use std::os::fd::{AsFd, AsRawFd};

use crate::{Errno, Result, cstr};

/// A point in time: seconds since the epoch (may be negative) and nanoseconds (0 … 999,999,999).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Time {
    /// Seconds since 1970-01-01T00:00:00Z.
    pub sec: i64,
    /// Nanoseconds after `sec`.
    pub nsec: u32,
}

/// What `statx(2)` tells of an object.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stat {
    /// Inode number.
    pub ino: u64,
    /// Device of the file system, as `st_dev`.
    pub dev: u64,
    /// Type and permission bits, as `st_mode`.
    pub mode: u32,
    /// Number of hard links.
    pub nlink: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Device that a device node stands for, as `st_rdev`.
    pub rdev: u64,
    /// Size in bytes.
    pub size: u64,
    /// Blocks of 512 bytes.
    pub blocks: u64,
    /// Preferred block size.
    pub blksize: u32,
    /// Last access.
    pub atime: Time,
    /// Last change of the content.
    pub mtime: Time,
    /// Last change of the status.
    pub ctime: Time,
    /// Creation; the epoch where the file system doesn't know it.
    pub btime: Time,
    /// Whether a file system is mounted here (`STATX_ATTR_MOUNT_ROOT`, Linux 5.8).
    pub mount_root: bool,
    /// Identity of the mount (`stx_mnt_id`, Linux 5.8), 0 where the kernel doesn't tell.
    pub mnt_id: u64,
}

impl Stat {
    /// Returns the type bits (`S_IFMT`) of the mode.
    pub fn kind(&self) -> u32 {
        self.mode & libc::S_IFMT
    }

    /// Whether this is a directory.
    pub fn is_dir(&self) -> bool {
        self.kind() == libc::S_IFDIR
    }

    /// Whether this is a regular file.
    pub fn is_file(&self) -> bool {
        self.kind() == libc::S_IFREG
    }

    /// Whether this is a symbolic link.
    pub fn is_symlink(&self) -> bool {
        self.kind() == libc::S_IFLNK
    }

    /// Whether this is a character device 0:0, which is overlayfs's whiteout.
    pub fn is_whiteout_device(&self) -> bool {
        self.kind() == libc::S_IFCHR && self.rdev == 0
    }
}

fn time(t: libc::statx_timestamp) -> Time {
    Time { sec: t.tv_sec, nsec: t.tv_nsec }
}

fn statx(dir: i32, name: &CStr, flags: i32) -> Result<Stat> {
    // SAFETY: `statx` is a plain struct of integers, for which all zeroes is a valid value.
    let mut buf: libc::statx = unsafe { std::mem::zeroed() };
    let mask = libc::STATX_BASIC_STATS | libc::STATX_BTIME | libc::STATX_MNT_ID;
    // SAFETY: the name is NUL-terminated, the buffer is a whole `statx`; both outlive the call.
    let r = unsafe { libc::statx(dir, name.as_ptr(), flags, mask, &mut buf) };
    Errno::result(r)?;
    Ok(Stat {
        ino: buf.stx_ino,
        dev: libc::makedev(buf.stx_dev_major, buf.stx_dev_minor),
        mode: u32::from(buf.stx_mode),
        nlink: buf.stx_nlink,
        uid: buf.stx_uid,
        gid: buf.stx_gid,
        rdev: libc::makedev(buf.stx_rdev_major, buf.stx_rdev_minor),
        size: buf.stx_size,
        blocks: buf.stx_blocks,
        blksize: buf.stx_blksize,
        atime: time(buf.stx_atime),
        mtime: time(buf.stx_mtime),
        ctime: time(buf.stx_ctime),
        btime: time(buf.stx_btime),
        mount_root: buf.stx_attributes & libc::STATX_ATTR_MOUNT_ROOT as u64 != 0,
        mnt_id: buf.stx_mnt_id,
    })
}

/// Returns what is known of the entry `name` of `dir`; a symlink is not followed and no automount
/// is triggered.
pub fn stat_at(dir: impl AsFd, name: &OsStr) -> Result<Stat> {
    let flags = libc::AT_SYMLINK_NOFOLLOW | libc::AT_NO_AUTOMOUNT;
    statx(dir.as_fd().as_raw_fd(), &cstr(name)?, flags)
}

/// As [`stat_at`], but content with what the file system has cached (`AT_STATX_DONT_SYNC`): a FUSE
/// daemon that meets its own mount point below a layer must not wait for itself.
pub fn stat_at_unsynced(dir: impl AsFd, name: &OsStr) -> Result<Stat> {
    let flags = libc::AT_SYMLINK_NOFOLLOW | libc::AT_NO_AUTOMOUNT | libc::AT_STATX_DONT_SYNC;
    statx(dir.as_fd().as_raw_fd(), &cstr(name)?, flags)
}

/// Returns what is known of the object behind a descriptor, which may be `O_PATH`.
pub fn stat_fd(fd: impl AsFd) -> Result<Stat> {
    statx(fd.as_fd().as_raw_fd(), c"", libc::AT_EMPTY_PATH)
}

/// What `fstatfs(2)` tells of a file system; sizes are in units of `frsize` bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StatFs {
    /// Magic number of the file system type.
    pub magic: i64,
    /// Total blocks.
    pub blocks: u64,
    /// Free blocks.
    pub bfree: u64,
    /// Blocks free to unprivileged users.
    pub bavail: u64,
    /// Total inodes.
    pub files: u64,
    /// Free inodes.
    pub ffree: u64,
    /// Optimal transfer size.
    pub bsize: u32,
    /// Fragment size.
    pub frsize: u32,
    /// Longest name.
    pub namelen: u32,
}

/// Returns the statistics of the file system that holds `fd`, which may be `O_PATH`.
pub fn statfs_fd(fd: impl AsFd) -> Result<StatFs> {
    // SAFETY: `statfs64` is a plain struct of integers, for which all zeroes is a valid value.
    let mut buf: libc::statfs64 = unsafe { std::mem::zeroed() };
    // SAFETY: the buffer is a whole `statfs64` and outlives the call.
    let r = unsafe { libc::fstatfs64(fd.as_fd().as_raw_fd(), &mut buf) };
    Errno::result(r)?;
    Ok(StatFs {
        magic: buf.f_type,
        blocks: buf.f_blocks,
        bfree: buf.f_bfree,
        bavail: buf.f_bavail,
        files: buf.f_files,
        ffree: buf.f_ffree,
        bsize: buf.f_bsize as u32,
        frsize: buf.f_frsize as u32,
        namelen: buf.f_namelen as u32,
    })
}
