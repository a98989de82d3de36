//! Messages in, operations, replies out.

use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;

use daemon::turns::Turn;
use sys::Errno;
use sys::stat::Stat;
use wire::abi::{
    self, AttrOut, CopyFileRangeOut, CreateOut, FSYNC_FDATASYNC, GetxattrOut, InHeader, IoctlOut,
    LseekOut, OpenOut, WRITE_KILL_SUIDGID, WriteOut, fopen,
};
use wire::{Agreement, Entries, Offer, Operation, Reply};

use super::opens::Way;
use super::reply::{absent, attr, change, entry, nothing_at, parts, statfs, statx, user_dev};
use super::session::{Io, Served};
use crate::error::Result;
use crate::inode::{Ino, ROOT};
use crate::layer::idmap::UnionId;
use crate::ops::Caller;
use crate::ops::make::{Mode, New};
use crate::ops::rename::Names;
use crate::ops::statistics::{REQUEST, ROOM, Statistics};

/// Handle of a file or directory: it says nothing, as all state is with the inode, but for
/// `io=passthrough`.
const NO_HANDLE: u64 = 0;

/// One message's node and sender.
#[derive(Clone, Copy)]
struct From {
    node: Ino,
    caller: Caller,
}

impl From {
    fn new(header: &InHeader) -> From {
        let (uid, gid) = (UnionId(header.uid), UnionId(header.gid));
        From { node: Ino(header.nodeid), caller: Caller { uid, gid, pid: header.pid } }
    }
}

impl wire::FileSystem for Served {
    fn init(&mut self, offer: &Offer) -> std::io::Result<Agreement> {
        self.negotiate(offer)
    }

    fn destroy(&self) {
        self.union.finish();
    }

    type Turn<'a> = Turn<'a>;

    fn turn(&self) -> Turn<'_> {
        self.turns.begin()
    }

    fn answer(&self, header: &InHeader, operation: Operation<'_>, reply: Reply<'_>) {
        log::debug!("{} {} {operation:?}", abi::opcode::name(header.opcode), header.nodeid);
        let from = From::new(header);
        match operation {
            Operation::Forget { lookups } => {
                self.union.forget(from.node, lookups);
                reply.none();
            }
            Operation::BatchForget { all } => {
                for one in all {
                    self.union.forget(Ino(one.nodeid), one.nlookup);
                }
                reply.none();
            }
            Operation::Lookup { name } => match self.union.lookup(from.node, name) {
                Ok(None) => reply.value(&nothing_at(self.cache.negative)),
                found => self.entry(found.and_then(|s| s.ok_or(Errno::EIO)), reply),
            },
            Operation::Getattr(_) => self.attr(self.union.getattr(from.node), reply),
            Operation::Statx(_) => match self.union.getattr(from.node) {
                Ok(stat) => reply.value(&statx(&stat, self.cache.valid)),
                Err(e) => reply.error(e),
            },
            Operation::Setattr(asked) => {
                self.attr(self.union.setattr(from.caller, from.node, &change(asked)), reply);
            }
            Operation::Readlink => match self.union.readlink(from.node) {
                Ok(target) => reply.bytes(target.as_bytes()),
                Err(e) => reply.error(e),
            },
            Operation::Readdir(asked) => self.readdir(from.node, asked, reply),
            Operation::Readdirplus(asked) => self.readdirplus(from.node, asked, reply),
            Operation::Statfs => match self.union.statfs() {
                Ok(stat) => reply.value(&statfs(&stat)),
                Err(e) => reply.error(e),
            },
            Operation::Read(_)
            | Operation::Write { .. }
            | Operation::Fsync(_)
            | Operation::Fsyncdir(_)
            | Operation::Fallocate(_)
            | Operation::Lseek(_)
            | Operation::CopyFileRange { .. }
            | Operation::Ioctl { .. } => self.content(from, operation, reply),
            Operation::Open(_)
            | Operation::Opendir(_)
            | Operation::Release(_)
            | Operation::Releasedir(_) => self.opened_or_closed(from.node, operation, reply),
            Operation::Setxattr { .. }
            | Operation::Getxattr { .. }
            | Operation::Listxattr { .. }
            | Operation::Removexattr { .. } => self.attribute(from, operation, reply),
            // FLUSH: a write was written when it was acknowledged. POLL: files are always ready. The
            // kernel asks no more after this.
            Operation::Flush
            | Operation::Poll
            | Operation::Access
            | Operation::Destroy
            | Operation::Unknown => reply.error(Errno::ENOSYS),
            _ => self.name(from, operation, reply),
        }
    }
}

impl Served {
    fn entry(&self, result: Result<Stat>, reply: Reply<'_>) {
        match result {
            Ok(stat) => reply.value(&entry(&stat, self.cache.valid)),
            Err(e) => reply.error(e),
        }
    }

