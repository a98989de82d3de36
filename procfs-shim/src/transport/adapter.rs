//! Open renders; read slices the rendered bytes, and renders anew at a return to the beginning.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use daemon::{Turn, Turns};
use fuser::{
    AccessFlags, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation,
    INodeNo, InitFlags, IoctlFlags, KernelConfig, LockOwner, OpenAccMode, OpenFlags, PollEvents,
    PollFlags, PollNotifier, ReplyAttr, ReplyData, ReplyDirectory, ReplyEmpty, ReplyEntry,
    ReplyIoctl, ReplyLseek, ReplyOpen, ReplyPoll, ReplyXattr, Request,
};
use parking_lot::Mutex;

use super::counters::{COUNTERS, Message};
use super::handles::Handles;
use super::sizes::{Restorer, Sizes};
use super::sysfs::{self, Sysfs};
use super::tree::{Node, Tree};
use crate::error::ReadError;
use crate::files::{Content, Row};
use crate::host::Moment;
use crate::host::process::Pid;
use crate::view::Views;
use crate::view::container::Container;
use crate::view::cpu::CpuView;
use crate::view::kept::Text;
use crate::view::load::PERIOD;

/// Names and attributes in the table never change.
const TTL: Duration = Duration::from_secs(3600);

/// When a container that is being started needs no help of ours any more. A reader of its load before that
/// makes the first sample.
const SETTLED: Duration = Duration::from_millis(100);

/// Size that sysfs gives its files.
const SYSFS_SIZE: u64 = 4096;

/// The file system.
#[derive(Debug)]
pub(super) struct Adapter {
    views: Arc<Views>,
    tree: Tree,
    /// The directory of processors in the tree, and what the machine has below it.
    sysfs: Option<(INodeNo, Sysfs)>,
    handles: Handles,
    sizes: Sizes,
    turns: Arc<Turns>,
    /// Fallbacks that were warned of, by file and cause.
    warned: Mutex<HashSet<(&'static str, String)>>,
}

/// How many different warnings are told apart.
const MOST_WARNINGS: usize = 256;

impl Adapter {
    pub(super) fn new(views: Views, turns: Arc<Turns>) -> Adapter {
        let tree = Tree::new(views.host());
        let machine = views.host().cpu_directory().map(Sysfs::new).ok();
        Adapter {
            sizes: Sizes::new(&tree, views.host()),
            sysfs: tree.cpu_directory().zip(machine),
            tree,
            views: Arc::new(views),
            handles: Handles::new(),
            turns,
            warned: Mutex::default(),
        }
    }

    /// Returns a file's content for a reader, made anew unless that was done a moment ago.
    fn content(&self, row: &'static Row, reader: u32) -> Result<Arc<[u8]>, Errno> {
        let now = Moment::now();
        let container = match self.views.known(Pid(reader), now) {
            Some(container) => Ok(container),
            None => {
                self.turns.blocking();
                self.views.find(Pid(reader), now)
            }
        };
        let number = row.fallback as usize;
        let known = container.as_ref().ok().and_then(|c| c.texts().get(number, now));
        let text = match known {
            Some(text) => text,
            None => {
                let text = self.make(row, reader, container.clone())?;
                COUNTERS.made(Moment::now().since(now));
                if let Ok(container) = &container {
                    container.texts().put(number, now, text.clone());
                }
                text
            }
        };
        COUNTERS.given(row.fallback, text.is_stand_in);
        Ok(text.bytes)
    }

    /// Makes a file's content for a reader. The machine's file stands in where the container's
    /// can't be made, and the log says so.
    fn make(
        &self,
        row: &'static Row,
        reader: u32,
        container: Result<Arc<Container>, ReadError>,
    ) -> Result<Text, Errno> {
        let view = container.and_then(|container| self.views.view(container));
        let made = view.and_then(|view| (row.render)(&view));
        log::debug!("make {} for process {reader}: {}", row.path, outcome(&made));
        match made {
            Ok(Content::Text(text)) => {
                return Ok(Text { bytes: text.into(), is_stand_in: false });
            }
            Ok(Content::Host) => {}
            Err(cause) if self.views.is_gone(&cause) => {
                return Err(errno(cause));
            }
            Err(cause) => self.warn_once(row.path, cause),
        }
        let host = self.views.host().text(row.fallback).map_err(errno)?;
        Ok(Text { bytes: host.into_bytes().into(), is_stand_in: true })
    }

