//! The entries of an archive, one after the other (POSIX ustar, pax and GNU formats).

use std::io::{self, Read, Seek};

use sys::stat::Time;
use tar::{EntryType, GnuExtSparseHeader, Header};

use super::pax::{Pax, number};
use super::sparse::{self, Map, PARTS_MAX};
use crate::error::{Context, Error, Result};

const BLOCK: u64 = 512;
/// Largest extended header and longest name that is read: they are held in memory.
const EXTENSION_MAX: u64 = 1 << 20;

/// What an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Regular file.
    File,
    /// One more name of an entry before it.
    HardLink,
    /// Symbolic link.
    Symlink,
    /// Directory.
    Dir,
    /// FIFO.
    Fifo,
    /// Character device.
    Char,
    /// Block device.
    Block,
}

/// One entry; names are as the archive has them, checked by nobody yet.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    /// Name.
    pub(crate) path: Vec<u8>,
    /// What it is.
    pub(crate) kind: Kind,
    /// Where a link leads.
    pub(crate) link: Vec<u8>,
    /// Permission bits.
    pub(crate) mode: u32,
    /// Owner.
    pub(crate) uid: u64,
    /// Group.
    pub(crate) gid: u64,
    /// Time of the last change.
    pub(crate) mtime: Time,
    /// Bytes that the file will have.
    pub(crate) size: u64,
    /// Major and minor number of a device.
    pub(crate) device: (u32, u32),
    /// Extended attributes.
    pub(crate) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// The parts of a sparse file.
    pub(crate) map: Option<Map>,
    /// Where the data begins in the archive.
    pub(crate) offset: u64,
}

/// Reads entries of an archive; the data of each is what [`Read`] gives until the next is asked for.
pub(crate) struct Entries<R> {
    inner: R,
    skip: fn(&mut R, u64) -> io::Result<()>,
    position: u64,
    /// Data of the current entry that was not read yet, and what fills its last block.
    left: u64,
    padding: u64,
    global: Pax,
    done: bool,
}

impl<R: Read> Read for Entries<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let most = buf.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        let Some(part) = buf.get_mut(..most).filter(|p| !p.is_empty()) else { return Ok(0) };
        match self.inner.read(part)? {
            0 => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the archive ends too early")),
            n => {
                self.left -= n as u64;
                self.position += n as u64;
                Ok(n)
            }
        }
    }
}

impl<R: Read> Entries<R> {
    /// Begins at the start of an archive.
    pub(crate) fn new(inner: R) -> Entries<R> {
        Entries::skipping_by(inner, read_past)
    }

    fn skipping_by(inner: R, skip: fn(&mut R, u64) -> io::Result<()>) -> Entries<R> {
        let global = Pax::default();
        Entries { inner, skip, position: 0, left: 0, padding: 0, global, done: false }
    }

    /// Returns the next entry; after the last one everything up to the end of the stream was read.
    pub(crate) fn next_entry(&mut self) -> Result<Option<Entry>> {
        let mut pax = self.global.clone();
        let (mut long_name, mut long_link) = (None, None);
        loop {
            self.skip_rest()?;
            let Some(header) = self.header()? else { return Ok(None) };
            let kind = header.entry_type();
            // An extended header's own size is never overridden.
            let own_size = header.entry_size().step("read archive: size of an entry")?;
            match kind {
                EntryType::XHeader => pax.read(&self.extension(own_size)?)?,
                EntryType::XGlobalHeader => {
                    let data = self.extension(own_size)?;
                    self.global.read(&data)?;
                    pax.read(&data)?;
                }
                EntryType::GNULongName => long_name = Some(trimmed(self.extension(own_size)?)),
                EntryType::GNULongLink => long_link = Some(trimmed(self.extension(own_size)?)),
                _ => {
                    let names = (long_name.take(), long_link.take());
                    return self.entry(&header, pax, names, own_size).map(Some);
                }
            }
        }
    }