    fn attr(&self, result: Result<Stat>, reply: Reply<'_>) {
        match result {
            Ok(stat) => {
                let (attr_valid, attr_valid_nsec) = parts(self.cache.valid);
                reply.value(&AttrOut { attr_valid, attr_valid_nsec, dummy: 0, attr: attr(&stat) });
            }
            Err(e) => reply.error(e),
        }
    }

    /// Messages that change which names there are.
    fn name(&self, from: From, operation: Operation<'_>, reply: Reply<'_>) {
        let From { node, caller } = from;
        let make = |name, new, mode| self.union.make(caller, node, name, new, mode);
        match operation {
            // The kernel then makes a file by MKNOD and opens it without a message, which saves the RELEASE
            // of each new file for as long as it doesn't know that it needs no OPEN.
            Operation::Create { .. } if self.no_open => reply.error(Errno::ENOSYS),
            Operation::Create { name, asked } => {
                let mode = Mode { bits: asked.mode, umask: asked.umask };
                self.created(make(name, New::File, mode), reply);
            }
            Operation::Tmpfile(asked) => {
                let mode = Mode { bits: asked.mode, umask: asked.umask };
                self.created(self.union.make_nameless(caller, node, mode), reply);
            }
            Operation::Mknod { name, asked } => {
                let new = match asked.mode & libc::S_IFMT {
                    libc::S_IFREG | 0 => New::File,
                    kind => New::Node(kind, user_dev(asked.rdev)),
                };
                let mode = Mode { bits: asked.mode, umask: asked.umask };
                self.entry(make(name, new, mode), reply);
            }
            Operation::Mkdir { name, asked } => {
                let mode = Mode { bits: asked.mode, umask: asked.umask };
                self.entry(make(name, New::Dir, mode), reply);
            }
            Operation::Symlink { name, target } => {
                let mode = Mode { bits: 0o777, umask: 0 };
                self.entry(make(name, New::Symlink(target), mode), reply);
            }
            Operation::Link { object, name } => {
                self.entry(self.union.link(Ino(object), node, name), reply);
            }
            Operation::Unlink { name } => done(self.union.unlink(node, name), reply),
            Operation::Rmdir { name } => done(self.union.rmdir(node, name), reply),
            Operation::Rename { name, to, new_name, flags } => {
                let names = Names { from: (node, name), to: (Ino(to), new_name) };
                done(self.union.rename(names, flags), reply);
            }
            _ => reply.error(Errno::ENOSYS),
        }
    }

    /// Messages about a file's content.
    fn content(&self, from: From, operation: Operation<'_>, reply: Reply<'_>) {
        let From { node, caller } = from;
        match operation {
            Operation::Read(asked) => {
                self.union.read(node, asked.offset, asked.size, |read| match read {
                    Ok(bytes) => reply.bytes(bytes),
                    Err(e) => reply.error(e),
                });
            }
            Operation::Write { asked, data } => {
                let kill = asked.write_flags & WRITE_KILL_SUIDGID != 0;
                match self.union.write(caller, node, (asked.offset, data.0), kill) {
                    Ok(n) => reply.value(&WriteOut { size: n as u32, padding: 0 }),
                    Err(e) => reply.error(e),
                }
            }
            Operation::Fsync(asked) | Operation::Fsyncdir(asked) => {
                done(self.union.fsync(node, asked.fsync_flags & FSYNC_FDATASYNC != 0), reply);
            }
            Operation::Fallocate(asked) => {
                let range = (asked.offset, asked.length);
                done(self.union.fallocate(caller, node, range, asked.mode as i32), reply);
            }
            Operation::Lseek(asked) => {
                match self.union.lseek(node, asked.offset as i64, asked.whence as i32) {
                    Ok(at) => reply.value(&LseekOut { offset: at as u64 }),
                    Err(e) => reply.error(e),
                }
            }
            Operation::CopyFileRange { asked, wide } => {
                let to = (Ino(asked.nodeid_out), asked.off_out);
                let copied =
                    self.union.copy_file_range(caller, (node, asked.off_in), to, asked.len);
                match copied {
                    Ok(n) if wide => reply.value(&CopyFileRangeOut { bytes_copied: n as u64 }),
                    Ok(n) => reply.value(&WriteOut { size: n as u32, padding: 0 }),
                    Err(e) => reply.error(e),
                }
            }
            Operation::Ioctl { asked, .. } if asked.cmd == REQUEST && node == ROOT => {
                self.statistics(reply);
            }
            Operation::Ioctl { asked, data } => match self.union.ioctl(node, asked.cmd, data.0) {
                Ok(value) => reply.value_and_bytes(&IoctlOut::default(), &value),
                Err(e) => reply.error(e),
            },
            _ => reply.error(Errno::ENOSYS),
        }
    }

    fn statistics(&self, reply: Reply<'_>) {
        let said = Statistics::new(&self.union, self.counts.lanes(), self.counts.all());
        match serde_json::to_vec(&said) {
            Ok(text) if text.len() <= ROOM => reply.value_and_bytes(&IoctlOut::default(), &text),
            _ => reply.error(Errno::EOVERFLOW),
        }
    }

