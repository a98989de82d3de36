//! `fuser::Filesystem` for a union: decode, call the operation, reply.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::SystemTime;

use fuser::{
    BsdFileFlags, CopyFileRangeFlags, FileAttr, FileHandle, Filesystem, FopenFlags, Generation,
    INodeNo, IoctlFlags, KernelConfig, LockOwner, OpenFlags, PollEvents, PollFlags, PollNotifier,
    RenameFlags, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory, ReplyDirectoryPlus, ReplyEmpty,
    ReplyEntry, ReplyIoctl, ReplyLseek, ReplyOpen, ReplyPoll, ReplyStatfs, ReplyWrite, ReplyXattr,
    Request, TimeOrNow, WriteFlags,
};
use sys::stat::Stat;

use super::opens::Way;
use super::reply::{absent, attr, done, errno, file_type, set_time, sized, user_dev};
use super::session::{Io, Served};
use crate::error::Result;
use crate::inode::Ino;
use crate::layer::idmap::UnionId;
use crate::ops::Caller;
use crate::ops::make::{Mode, New};
use crate::ops::rename::Names;
use crate::ops::setattr::Change;

/// Numbers are stable and not used again while the kernel knows them.
const GENERATION: Generation = Generation(0);
/// A handle says nothing, but for `io=passthrough`: all state is with the inode.
const NO_HANDLE: FileHandle = FileHandle(0);

fn caller(req: &Request) -> Caller {
    Caller { uid: UnionId(req.uid()), gid: UnionId(req.gid()), pid: req.pid() }
}

fn ino(n: INodeNo) -> Ino {
    Ino(n.0)
}

impl Served {
    fn entry(&self, result: Result<Stat>, reply: ReplyEntry) {
        match result {
            Ok(stat) => reply.entry(&self.cache.valid, &attr(&stat), GENERATION),
            Err(e) => reply.error(errno(e)),
        }
    }

    fn attr(&self, result: Result<Stat>, reply: ReplyAttr) {
        match result {
            Ok(stat) => reply.attr(&self.cache.valid, &attr(&stat)),
            Err(e) => reply.error(errno(e)),
        }
    }

    fn created(&self, stat: &Stat, reply: ReplyCreate) {
        let (valid, attr) = (&self.cache.valid, attr(stat));
        let flags = FopenFlags::FOPEN_KEEP_CACHE | FopenFlags::FOPEN_NOFLUSH;
        if self.io != Io::Passthrough {
            return reply.created(valid, &attr, GENERATION, NO_HANDLE, flags);
        }
        let node = Ino(stat.ino);
        match self.union.upper_file(node) {
            Ok(upper) => match self.opens.open(node, upper, |fd| reply.open_backing(fd)) {
                Way::Cached(handle, _) => reply.created(valid, &attr, GENERATION, handle, flags),
                Way::Direct(handle, backing) => {
                    let flags = FopenFlags::FOPEN_NOFLUSH;
                    reply.created_passthrough(valid, &attr, GENERATION, handle, flags, &backing);
                }
            },
            Err(e) => reply.error(errno(e)),
        }
    }
}

impl Filesystem for Served {
    fn init(&mut self, _req: &Request, config: &mut KernelConfig) -> io::Result<()> {
        self.negotiate(config)
    }

    fn destroy(&mut self) {
        self.union.finish();
    }

    fn lookup(&self, _req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let _turn = self.turns.begin();
        log::debug!("lookup {parent} {name:?}");
        match self.union.lookup(ino(parent), name) {
            Ok(None) => reply.entry(&self.cache.negative, &absent(), GENERATION),
            Ok(Some(stat)) => self.entry(Ok(stat), reply),
            Err(e) => reply.error(errno(e)),
        }
    }

    fn forget(&self, _req: &Request, node: INodeNo, nlookup: u64) {
        // No turn, as it may be one of many in a message, and the thread must not rest among them.
        self.union.forget(ino(node), nlookup);
    }

    fn getattr(&self, _req: &Request, node: INodeNo, _fh: Option<FileHandle>, reply: ReplyAttr) {
        let _turn = self.turns.begin();
        log::debug!("getattr {node}");
        self.attr(self.union.getattr(ino(node)), reply);
    }

