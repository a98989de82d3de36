//! The files of an archive or of a directory, by name and in any order.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Seek};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::errno::Errno;
use nix::libc;
use sys::openat::{Confine, open_confined};

use super::{Entries, Kind};
use crate::error::{Context, Error, Result};
use crate::image::codec::{decoder, sniff};
use crate::image::index::Compression;

/// Most files that an archive of images may have.
const MEMBERS_MAX: usize = 100_000;
/// How many links may lead to one another.
const LINKS_MAX: usize = 8;

/// Files by name; names are relative to the top and have no `.` or `..`.
pub(crate) enum Members {
    /// Of a directory.
    Dir(OwnedFd, PathBuf),
    /// Of an archive.
    Archive(Arc<File>, HashMap<String, Member>, PathBuf),
}

/// Where an archive has a file.
#[derive(Debug)]
pub(crate) enum Member {
    /// Its data: where it begins, and how long it is.
    Data(u64, u64),
    /// It is the same as another.
    Link(String),
}

impl Members {
    /// Opens a directory or an archive; one that is compressed or can't be read in any order is
    /// first copied to a nameless file in `spool`.
    pub(crate) fn open(path: &Path, spool: &Path, limit: u64) -> Result<Members> {
        if path == Path::new("-") {
            return Members::spooled(io::stdin(), spool, limit, path);
        }
        let meta = std::fs::metadata(path).map_err(|e| {
            Error::new("open", e)
                .at(path)
                .hint_if(Errno::ENOENT, "give an archive, or a directory with an OCI layout")
        })?;
        if meta.is_dir() {
            let flags = libc::O_PATH | libc::O_DIRECTORY;
            let dir = sys::openat::open_at(nix::fcntl::AT_FDCWD, path.as_os_str(), flags, 0);
            return Ok(Members::Dir(dir.step_at("open", path)?, path.to_path_buf()));
        }
        let mut file = File::open(path).step_at("open", path)?;
        let (compression, _) = sniff(&mut file)?;
        if compression != Compression::None || !meta.is_file() {
            let file = File::open(path).step_at("open", path)?;
            return Members::spooled(file, spool, limit, path);
        }
        file.rewind().step_at("read", path)?;
        Members::scan(file, path)
    }

    fn spooled(from: impl Read + Send, spool: &Path, limit: u64, path: &Path) -> Result<Members> {
        let (compression, stream) = sniff(from)?;
        let flags = libc::O_TMPFILE | libc::O_RDWR;
        let cwd = nix::fcntl::AT_FDCWD;
        let file = sys::openat::open_at(cwd, spool.as_os_str(), flags, 0o600)
            .step_at("make a file in", spool)?;
        let mut file = File::from(file);
        let mut plain = decoder(compression, stream)?.take(limit.saturating_add(1));
        let n = io::copy(&mut plain, &mut file).step_at("read", path)?;
        if n > limit {
            return Err(Error::new("read", format!("it has more than {limit} bytes")).at(path));
        }
        file.rewind().step_at("read", path)?;
        Members::scan(file, path)
    }

    fn scan(file: File, path: &Path) -> Result<Members> {
        let mut all = HashMap::new();
        let length = file.metadata().step_at("look at", path)?.len();
        let file = Arc::new(file);
        let mut entries = Entries::seeking(io::BufReader::with_capacity(64 * 1024, &*file));
        let name = |raw: &[u8], above: &str| -> Option<String> {
            joined(above, std::str::from_utf8(raw).ok()?)
        };
        while let Some(entry) = entries.next_entry().map_err(|e| Error::new("read", e).at(path))? {
            let Some(own) = name(&entry.path, "") else { continue };
            let above = own.rsplit_once('/').map_or("", |(dir, _)| dir);
            let member = match entry.kind {
                Kind::File if entry.map.is_none() => {
                    let end = entry.offset.checked_add(entry.size);
                    if end.is_none_or(|end| end > length) {
                        return Err(Error::new("read", "the archive ends too early").at(path));
                    }
                    Member::Data(entry.offset, entry.size)
                }
                Kind::Symlink => match name(&entry.link, above) {
                    Some(to) => Member::Link(to),
                    None => continue,
                },
                Kind::HardLink => match name(&entry.link, "") {
                    Some(to) => Member::Link(to),
                    None => continue,
                },
                _ => continue,
            };
            all.insert(own, member);
            if all.len() > MEMBERS_MAX {
                return Err(
                    Error::new("read", "it has too many files for an archive of images").at(path)
                );
            }
        }
        drop(entries);
        Ok(Members::Archive(file, all, path.to_path_buf()))
    }