    /// Begins the answer to a message.
    fn begin(&self, message: Message) -> Turn<'_> {
        COUNTERS.message(message);
        self.turns.begin()
    }

    fn warn_once(&self, path: &'static str, cause: ReadError) {
        let mut warned = self.warned.lock();
        if warned.len() < MOST_WARNINGS && warned.insert((path, cause.to_string())) {
            log::warn!("{path}: a reader is shown the machine's own figures: {cause}");
        }
    }

    /// Makes the content of a node for a reader.
    fn read_node(&self, ino: INodeNo, reader: u32) -> Result<Arc<[u8]>, Errno> {
        if let Some(node) = self.tree.get(ino) {
            return self.content(node.file.ok_or(Errno::EISDIR)?, reader);
        }
        let (sysfs, path) = self.sysfs_at(ino).ok_or(Errno::ENOENT)?;
        let text = self.cpus(reader).and_then(|cpus| sysfs.text(&path, &cpus));
        text.map(Arc::from).map_err(errno)
    }

    fn cpus(&self, reader: u32) -> Result<CpuView, ReadError> {
        self.views.of(Pid(reader))?.cpus()
    }

    /// Returns the machine's path of a node whose entries (or text) are the machine's.
    fn sysfs_at(&self, ino: INodeNo) -> Option<(&Sysfs, PathBuf)> {
        let (top, sysfs) = self.sysfs.as_ref()?;
        let path = if ino == *top { Some(PathBuf::new()) } else { sysfs.path(ino) };
        path.map(|p| (sysfs, p))
    }

    /// Returns a node and how long its name stands for it.
    fn find(
        &self,
        parent: INodeNo,
        name: &OsStr,
        reader: u32,
    ) -> Result<(FileAttr, Duration), Errno> {
        let found = self.tree.lookup(parent, name);
        if let Some((ino, node)) = found.and_then(|ino| Some((ino, self.tree.get(ino)?))) {
            return Ok((self.attributes_in_table(ino, node), TTL));
        }
        let (sysfs, path) = self.sysfs_at(parent).ok_or(Errno::ENOENT)?;
        let found = sysfs.lookup(&path, name, || self.cpus(reader)).map_err(errno)?;
        found.map(|attr| (attr, sysfs::TTL)).ok_or(Errno::ENOENT)
    }

    fn attributes_in_table(&self, ino: INodeNo, node: &Node) -> FileAttr {
        let mode = node.file.map_or(0o555, Row::mode);
        FileAttr { size: self.sizes.of(ino), ..attributes_of(ino, node.kind(), mode) }
    }

    /// Returns what readers see.
    pub(super) fn views(&self) -> &Arc<Views> {
        &self.views
    }

    /// Returns what sets sizes right, for a thread of its own.
    pub(super) fn restorer(&self) -> Option<Restorer> {
        self.sizes.restorer()
    }

    fn attributes(&self, ino: INodeNo) -> Result<FileAttr, Errno> {
        if let Some(node) = self.tree.get(ino) {
            return Ok(self.attributes_in_table(ino, node));
        }
        let (sysfs, path) = self.sysfs_at(ino).ok_or(Errno::ESTALE)?;
        sysfs.attributes(path).map_err(errno)
    }