    fn setattr(
        &self,
        req: &Request,
        node: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        size: Option<u64>,
        atime: Option<TimeOrNow>,
        mtime: Option<TimeOrNow>,
        _ctime: Option<SystemTime>,
        fh: Option<FileHandle>,
        _crtime: Option<SystemTime>,
        _chgtime: Option<SystemTime>,
        _bkuptime: Option<SystemTime>,
        _flags: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let _turn = self.turns.begin();
        let change = Change {
            mode,
            uid: uid.map(UnionId),
            gid: gid.map(UnionId),
            size,
            by_handle: fh.is_some(),
            atime: set_time(atime),
            mtime: set_time(mtime),
        };
        log::debug!("setattr {node} {change:?}");
        self.attr(self.union.setattr(caller(req), ino(node), &change), reply);
    }

    fn readlink(&self, _req: &Request, node: INodeNo, reply: ReplyData) {
        let _turn = self.turns.begin();
        log::debug!("readlink {node}");
        match self.union.readlink(ino(node)) {
            Ok(target) => reply.data(target.as_bytes()),
            Err(e) => reply.error(errno(e)),
        }
    }

    fn mknod(
        &self,
        req: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        rdev: u32,
        reply: ReplyEntry,
    ) {
        let _turn = self.turns.begin();
        log::debug!("mknod {parent} {name:?} {mode:o} {rdev:#x}");
        let new = match mode & libc::S_IFMT {
            libc::S_IFREG | 0 => New::File,
            kind => New::Node(kind, user_dev(rdev)),
        };
        let mode = Mode { bits: mode, umask };
        self.entry(self.union.make(caller(req), ino(parent), name, new, mode), reply);
    }

    fn mkdir(
        &self,
        req: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        reply: ReplyEntry,
    ) {
        let _turn = self.turns.begin();
        log::debug!("mkdir {parent} {name:?} {mode:o}");
        let mode = Mode { bits: mode, umask };
        self.entry(self.union.make(caller(req), ino(parent), name, New::Dir, mode), reply);
    }

    fn unlink(&self, _req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let _turn = self.turns.begin();
        log::debug!("unlink {parent} {name:?}");
        done(self.union.unlink(ino(parent), name), reply);
    }

    fn rmdir(&self, _req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let _turn = self.turns.begin();
        log::debug!("rmdir {parent} {name:?}");
        done(self.union.rmdir(ino(parent), name), reply);
    }

    fn symlink(
        &self,
        req: &Request,
        parent: INodeNo,
        name: &OsStr,
        target: &Path,
        reply: ReplyEntry,
    ) {
        let _turn = self.turns.begin();
        log::debug!("symlink {parent} {name:?}");
        let new = New::Symlink(target.as_os_str());
        let mode = Mode { bits: 0o777, umask: 0 };
        self.entry(self.union.make(caller(req), ino(parent), name, new, mode), reply);
    }

    fn rename(
        &self,
        _req: &Request,
        parent: INodeNo,
        name: &OsStr,
        newparent: INodeNo,
        newname: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let _turn = self.turns.begin();
        log::debug!("rename {parent} {name:?} {newparent} {newname:?} {flags:?}");
        let names = Names { from: (ino(parent), name), to: (ino(newparent), newname) };
        done(self.union.rename(names, flags.bits()), reply);
    }

    fn link(
        &self,
        _req: &Request,
        node: INodeNo,
        newparent: INodeNo,
        newname: &OsStr,
        reply: ReplyEntry,
    ) {
        let _turn = self.turns.begin();
        log::debug!("link {node} {newparent} {newname:?}");
        self.entry(self.union.link(ino(node), ino(newparent), newname), reply);
    }

    fn open(&self, _req: &Request, node: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        let _turn = self.turns.begin();
        log::debug!("open {node}");
        let cached = FopenFlags::FOPEN_KEEP_CACHE | FopenFlags::FOPEN_NOFLUSH;
        if self.no_open {
            // The kernel sends no other.
            return reply.error(fuser::Errno::ENOSYS);
        }
        if self.io != Io::Passthrough {
            return reply.opened(NO_HANDLE, cached);
        }
        match self.union.upper_file(ino(node)) {
            Ok(upper) => match self.opens.open(ino(node), upper, |fd| reply.open_backing(fd)) {
                Way::Cached(handle, true) => reply.opened(handle, cached),
                Way::Cached(handle, false) => reply.opened(handle, FopenFlags::FOPEN_NOFLUSH),
                Way::Direct(handle, backing) => {
                    reply.opened_passthrough(handle, FopenFlags::FOPEN_NOFLUSH, &backing);
                }
            },
            Err(e) => reply.error(errno(e)),
        }
    }

