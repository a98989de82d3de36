//! Our types as fuser's, and back; replies that several requests share.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fuser::{FileAttr, FileType, INodeNo, ReplyEmpty, ReplyXattr, TimeOrNow};
use sys::Errno;
use sys::name::SetTime;
use sys::stat::{Stat, Time};

use crate::error::Result;

/// Returns an error as fuser wants it.
pub(super) fn errno(e: Errno) -> fuser::Errno {
    fuser::Errno::from_i32(e as i32)
}

/// Returns attributes as fuser wants them.
pub(super) fn attr(s: &Stat) -> FileAttr {
    FileAttr {
        ino: INodeNo(s.ino),
        size: s.size,
        blocks: s.blocks,
        atime: system_time(s.atime),
        mtime: system_time(s.mtime),
        ctime: system_time(s.ctime),
        crtime: system_time(s.btime),
        kind: file_type(s.kind()),
        perm: (s.mode & 0o7777) as u16,
        nlink: s.nlink,
        uid: s.uid,
        gid: s.gid,
        rdev: kernel_dev(s.rdev),
        blksize: s.blksize,
        flags: 0,
    }
}

/// Attributes of nothing: with number 0 the kernel remembers that a name doesn't exist.
pub(super) fn absent() -> FileAttr {
    FileAttr {
        ino: INodeNo(0),
        size: 0,
        blocks: 0,
        atime: UNIX_EPOCH,
        mtime: UNIX_EPOCH,
        ctime: UNIX_EPOCH,
        crtime: UNIX_EPOCH,
        kind: FileType::RegularFile,
        perm: 0,
        nlink: 0,
        uid: 0,
        gid: 0,
        rdev: 0,
        blksize: 512,
        flags: 0,
    }
}

/// Replies to a request that has no content.
pub(super) fn done(result: Result<()>, reply: ReplyEmpty) {
    match result {
        Ok(()) => reply.ok(),
        Err(e) => reply.error(errno(e)),
    }
}

/// Replies with an attribute, or with its size where that was asked for.
pub(super) fn sized(result: Result<Vec<u8>>, size: u32, reply: ReplyXattr) {
    match result {
        Err(e) => reply.error(errno(e)),
        Ok(value) if size == 0 => reply.size(value.len() as u32),
        Ok(value) if value.len() > size as usize => reply.error(fuser::Errno::ERANGE),
        Ok(value) => reply.data(&value),
    }
}

/// Returns a device number in the kernel's 32-bit form (`new_encode_dev`), which FUSE carries.
fn kernel_dev(dev: u64) -> u32 {
    let (major, minor) = (libc::major(dev), libc::minor(dev));
    minor & 0xff | major << 8 | (minor & !0xff) << 12
}

/// Returns a device number that FUSE carried as the C library's.
pub(super) fn user_dev(dev: u32) -> u64 {
    let major = (dev & 0xfff00) >> 8;
    let minor = dev & 0xff | (dev >> 12 & 0xfff00);
    libc::makedev(major, minor)
}

/// Returns the type that the `S_IFMT` bits say.
pub(super) fn file_type(kind: u32) -> FileType {
    match kind {
        libc::S_IFDIR => FileType::Directory,
        libc::S_IFLNK => FileType::Symlink,
        libc::S_IFIFO => FileType::NamedPipe,
        libc::S_IFSOCK => FileType::Socket,
        libc::S_IFCHR => FileType::CharDevice,
        libc::S_IFBLK => FileType::BlockDevice,
        _ => FileType::RegularFile,
    }
}

fn system_time(t: Time) -> SystemTime {
    let whole = Duration::from_secs(t.sec.unsigned_abs());
    let base =
        if t.sec < 0 { UNIX_EPOCH.checked_sub(whole) } else { UNIX_EPOCH.checked_add(whole) };
    base.and_then(|b| b.checked_add(Duration::from_nanos(t.nsec.into()))).unwrap_or(UNIX_EPOCH)
}

/// Returns a new time as we want it.
pub(super) fn set_time(t: Option<TimeOrNow>) -> SetTime {
    match t {
        None => SetTime::Omit,
        Some(TimeOrNow::Now) => SetTime::Now,
        Some(TimeOrNow::SpecificTime(t)) => SetTime::At(raw_time(t)),
    }
}

/// fuser 0.18 subtracts the nanoseconds of times before 1970 instead of adding them
/// (`system_time_from_time` in its time.rs); read in the same way, the kernel's numbers come back.
fn raw_time(t: SystemTime) -> Time {
    match t.duration_since(UNIX_EPOCH) {
        Ok(d) => Time { sec: d.as_secs() as i64, nsec: d.subsec_nanos() },
        Err(e) => {
            let d = e.duration();
            Time { sec: -(d.as_secs() as i64), nsec: d.subsec_nanos() }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_survive_both_ways() {
        for (major, minor) in [(0, 0), (1, 3), (136, 300), (4095, 0xfffff)] {
            let dev = libc::makedev(major, minor);
            assert_eq!(user_dev(kernel_dev(dev)), dev, "{major}:{minor}");
        }
    }

    #[test]
    fn times_before_1970_keep_their_fraction() {
        let t = system_time(Time { sec: -2, nsec: 800_000_000 });
        assert_eq!(UNIX_EPOCH - Duration::from_millis(1200), t);
        // What fuser makes of the kernel's (-2, 800000000).
        let fusers = UNIX_EPOCH - Duration::new(2, 800_000_000);
        assert_eq!(raw_time(fusers), Time { sec: -2, nsec: 800_000_000 });
    }
}
