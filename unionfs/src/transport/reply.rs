//! Our types as the kernel's structures, and back.

use std::time::Duration;

use sys::name::SetTime;
use sys::stat::{Stat, StatFs, Time};
use wire::abi::{Attr, EntryOut, SetattrIn, StatfsOut, Statx, StatxOut, SxTime, fattr};

use crate::layer::idmap::UnionId;
use crate::ops::setattr::Change;

/// Numbers are stable and not used again while the kernel knows them.
const GENERATION: u64 = 0;

/// Returns a time span as seconds and nanoseconds.
pub(super) fn parts(span: Duration) -> (u64, u32) {
    (span.as_secs(), span.subsec_nanos())
}

/// Returns attributes as replies have them.
pub(super) fn attr(s: &Stat) -> Attr {
    Attr {
        ino: s.ino,
        size: s.size,
        blocks: s.blocks,
        atime: s.atime.sec as u64,
        mtime: s.mtime.sec as u64,
        ctime: s.ctime.sec as u64,
        atimensec: s.atime.nsec,
        mtimensec: s.mtime.nsec,
        ctimensec: s.ctime.nsec,
        mode: s.mode,
        nlink: s.nlink,
        uid: s.uid,
        gid: s.gid,
        rdev: kernel_dev(s.rdev),
        blksize: s.blksize,
        flags: 0,
    }
}

/// Returns an object at a name, whose node has its inode number.
pub(super) fn entry(stat: &Stat, valid: Duration) -> EntryOut {
    let (seconds, nanoseconds) = parts(valid);
    EntryOut {
        nodeid: stat.ino,
        generation: GENERATION,
        entry_valid: seconds,
        attr_valid: seconds,
        entry_valid_nsec: nanoseconds,
        attr_valid_nsec: nanoseconds,
        attr: attr(stat),
    }
}

/// Returns what makes the kernel remember that a name doesn't exist.
pub(super) fn nothing_at(valid: Duration) -> EntryOut {
    let (entry_valid, entry_valid_nsec) = parts(valid);
    EntryOut { entry_valid, entry_valid_nsec, ..EntryOut::default() }
}

/// Returns an entry of a directory that the kernel learns nothing of but its number.
pub(super) fn absent(number: u64) -> EntryOut {
    EntryOut { attr: Attr { ino: number, ..Attr::default() }, ..EntryOut::default() }
}

/// Returns attributes as statx(2) has them, with the time of birth where a layer tells it.
pub(super) fn statx(s: &Stat, valid: Duration) -> StatxOut {
    let (attr_valid, attr_valid_nsec) = parts(valid);
    let mut mask = libc::STATX_BASIC_STATS;
    if s.btime != Time::default() {
        mask |= libc::STATX_BTIME;
    }
    let stat = Statx {
        mask,
        blksize: s.blksize,
        nlink: s.nlink,
        uid: s.uid,
        gid: s.gid,
        mode: s.mode as u16,
        ino: s.ino,
        size: s.size,
        blocks: s.blocks,
        atime: sx_time(s.atime),
        btime: sx_time(s.btime),
        ctime: sx_time(s.ctime),
        mtime: sx_time(s.mtime),
        rdev_major: libc::major(s.rdev),
        rdev_minor: libc::minor(s.rdev),
        ..Statx::default()
    };
    StatxOut { attr_valid, attr_valid_nsec, stat, ..StatxOut::default() }
}

fn sx_time(t: Time) -> SxTime {
    SxTime { sec: t.sec, nsec: t.nsec, reserved: 0 }
}

/// Returns the state of a file system as replies have it.
pub(super) fn statfs(s: &StatFs) -> StatfsOut {
    StatfsOut {
        blocks: s.blocks,
        bfree: s.bfree,
        bavail: s.bavail,
        files: s.files,
        ffree: s.ffree,
        bsize: s.bsize,
        namelen: s.namelen,
        frsize: s.frsize,
        ..StatfsOut::default()
    }
}

/// Returns the change that a message asks for.
pub(super) fn change(asked: &SetattrIn) -> Change {
    let has = |bit: u32| asked.valid & bit != 0;
    let time = |given: u32, now: u32, sec: u64, nsec: u32| match (has(given), has(now)) {
        (false, _) => SetTime::Omit,
        (true, true) => SetTime::Now,
        (true, false) => SetTime::At(Time { sec: sec as i64, nsec }),
    };
    Change {
        mode: has(fattr::MODE).then_some(asked.mode),
        uid: has(fattr::UID).then_some(UnionId(asked.uid)),
        gid: has(fattr::GID).then_some(UnionId(asked.gid)),
        size: has(fattr::SIZE).then_some(asked.size),
        by_handle: has(fattr::FH),
        kill_privileges: has(fattr::KILL_SUIDGID),
        atime: time(fattr::ATIME, fattr::ATIME_NOW, asked.atime, asked.atimensec),
        mtime: time(fattr::MTIME, fattr::MTIME_NOW, asked.mtime, asked.mtimensec),
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
        let t = Time { sec: -2, nsec: 800_000_000 };
        let stat = Stat { mtime: t, ..Stat::default() };
        let sent = attr(&stat);
        let valid = fattr::MTIME | fattr::ATIME | fattr::ATIME_NOW;
        let (mtime, mtimensec) = (sent.mtime, sent.mtimensec);
        let asked = SetattrIn { valid, mtime, mtimensec, ..SetattrIn::default() };
        let change = change(&asked);
        assert_eq!((change.mtime, change.atime), (SetTime::At(t), SetTime::Now));
        assert!(change.mode.is_none() && change.size.is_none() && !change.kill_privileges);
    }

    #[test]
    fn birth_is_told_where_it_is_known() {
        let mut stat = Stat { ino: 7, ..Stat::default() };
        assert_eq!(statx(&stat, Duration::ZERO).stat.mask & libc::STATX_BTIME, 0);
        stat.btime = Time { sec: 5, nsec: 6 };
        let sent = statx(&stat, Duration::new(1, 2));
        assert_ne!(sent.stat.mask & libc::STATX_BTIME, 0);
        assert_eq!((sent.stat.btime.sec, sent.stat.btime.nsec, sent.attr_valid_nsec), (5, 6, 2));
    }
}
