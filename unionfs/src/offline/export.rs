//! What an upper changed, as an archive: a layer of an OCI image (image-spec, layer.md), or the same
//! with overlayfs's own whiteouts.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::sync::Arc;

use sys::stat::Stat;
use sys::{Errno, xattr};
use tar::EntryType;

use super::error::{OfflineError, Result};
use super::tar::{Entry, Writer};
use super::walk::{Node, Stack, Visitor, Was};
use crate::layer::marks::{Escape, Prefix, is_private};

/// Holes that are worth more than a map of them: few programs know archives with holes.
const HOLES_MIN: u64 = 1 << 20;
/// Most parts that a map has.
const PARTS_MAX: usize = 16 * 1024;

/// How an archive says that something is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whiteouts {
    /// `.wh.NAME` and `.wh..wh..opq`, as images have them.
    Oci,
    /// Character devices 0:0 and an attribute, as overlayfs has them on disk.
    Overlay,
}

/// What was written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Exported {
    /// Entries.
    pub entries: u64,
    /// Bytes of files.
    pub size: u64,
    /// Sockets, which archives can't have.
    pub sockets: u64,
}

/// Writes what an upper changed. Equal content gives equal bytes.
pub fn export(stack: &Stack, whiteouts: Whiteouts, to: impl Write + Send) -> Result<Exported> {
    let mut export = Export {
        writer: Writer::new(to),
        whiteouts,
        links: HashMap::new(),
        done: Exported::default(),
    };
    stack.walk(&mut export)?;
    export.writer.finish()?;
    Ok(export.done)
}

struct Export<W: Write> {
    writer: Writer<W>,
    whiteouts: Whiteouts,
    /// First names of files with several, by device and number.
    links: HashMap<(u64, u64), Vec<u8>>,
    done: Exported,
}

impl<W: Write> Visitor for Export<W> {
    fn object(&mut self, stack: &Stack, node: &Node<'_>) -> Result<()> {
        let stat = &node.stat;
        let kind = match stat.kind() {
            libc::S_IFDIR => return self.directory(stack, node),
            libc::S_IFREG => EntryType::Regular,
            libc::S_IFLNK => EntryType::Symlink,
            libc::S_IFIFO => EntryType::Fifo,
            libc::S_IFCHR => EntryType::Char,
            libc::S_IFBLK => EntryType::Block,
            _ => {
                self.done.sockets += 1;
                return Ok(());
            }
        };
        if stat.nlink > 1 {
            let first = self.links.entry((stat.dev, stat.ino));
            if let std::collections::hash_map::Entry::Occupied(first) = &first {
                let link = first.get().clone();
                return self.entry(&self.blank(node.path, EntryType::Link, &link, stat));
            }
            first.or_insert_with(|| node.path.to_vec());
        }
        let xattrs = attributes(stack, node)?;
        let link = match kind {
            EntryType::Symlink => node.spot.readlink().map_err(fail("read link", node))?,
            _ => Default::default(),
        };
        let mut entry = self.blank(node.path, kind, link.as_bytes(), stat);
        entry.xattrs = &xattrs;
        if kind != EntryType::Regular {
            return self.entry(&entry);
        }
        let file: Arc<OwnedFd> = match &node.data {
            Some(inode) => stack.merged.data(inode).map_err(fail("open the data of", node))?,
            None => Arc::new(node.spot.open(libc::O_RDONLY).map_err(fail("open", node))?),
        };
        entry.size = stat.size;
        self.done.size += stat.size;
        let parts = parts(&file, stat).map_err(fail("look for holes in", node))?;
        entry.parts = parts.as_deref();
        self.entry(&entry)?;
        let whole = [(0, stat.size)];
        let mut stored = 0;
        for &(offset, length) in parts.as_deref().unwrap_or(&whole) {
            let mut part = Part { file: &file, offset };
            self.writer.data(&mut part, length).map_err(|e| changed(e, node))?;
            stored += length;
        }
        Ok(self.writer.pad(stored)?)
    }

    fn deleted(&mut self, path: &[u8]) -> Result<()> {
        match self.whiteouts {
            Whiteouts::Oci => {
                let (dir, name) = split(path);
                self.mark(&[dir, b".wh.", name].concat())
            }
            Whiteouts::Overlay => {
                let stat = Stat { mode: libc::S_IFCHR, ..Stat::default() };
                self.entry(&self.blank(path, EntryType::Char, b"", &stat))
            }
        }
    }

    fn hidden(&mut self, _: &[u8]) -> Result<()> {
        Ok(())
    }
}

impl<W: Write> Export<W> {
    fn directory(&mut self, stack: &Stack, node: &Node<'_>) -> Result<()> {
        let mut xattrs = attributes(stack, node)?;
        if node.opaque && self.whiteouts == Whiteouts::Overlay {
            xattrs.push((b"trusted.overlay.opaque".to_vec(), b"y".to_vec()));
        }
        let path = if node.path.is_empty() { b"./".to_vec() } else { [node.path, b"/"].concat() };
        let mut entry = self.blank(&path, EntryType::Directory, b"", &node.stat);
        entry.xattrs = &xattrs;
        self.entry(&entry)?;
        let is_needed = node.opaque && node.was == Was::Dir;
        if is_needed && self.whiteouts == Whiteouts::Oci {
            let top: &[u8] = if node.path.is_empty() { b"" } else { &path };
            self.mark(&[top, b".wh..wh..opq"].concat())?;
        }
        Ok(())
    }