    fn entry(
        &mut self,
        header: &Header,
        pax: Pax,
        (long_name, long_link): (Option<Vec<u8>>, Option<Vec<u8>>),
        own_size: u64,
    ) -> Result<Entry> {
        let sparse_name = pax.sparse.name.clone();
        let path = sparse_name.or(pax.path.clone()).or(long_name);
        let path = path.unwrap_or_else(|| header.path_bytes().into_owned());
        let link = pax.link.clone().or(long_link);
        let link = link.or_else(|| header.link_name_bytes().map(|l| l.into_owned()));
        let kind = kind_of(header, &path)?;
        let stored = match kind {
            // Some archives give links the size of their target, and no data.
            Kind::HardLink | Kind::Symlink | Kind::Dir | Kind::Fifo | Kind::Char | Kind::Block => 0,
            Kind::File => pax.size.unwrap_or(own_size),
        };
        self.left = stored;
        self.padding = (BLOCK - stored % BLOCK) % BLOCK;
        let (size, map) = self.sparse(header, &pax, stored)?;
        let mtime = header.mtime().map_or(0, |t| i64::try_from(t).unwrap_or(0));
        let id = |field: &[u8], own: io::Result<u64>, more: Option<u64>| match more {
            Some(id) => Ok(id),
            // Some writers leave it out.
            None if field.iter().all(|b| matches!(b, 0 | b' ')) => Ok(0),
            None => own.step("read archive: owner of an entry"),
        };
        let old = header.as_old();
        let number = |n: io::Result<Option<u32>>| n.ok().flatten().unwrap_or(0);
        Ok(Entry {
            kind,
            link: link.unwrap_or_default(),
            mode: header.mode().step("read archive: mode of an entry")? & 0o7777,
            uid: id(&old.uid, header.uid(), pax.uid)?,
            gid: id(&old.gid, header.gid(), pax.gid)?,
            mtime: pax.mtime.unwrap_or(Time { sec: mtime, nsec: 0 }),
            size,
            device: (number(header.device_major()), number(header.device_minor())),
            xattrs: pax.xattrs,
            map,
            offset: self.position,
            path,
        })
    }

    /// Returns a file's size and, if it is sparse, its map.
    fn sparse(&mut self, header: &Header, pax: &Pax, stored: u64) -> Result<(u64, Option<Map>)> {
        let keys = &pax.sparse;
        if header.entry_type() == EntryType::GNUSparse {
            return self.old_gnu(header, stored);
        }
        if keys.major == Some(1) {
            let real_size = keys.real_size.ok_or_else(|| sparse::bad("it doesn't say its size"))?;
            let parts = self.map_in_data()?;
            return Ok((real_size, Some(Map::checked(parts, real_size, self.left)?)));
        }
        if let Some(real_size) = keys.real_size {
            let parts = Map::pairs(&keys.map)?;
            return Ok((real_size, Some(Map::checked(parts, real_size, stored)?)));
        }
        Ok((stored, None))
    }

    fn old_gnu(&mut self, header: &Header, stored: u64) -> Result<(u64, Option<Map>)> {
        let gnu = header.as_gnu().ok_or_else(|| sparse::bad("its header is not GNU's"))?;
        let real_size = gnu.real_size().step("read archive: size of a sparse file")?;
        let mut parts = Vec::new();
        let mut add = |all: &[tar::GnuSparseHeader]| -> Result<()> {
            for part in all.iter().filter(|p| !p.is_empty()) {
                let part = part.offset().and_then(|o| Ok((o, part.length()?)));
                parts.push(part.step("read archive: part of a sparse file")?);
            }
            Ok(())
        };
        add(&gnu.sparse)?;
        let mut more = gnu.is_extended();
        let mut blocks = 0;
        while more {
            let mut block = GnuExtSparseHeader::new();
            self.inner.read_exact(block.as_mut_bytes()).step("read archive: a sparse file")?;
            self.position += BLOCK;
            blocks += 1;
            if blocks > PARTS_MAX / block.sparse.len() {
                return Err(sparse::bad("it has too many parts"));
            }
            add(&block.sparse)?;
            more = block.is_extended();
        }
        Ok((real_size, Some(Map::checked(parts, real_size, stored)?)))
    }