    /// Lists a directory: what is in the table first, then what only the machine has.
    fn list(&self, ino: INodeNo, reader: u32) -> Result<Vec<sysfs::Entry>, Errno> {
        let parent = self.tree.get(ino).map_or(ino, |n| n.parent);
        let mut all: Vec<sysfs::Entry> = vec![
            (ino, FileType::Directory, ".".into()),
            (parent, FileType::Directory, "..".into()),
        ];
        all.extend(self.tree.children(ino).map(|(ino, n)| (ino, n.kind(), n.name.into())));
        if let Some((sysfs, path)) = self.sysfs_at(ino) {
            let more = sysfs.list(&path, || self.cpus(reader)).map_err(errno)?;
            let known = |name: &OsStr| self.tree.lookup(ino, name).is_some();
            all.extend(more.into_iter().filter(|(_, _, name)| !known(name)));
        } else if self.tree.get(ino).is_none_or(|n| n.file.is_some()) {
            return Err(Errno::ENOTDIR);
        }
        Ok(all)
    }
}

fn errno(e: ReadError) -> Errno {
    Errno::from_i32(e.errno() as i32)
}

/// Notes an error that is answered.
fn counted(e: Errno) -> Errno {
    COUNTERS.error();
    e
}

fn outcome(made: &Result<Content, ReadError>) -> String {
    match made {
        Ok(Content::Text(text)) => format!("{} bytes", text.len()),
        Ok(Content::Host) => "the machine's".into(),
        Err(e) => e.to_string(),
    }
}

/// Returns the attributes of a node of /sys.
pub(super) fn attributes_of(ino: INodeNo, kind: FileType, mode: u16) -> FileAttr {
    FileAttr {
        ino,
        size: if kind == FileType::RegularFile { SYSFS_SIZE } else { 0 },
        blocks: 0,
        atime: UNIX_EPOCH,
        mtime: UNIX_EPOCH,
        ctime: UNIX_EPOCH,
        crtime: UNIX_EPOCH,
        kind,
        perm: mode,
        nlink: if kind == FileType::Directory { 2 } else { 1 },
        uid: 0,
        gid: 0,
        rdev: 0,
        blksize: 4096,
        flags: 0,
    }
}

impl Filesystem for Adapter {
    fn init(&mut self, _req: &Request, config: &mut KernelConfig) -> io::Result<()> {
        // Readers of one directory don't wait for each other, and no reader waits for ever for a worker
        // that was killed. An old kernel may lack both.
        for wanted in [InitFlags::FUSE_PARALLEL_DIROPS, InitFlags::FUSE_HAS_RESEND] {
            if let Err(missing) = config.add_capabilities(wanted) {
                log::debug!("the kernel doesn't offer {missing:?}");
            }
        }
        let views = self.views.clone();
        std::thread::Builder::new().name("load".into()).spawn(move || {
            // Whoever starts a container has other work for the processors now.
            std::thread::sleep(SETTLED);
            loop {
                views.sample();
                std::thread::sleep(PERIOD);
            }
        })?;
        Ok(())
    }

    fn lookup(&self, req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let _turn = self.begin(Message::Lookup);
        match self.find(parent, name, req.pid()) {
            Ok((attr, ttl)) => reply.entry(&ttl, &attr, Generation(0)),
            Err(e) => reply.error(counted(e)),
        }
    }

    fn getattr(&self, _req: &Request, ino: INodeNo, _fh: Option<FileHandle>, reply: ReplyAttr) {
        let _turn = self.begin(Message::Getattr);
        match self.attributes(ino) {
            Ok(attr) => reply.attr(&TTL, &attr),
            Err(e) => reply.error(counted(e)),
        }
    }

    fn readlink(&self, _req: &Request, ino: INodeNo, reply: ReplyData) {
        let _turn = self.begin(Message::Readlink);
        let at = self.sysfs_at(ino).ok_or(Errno::EINVAL);
        match at.and_then(|(sysfs, path)| sysfs.link(&path).map_err(errno)) {
            Ok(target) => reply.data(target.as_bytes()),
            Err(e) => reply.error(counted(e)),
        }
    }

    fn open(&self, req: &Request, ino: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        let _turn = self.begin(Message::Open);
        if flags.acc_mode() != OpenAccMode::O_RDONLY {
            return reply.error(counted(Errno::EACCES));
        }
        self.sizes.before_open(ino, &self.turns);
        match self.read_node(ino, req.pid()) {
            Ok(text) => {
                let flags = FopenFlags::FOPEN_DIRECT_IO | FopenFlags::FOPEN_NOFLUSH;
                reply.opened(self.handles.add(text), flags);
            }
            Err(e) => reply.error(counted(e)),
        }
    }