    fn release(
        &self,
        _req: &Request,
        node: INodeNo,
        handle: FileHandle,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        _flush: bool,
        reply: ReplyEmpty,
    ) {
        let _turn = self.turns.begin();
        log::debug!("release {node}");
        if self.io == Io::Passthrough {
            self.opens.release(ino(node), handle);
        }
        done(Ok(()), reply);
    }

    fn opendir(&self, _req: &Request, node: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        let _turn = self.turns.begin();
        log::debug!("opendir {node}");
        // As for files: what is cached stays right, as nobody changes it behind the kernel's back.
        if self.no_opendir {
            return reply.error(fuser::Errno::ENOSYS);
        }
        reply.opened(NO_HANDLE, FopenFlags::FOPEN_KEEP_CACHE | FopenFlags::FOPEN_CACHE_DIR);
    }

    fn create(
        &self,
        req: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        _flags: i32,
        reply: ReplyCreate,
    ) {
        let _turn = self.turns.begin();
        log::debug!("create {parent} {name:?} {mode:o}");
        let mode = Mode { bits: mode, umask };
        match self.union.make(caller(req), ino(parent), name, New::File, mode) {
            Ok(stat) => self.created(&stat, reply),
            Err(e) => reply.error(errno(e)),
        }
    }

    fn read(
        &self,
        _req: &Request,
        node: INodeNo,
        _fh: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let _turn = self.turns.begin();
        log::debug!("read {node} {offset} {size}");
        self.union.read(ino(node), offset, size, |read| match read {
            Ok(bytes) => reply.data(bytes),
            Err(e) => reply.error(errno(e)),
        });
    }

    fn write(
        &self,
        _req: &Request,
        node: INodeNo,
        _fh: FileHandle,
        offset: u64,
        data: &[u8],
        write_flags: WriteFlags,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let _turn = self.turns.begin();
        log::debug!("write {node} {offset} {}", data.len());
        let kill = write_flags.contains(WriteFlags::FUSE_WRITE_KILL_SUIDGID);
        match self.union.write(ino(node), offset, data, kill) {
            Ok(n) => reply.written(n as u32),
            Err(e) => reply.error(errno(e)),
        }
    }

    fn flush(
        &self,
        _req: &Request,
        _node: INodeNo,
        _fh: FileHandle,
        _lock_owner: LockOwner,
        reply: ReplyEmpty,
    ) {
        let _turn = self.turns.begin();
        // A write was written when it was acknowledged; the kernel asks no more after this.
        reply.error(fuser::Errno::ENOSYS);
    }

    fn fsync(
        &self,
        _req: &Request,
        node: INodeNo,
        _fh: FileHandle,
        datasync: bool,
        reply: ReplyEmpty,
    ) {
        let _turn = self.turns.begin();
        log::debug!("fsync {node}");
        done(self.union.fsync(ino(node), datasync), reply);
    }

    fn fsyncdir(
        &self,
        _req: &Request,
        node: INodeNo,
        _fh: FileHandle,
        datasync: bool,
        reply: ReplyEmpty,
    ) {
        let _turn = self.turns.begin();
        log::debug!("fsyncdir {node}");
        done(self.union.fsync(ino(node), datasync), reply);
    }

    fn readdir(
        &self,
        _req: &Request,
        node: INodeNo,
        _fh: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        let _turn = self.turns.begin();
        log::debug!("readdir {node} {offset}");
        let read = self.union.readdir(ino(node), offset, |e| {
            let kind = file_type(u32::from(e.kind) << 12);
            reply.add(INodeNo(e.number), e.next, kind, e.name)
        });
        match read {
            Ok(()) => reply.ok(),
            Err(e) => reply.error(errno(e)),
        }
    }

    fn readdirplus(
        &self,
        _req: &Request,
        node: INodeNo,
        _fh: FileHandle,
        offset: u64,
        mut reply: ReplyDirectoryPlus,
    ) {
        let _turn = self.turns.begin();
        log::debug!("readdirplus {node} {offset}");
        let read = self.union.readdirplus(ino(node), offset, |e, stat| {
            let attr = match stat {
                Some(stat) => attr(stat),
                None => FileAttr {
                    ino: INodeNo(e.number),
                    kind: file_type(u32::from(e.kind) << 12),
                    ..absent()
                },
            };
            reply.add(INodeNo(e.number), e.next, e.name, &self.cache.valid, &attr, GENERATION)
        });
        match read {
            Ok(()) => reply.ok(),
            Err(e) => reply.error(errno(e)),
        }
    }