    /// Messages about extended attributes.
    fn attribute(&self, from: From, operation: Operation<'_>, reply: Reply<'_>) {
        let From { node, caller } = from;
        match operation {
            Operation::Setxattr { name, value, flags } => {
                done(self.union.setxattr(caller, node, name, value.0, flags as i32), reply);
            }
            Operation::Removexattr { name } => {
                done(self.union.removexattr(caller, node, name), reply);
            }
            Operation::Getxattr { name, size } => {
                sized(self.union.getxattr(node, name), size, reply);
            }
            Operation::Listxattr { size } => sized(self.union.listxattr(node), size, reply),
            _ => reply.error(Errno::ENOSYS),
        }
    }

    /// Messages that the kernel sends where it doesn't open and close by itself.
    fn opened_or_closed(&self, node: Ino, operation: Operation<'_>, reply: Reply<'_>) {
        match operation {
            // The kernel sends no other.
            Operation::Open(_) if self.no_open => reply.error(Errno::ENOSYS),
            Operation::Open(_) => match self.open(node, &reply) {
                Ok(open) => reply.value(&open),
                Err(e) => reply.error(e),
            },
            Operation::Opendir(_) if self.no_opendir => reply.error(Errno::ENOSYS),
            // What is cached stays right, as nobody changes it behind the kernel's back.
            Operation::Opendir(_) => {
                reply.value(&opened(NO_HANDLE, fopen::KEEP_CACHE | fopen::CACHE_DIR));
            }
            Operation::Release(asked) if self.ways.io == Io::Passthrough => {
                self.opens.release(node, asked.fh);
                reply.done();
            }
            _ => reply.done(),
        }
    }

    fn open(&self, node: Ino, reply: &Reply<'_>) -> Result<OpenOut> {
        if self.ways.io != Io::Passthrough {
            return Ok(opened(NO_HANDLE, fopen::KEEP_CACHE | fopen::NOFLUSH));
        }
        let upper = self.union.upper_file(node)?;
        Ok(self.pass_through(node, upper, reply))
    }

    /// Answers with a new file, which is open.
    fn created(&self, made: Result<Stat>, reply: Reply<'_>) {
        let made = made.and_then(|stat| Ok((stat, self.open(Ino(stat.ino), &reply)?)));
        match made {
            Ok((stat, open)) => {
                let entry = entry(&stat, self.cache.valid);
                reply.value(&CreateOut { entry, open });
            }
            Err(e) => reply.error(e),
        }
    }

    fn pass_through(&self, node: Ino, upper: Option<Arc<OwnedFd>>, reply: &Reply<'_>) -> OpenOut {
        match self.opens.open(node, upper, |fd| reply.open_backing(fd)) {
            Way::Cached(handle, true) => opened(handle, fopen::KEEP_CACHE | fopen::NOFLUSH),
            Way::Cached(handle, false) => opened(handle, fopen::NOFLUSH),
            Way::Direct(handle, backing) => OpenOut {
                fh: handle,
                open_flags: fopen::NOFLUSH | fopen::PASSTHROUGH,
                backing_id: backing.id(),
            },
        }
    }

    fn readdir(&self, node: Ino, asked: &abi::ReadIn, reply: Reply<'_>) {
        let mut entries = Entries::new(asked.size);
        let read = self
            .union
            .readdir(node, asked.offset, |e| entries.add(e.number, e.next, e.kind, e.name));
        match read {
            Ok(()) => entries.send(reply),
            Err(e) => reply.error(e),
        }
    }

    fn readdirplus(&self, node: Ino, asked: &abi::ReadIn, reply: Reply<'_>) {
        let mut entries = Entries::new(asked.size);
        let read = self.union.readdirplus(node, asked.offset, |e, stat| {
            let known = stat.map_or_else(|| absent(e.number), |s| entry(s, self.cache.valid));
            entries.add_plus(&known, e.next, e.kind, e.name)
        });
        match read {
            Ok(()) => entries.send(reply),
            Err(e) => reply.error(e),
        }
    }
}

fn opened(handle: u64, flags: u32) -> OpenOut {
    OpenOut { fh: handle, open_flags: flags, backing_id: 0 }
}

fn done(result: Result<()>, reply: Reply<'_>) {
    match result {
        Ok(()) => reply.done(),
        Err(e) => reply.error(e),
    }
}

/// Replies with an attribute, or with its size where that was asked for.
fn sized(result: Result<Vec<u8>>, size: u32, reply: Reply<'_>) {
    match result {
        Err(e) => reply.error(e),
        Ok(value) if size == 0 => {
            reply.value(&GetxattrOut { size: value.len() as u32, padding: 0 });
        }
        Ok(value) if value.len() > size as usize => reply.error(Errno::ERANGE),
        Ok(value) => reply.bytes(&value),
    }
}