    fn read(
        &self,
        req: &Request,
        ino: INodeNo,
        fh: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let _turn = self.begin(Message::Read);
        self.sizes.note_read(ino, fh, offset, size);
        let render = || {
            let text = self.read_node(ino, req.pid())?;
            self.handles.replace(fh, text.clone());
            Ok(text)
        };
        match self.handles.get(fh, offset).map_or_else(render, Ok) {
            Ok(text) => reply.data(slice(&text, offset, size)),
            Err(e) => reply.error(counted(e)),
        }
    }

    fn release(
        &self,
        _req: &Request,
        ino: INodeNo,
        fh: FileHandle,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        _flush: bool,
        reply: ReplyEmpty,
    ) {
        let _turn = self.begin(Message::Release);
        self.handles.remove(fh);
        self.sizes.note_release(ino, fh);
        reply.ok()
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        let _turn = self.begin(Message::Other);
        // Kernels before 5.16 ask although nothing is written; told once, they never ask again.
        reply.error(Errno::ENOSYS);
    }

    fn readdir(
        &self,
        req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        let _turn = self.begin(Message::Readdir);
        let all = match self.list(ino, req.pid()) {
            Ok(all) => all,
            Err(e) => return reply.error(counted(e)),
        };
        let rest = usize::try_from(offset).unwrap_or(usize::MAX);
        for ((ino, kind, name), next) in all.into_iter().zip(1u64..).skip(rest) {
            if reply.add(ino, next, kind, name) {
                break;
            }
        }
        reply.ok()
    }

    fn access(&self, _req: &Request, _ino: INodeNo, mask: AccessFlags, reply: ReplyEmpty) {
        let _turn = self.begin(Message::Other);
        if mask.contains(AccessFlags::W_OK) { reply.error(Errno::EACCES) } else { reply.ok() }
    }

    fn ioctl(
        &self,
        _req: &Request,
        _ino: INodeNo,
        _fh: FileHandle,
        _flags: IoctlFlags,
        _cmd: u32,
        _in_data: &[u8],
        _out_size: u32,
        reply: ReplyIoctl,
    ) {
        let _turn = self.begin(Message::Other);
        // awk and others ask each file whether it is a terminal.
        reply.error(Errno::ENOTTY);
    }

    fn lseek(
        &self,
        _req: &Request,
        _ino: INodeNo,
        _fh: FileHandle,
        _offset: i64,
        _whence: i32,
        reply: ReplyLseek,
    ) {
        let _turn = self.begin(Message::Other);
        // The kernel looks for data and holes by itself then.
        reply.error(Errno::ENOSYS);
    }

    fn poll(
        &self,
        _req: &Request,
        _ino: INodeNo,
        _fh: FileHandle,
        _ph: PollNotifier,
        _events: PollEvents,
        _flags: PollFlags,
        reply: ReplyPoll,
    ) {
        let _turn = self.begin(Message::Other);
        // The kernel then answers by itself for ever: a poll that waits for a daemon would keep a
        // machine from suspending.
        reply.error(Errno::ENOSYS);
    }

    fn getxattr(&self, _: &Request, _: INodeNo, _: &OsStr, _: u32, reply: ReplyXattr) {
        let _turn = self.begin(Message::Other);
        reply.error(Errno::ENOSYS);
    }

    fn listxattr(&self, _req: &Request, _ino: INodeNo, _size: u32, reply: ReplyXattr) {
        let _turn = self.begin(Message::Other);
        reply.error(Errno::ENOSYS);
    }
}

/// Returns the bytes from `offset` on, at most `size`.
fn slice(text: &[u8], offset: u64, size: u32) -> &[u8] {
    let start = usize::try_from(offset).unwrap_or(usize::MAX).min(text.len());
    let end = start.saturating_add(size as usize).min(text.len());
    text.get(start..end).unwrap_or_default()
}