    /// Writes an empty file that says that something is gone.
    fn mark(&mut self, path: &[u8]) -> Result<()> {
        let stat = Stat { mode: 0o600, ..Stat::default() };
        self.entry(&self.blank(path, EntryType::Regular, b"", &stat))
    }

    fn entry(&mut self, entry: &Entry<'_>) -> Result<()> {
        self.done.entries += 1;
        Ok(self.writer.header(entry)?)
    }

    fn blank<'a>(&self, path: &'a [u8], kind: EntryType, link: &'a [u8], stat: &Stat) -> Entry<'a> {
        let is_device = matches!(kind, EntryType::Char | EntryType::Block);
        let device =
            if is_device { (libc::major(stat.rdev), libc::minor(stat.rdev)) } else { (0, 0) };
        Entry {
            path,
            kind,
            link,
            mode: stat.mode & 0o7777,
            uid: stat.uid,
            gid: stat.gid,
            mtime: stat.mtime,
            size: 0,
            device,
            xattrs: &[],
            parts: None,
        }
    }
}

fn fail(step: &'static str, node: &Node<'_>) -> impl FnOnce(Errno) -> OfflineError {
    OfflineError::at(step, node.path)
}

fn changed(e: io::Error, node: &Node<'_>) -> OfflineError {
    if e.kind() == io::ErrorKind::UnexpectedEof {
        let path = super::walk::shown(node.path).to_string_lossy();
        return OfflineError::Words(format!(
            "read {path}: it became shorter: stop what writes to it first"
        ));
    }
    OfflineError::Output(e)
}

/// Returns the attributes that users see, in order, by the names that they see.
fn attributes(stack: &Stack, node: &Node<'_>) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
    let target = node.spot.xattrs();
    let security = stack.permissions().is_some_and(|p| p.keeps_security());
    let mut names = Vec::new();
    let listed = xattr::for_each_name(target, |name| names.push(name.to_os_string()));
    listed.map_err(fail("list the attributes of", node))?;
    // Those that are kept under another name (`user.…`) before the same under their own (`security.…`).
    names.sort_by(|a, b| b.cmp(a));
    let mut all: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
    for name in names {
        let shown = if is_private(&name) || security {
            let prefix =
                if name.as_bytes().starts_with(b"user.") { Prefix::User } else { Prefix::Trusted };
            match (Escape { prefix, security }).to_user(&name) {
                Some(shown) => shown,
                None => continue,
            }
        } else {
            name.clone()
        };
        // Labels belong to a machine and its policy.
        let bytes = shown.as_bytes();
        let is_label = bytes.starts_with(b"security.") && bytes != b"security.capability";
        if is_label || all.iter().any(|(name, _)| name == bytes) {
            continue;
        }
        if let Some(value) =
            xattr::get(target, &name).map_err(fail("read an attribute of", node))?
        {
            all.push((shown.into_vec(), value));
        }
    }
    all.sort();
    Ok(all)
}

/// Returns the parts of a file that are not holes, if it has holes that are worth it.
fn parts(file: &OwnedFd, stat: &Stat) -> sys::Result<Option<Vec<(u64, u64)>>> {
    if stat.blocks.saturating_mul(512).saturating_add(HOLES_MIN) > stat.size {
        return Ok(None);
    }
    let signed = |n: u64| i64::try_from(n).map_err(|_| Errno::EFBIG);
    let mut parts = Vec::new();
    let (mut at, mut stored) = (0u64, 0u64);
    while at < stat.size {
        let data = match sys::copy::seek(file.as_fd(), signed(at)?, libc::SEEK_DATA) {
            Ok(n) => n as u64,
            Err(Errno::ENXIO) => break,
            Err(Errno::EINVAL) => return Ok(None),
            Err(e) => return Err(e),
        };
        let hole = sys::copy::seek(file.as_fd(), signed(data)?, libc::SEEK_HOLE)? as u64;
        let end = hole.min(stat.size);
        if end <= data || parts.len() >= PARTS_MAX {
            return Ok(None);
        }
        parts.push((data, end - data));
        stored += end - data;
        at = end;
    }
    Ok((stored + HOLES_MIN <= stat.size).then_some(parts))
}

/// A part of a file.
struct Part<'a> {
    file: &'a OwnedFd,
    offset: u64,
}

impl Read for Part<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = sys::copy::read_at(self.file, buf, self.offset).map_err(io::Error::from)?;
        self.offset += n as u64;
        Ok(n)
    }
}

/// Splits a path into its directory, with the slash, and its last name.
fn split(path: &[u8]) -> (&[u8], &[u8]) {
    let at = path.iter().rposition(|&b| b == b'/').map_or(0, |i| i + 1);
    path.split_at(at)
}