    /// Returns what it was opened by.
    pub(crate) fn path(&self) -> &Path {
        match self {
            Members::Dir(_, path) | Members::Archive(_, _, path) => path,
        }
    }

    /// Whether there is a file of this name.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.open_file(name).is_ok()
    }

    /// Opens a file, and returns its length too.
    pub(crate) fn open_file(&self, name: &str) -> Result<(Box<dyn Read + Send>, u64)> {
        let missing = |e: Errno| Error::new(format!("open {name} of"), e).at(self.path());
        match self {
            Members::Dir(dir, _) => {
                let clean = joined("", name).ok_or_else(|| missing(Errno::EINVAL))?;
                let flags = libc::O_RDONLY | libc::O_NOFOLLOW | libc::O_NONBLOCK;
                let confine = Confine::BeneathCrossMounts;
                let fd = open_confined(dir, clean.as_ref(), flags, 0, confine).map_err(missing)?;
                let file = File::from(fd);
                let meta = file.metadata().step_at("look at", self.path())?;
                if !meta.is_file() {
                    return Err(missing(Errno::EINVAL));
                }
                let length = meta.len();
                Ok((Box::new(file), length))
            }
            Members::Archive(file, all, _) => {
                let mut name = joined("", name).ok_or_else(|| missing(Errno::EINVAL))?;
                for _ in 0..LINKS_MAX {
                    match all.get(&name) {
                        Some(&Member::Data(offset, length)) => {
                            let file = Arc::clone(file);
                            return Ok((Box::new(Window { file, offset, left: length }), length));
                        }
                        Some(Member::Link(to)) => name.clone_from(to),
                        None => return Err(missing(Errno::ENOENT)),
                    }
                }
                Err(missing(Errno::ELOOP))
            }
        }
    }

    /// Reads a small file.
    pub(crate) fn read(&self, name: &str, limit: u64) -> Result<Vec<u8>> {
        let (mut stream, length) = self.open_file(name)?;
        if length > limit {
            let what = format!("it has {length} bytes, at most {limit} are read");
            return Err(Error::new(format!("read {name} of"), what).at(self.path()));
        }
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).step_at(&format!("read {name} of"), self.path())?;
        Ok(bytes)
    }
}

/// Returns `name` as seen from the directory `above`, without `.` and `..`; `None` where it leads out.
fn joined(above: &str, name: &str) -> Option<String> {
    if name.starts_with('/') || name.contains('\0') {
        return None;
    }
    let mut parts: Vec<&str> = above.split('/').filter(|p| !p.is_empty()).collect();
    for part in name.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()?),
            p => parts.push(p),
        }
    }
    Some(parts.join("/"))
}

/// A part of a file, read without moving anybody's position.
struct Window {
    file: Arc<File>,
    offset: u64,
    left: u64,
}

impl Read for Window {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let most = buf.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        let part = buf.get_mut(..most).unwrap_or_default();
        let n = sys::copy::read_at(&*self.file, part, self.offset).map_err(io::Error::from)?;
        self.offset += n as u64;
        self.left -= n as u64;
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_inside() {
        assert_eq!(joined("a/b", "../c.tar").as_deref(), Some("a/c.tar"));
        assert_eq!(joined("", "./x//y").as_deref(), Some("x/y"));
        assert_eq!(joined("a", "../../x"), None);
        assert_eq!(joined("", "/etc/passwd"), None);
    }
}