    fn statfs(&self, _req: &Request, _node: INodeNo, reply: ReplyStatfs) {
        let _turn = self.turns.begin();
        match self.union.statfs() {
            Ok(s) => reply.statfs(
                s.blocks, s.bfree, s.bavail, s.files, s.ffree, s.bsize, s.namelen, s.frsize,
            ),
            Err(e) => reply.error(errno(e)),
        }
    }

    fn setxattr(
        &self,
        req: &Request,
        node: INodeNo,
        name: &OsStr,
        value: &[u8],
        flags: i32,
        _position: u32,
        reply: ReplyEmpty,
    ) {
        let _turn = self.turns.begin();
        log::debug!("setxattr {node} {name:?}");
        done(self.union.setxattr(caller(req), ino(node), name, value, flags), reply);
    }

    fn getxattr(&self, _req: &Request, node: INodeNo, name: &OsStr, size: u32, reply: ReplyXattr) {
        let _turn = self.turns.begin();
        log::debug!("getxattr {node} {name:?}");
        sized(self.union.getxattr(ino(node), name), size, reply);
    }

    fn listxattr(&self, _req: &Request, node: INodeNo, size: u32, reply: ReplyXattr) {
        let _turn = self.turns.begin();
        log::debug!("listxattr {node}");
        sized(self.union.listxattr(ino(node)), size, reply);
    }

    fn removexattr(&self, req: &Request, node: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let _turn = self.turns.begin();
        log::debug!("removexattr {node} {name:?}");
        done(self.union.removexattr(caller(req), ino(node), name), reply);
    }

    fn ioctl(
        &self,
        _req: &Request,
        node: INodeNo,
        _fh: FileHandle,
        _flags: IoctlFlags,
        cmd: u32,
        in_data: &[u8],
        _out_size: u32,
        reply: ReplyIoctl,
    ) {
        let _turn = self.turns.begin();
        log::debug!("ioctl {node} {cmd:#x}");
        match self.union.ioctl(ino(node), cmd, in_data) {
            Ok(value) => reply.ioctl(0, &value),
            Err(e) => reply.error(errno(e)),
        }
    }

    fn poll(
        &self,
        _req: &Request,
        _node: INodeNo,
        _fh: FileHandle,
        _ph: PollNotifier,
        _events: PollEvents,
        _flags: PollFlags,
        reply: ReplyPoll,
    ) {
        let _turn = self.turns.begin();
        // Files are always ready, as the kernel assumes after this.
        reply.error(fuser::Errno::ENOSYS);
    }

    fn fallocate(
        &self,
        req: &Request,
        node: INodeNo,
        _fh: FileHandle,
        offset: u64,
        length: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        let _turn = self.turns.begin();
        log::debug!("fallocate {node} {offset} {length} {mode:#x}");
        done(self.union.fallocate(caller(req), ino(node), (offset, length), mode), reply);
    }

    fn lseek(
        &self,
        _req: &Request,
        node: INodeNo,
        _fh: FileHandle,
        offset: i64,
        whence: i32,
        reply: ReplyLseek,
    ) {
        let _turn = self.turns.begin();
        log::debug!("lseek {node} {offset} {whence}");
        match self.union.lseek(ino(node), offset, whence) {
            Ok(at) => reply.offset(at),
            Err(e) => reply.error(errno(e)),
        }
    }

    fn copy_file_range(
        &self,
        req: &Request,
        ino_in: INodeNo,
        _fh_in: FileHandle,
        offset_in: u64,
        ino_out: INodeNo,
        _fh_out: FileHandle,
        offset_out: u64,
        len: u64,
        _flags: CopyFileRangeFlags,
        reply: ReplyWrite,
    ) {
        let _turn = self.turns.begin();
        log::debug!("copy_file_range {ino_in} {offset_in} {ino_out} {offset_out} {len}");
        let (from, to) = ((ino(ino_in), offset_in), (ino(ino_out), offset_out));
        match self.union.copy_file_range(caller(req), from, to, len) {
            Ok(n) => reply.written(n as u32),
            Err(e) => reply.error(errno(e)),
        }
    }
}