    /// Reads the map that version 1.0 has before the data: numbers, a line each, up to a whole block.
    fn map_in_data(&mut self) -> Result<Vec<(u64, u64)>> {
        let mut numbers: Vec<u64> = Vec::new();
        let mut count = None;
        let mut line = Vec::new();
        while count.is_none_or(|c: usize| numbers.len() < c * 2) {
            let mut block = [0u8; BLOCK as usize];
            self.read_exact(&mut block).step("read archive: map of a sparse file")?;
            for &b in &block {
                if count.is_some_and(|c| numbers.len() >= c * 2) {
                    break;
                }
                if b != b'\n' {
                    line.push(b);
                    if line.len() > 20 {
                        return Err(sparse::bad("its map is no list of numbers"));
                    }
                    continue;
                }
                let n = number(b"GNU.sparse.map", &line)?;
                line.clear();
                match count {
                    None if n as usize > PARTS_MAX => {
                        return Err(sparse::bad("it has too many parts"));
                    }
                    None => count = Some(n as usize),
                    Some(_) => numbers.push(n),
                }
            }
        }
        Map::pairs(&numbers)
    }

    /// Returns the next header; `None` at the end.
    fn header(&mut self) -> Result<Option<Header>> {
        if self.done {
            return Ok(None);
        }
        let mut header = Header::new_old();
        let mut have = 0;
        while have < BLOCK as usize {
            let rest = header.as_mut_bytes().get_mut(have..).unwrap_or_default();
            match self.inner.read(rest).step("read archive")? {
                0 if have == 0 => {
                    self.done = true;
                    return Ok(None);
                }
                0 => return Err(Error::new("read archive", "it ends too early")),
                n => have += n,
            }
        }
        self.position += BLOCK;
        if header.as_bytes().iter().all(|&b| b == 0) {
            self.done = true;
            // What follows belongs to the stream that is hashed, though not to the archive.
            io::copy(&mut self.inner, &mut io::sink()).step("read archive")?;
            return Ok(None);
        }
        let bytes = header.as_bytes();
        let sum = |range: std::ops::Range<usize>| -> u32 {
            bytes.get(range).unwrap_or_default().iter().map(|&b| u32::from(b)).sum()
        };
        let expected = sum(0..148) + 8 * u32::from(b' ') + sum(156..512);
        if header.cksum().ok() != Some(expected) {
            return Err(Error::new(
                "read archive",
                "this is no tar archive, or it is damaged: the checksum of a header is wrong",
            ));
        }
        Ok(Some(header))
    }

    /// Returns the data of an extended header.
    fn extension(&mut self, size: u64) -> Result<Vec<u8>> {
        if size > EXTENSION_MAX {
            return Err(Error::new(
                "read archive",
                format!("an extended header of {size} bytes: at most {EXTENSION_MAX} are read"),
            ));
        }
        self.left = size;
        self.padding = (BLOCK - size % BLOCK) % BLOCK;
        let mut data = vec![0; size as usize];
        self.read_exact(&mut data).step("read archive: extended header")?;
        Ok(data)
    }

    fn skip_rest(&mut self) -> Result<()> {
        let rest = self.left + self.padding;
        (self.left, self.padding) = (0, 0);
        self.position += rest;
        (self.skip)(&mut self.inner, rest).step("read archive")
    }
}

impl<R: Read + Seek> Entries<R> {
    /// As [`Entries::new`], but the data of entries that nobody reads is not read at all.
    pub(crate) fn seeking(inner: R) -> Entries<R> {
        Entries::skipping_by(inner, |inner, n| {
            inner.seek_relative(i64::try_from(n).map_err(io::Error::other)?)
        })
    }
}

fn read_past<R: Read>(inner: &mut R, n: u64) -> io::Result<()> {
    if io::copy(&mut inner.take(n), &mut io::sink())? < n {
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the archive ends too early"));
    }
    Ok(())
}

fn trimmed(mut name: Vec<u8>) -> Vec<u8> {
    while name.last() == Some(&0) {
        name.pop();
    }
    name
}

fn kind_of(header: &Header, path: &[u8]) -> Result<Kind> {
    Ok(match header.entry_type() {
        // Before POSIX a directory was a file whose name ends so.
        EntryType::Regular if path.ends_with(b"/") => Kind::Dir,
        EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => Kind::File,
        EntryType::Link => Kind::HardLink,
        EntryType::Symlink => Kind::Symlink,
        EntryType::Directory => Kind::Dir,
        EntryType::Fifo => Kind::Fifo,
        EntryType::Char => Kind::Char,
        EntryType::Block => Kind::Block,
        other => {
            let path = String::from_utf8_lossy(path);
            let what = format!("an entry of type {:?} is not supported", other.as_byte() as char);
            return Err(Error::new("read archive", what).at(&*path));
        }
    })
}
