//! Nodes below /sys/devices/system/cpu that are not in the table: the machine's, looked up as they
//! are asked for.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use dashmap::DashMap;
use fuser::{FileAttr, FileType, INodeNo};

use super::adapter::attributes_of;
use super::tree::hash;
use crate::error::ReadError;
use crate::files::cpu_dir;
use crate::host::cpulist::CpuId;
use crate::host::sysfs::{CpuDirectory, Kind};
use crate::view::cpu::CpuView;

/// Marks the inode numbers of these nodes; the other bits are made of the path.
const IN_SYSFS: u64 = 1 << 62;

/// Directories below each other that are searched for a node.
const MOST_LEVELS: usize = 8;

/// Which processors there are depends on who asks, and when.
pub(super) const TTL: Duration = Duration::ZERO;

/// The nodes asked for so far, by their paths on the machine.
#[derive(Debug)]
pub(super) struct Sysfs {
    machine: Arc<CpuDirectory>,
    paths: DashMap<u64, PathBuf>,
}

/// An entry of a directory.
pub(super) type Entry = (INodeNo, FileType, OsString);

impl Sysfs {
    pub(super) fn new(machine: Arc<CpuDirectory>) -> Sysfs {
        Sysfs { machine, paths: DashMap::new() }
    }

    /// Returns the machine's path of a node; the directory itself has the empty one, under whatever
    /// number the tree gave it. A node that a daemon before this one was asked for is searched for.
    pub(super) fn path(&self, ino: INodeNo) -> Option<PathBuf> {
        if ino.0 & IN_SYSFS == 0 {
            return None;
        }
        let known = self.paths.get(&ino.0).map(|p| p.clone());
        known.or_else(|| self.search(ino, Path::new(""), MOST_LEVELS))
    }

    fn search(&self, ino: INodeNo, at: &Path, levels: usize) -> Option<PathBuf> {
        let below = self.machine.list(at).ok()?;
        below.into_iter().find_map(|(name, kind)| {
            let path = at.join(name);
            if self.number(path.clone()) == ino {
                return Some(path);
            }
            let deeper = kind == Kind::Directory && levels > 0;
            deeper.then(|| self.search(ino, &path, levels - 1)).flatten()
        })
    }

    /// Looks up a name in the directory at `parent`.
    pub(super) fn lookup(
        &self,
        parent: &Path,
        name: &OsStr,
        cpus: impl FnOnce() -> Result<CpuView, ReadError>,
    ) -> Result<Option<FileAttr>, ReadError> {
        let mut name = name.to_owned();
        if parent.as_os_str().is_empty()
            && let Some(number) = cpu_number(&name)
        {
            let cpus = cpus()?;
            let Some(cpu) = cpus.cpus.iter().find(|c| c.number == number) else { return Ok(None) };
            name = format!("cpu{}", cpu.host.0).into();
        }
        match self.attributes(parent.join(name)) {
            Err(ReadError::Io(_, nix::errno::Errno::ENOENT)) => Ok(None),
            other => other.map(Some),
        }
    }

    /// Returns what is known of a node.
    pub(super) fn attributes(&self, path: PathBuf) -> Result<FileAttr, ReadError> {
        let (kind, mode) = self.machine.look(&path)?;
        Ok(attributes_of(self.number(path), file_type(kind), mode))
    }

    /// Lists a directory as `cpus` allows.
    pub(super) fn list(
        &self,
        parent: &Path,
        cpus: impl FnOnce() -> Result<CpuView, ReadError>,
    ) -> Result<Vec<Entry>, ReadError> {
        let all = self.machine.list(parent)?;
        let entry = |(name, kind): (String, Kind), shown: OsString| {
            (self.number(parent.join(name)), file_type(kind), shown)
        };
        if !parent.as_os_str().is_empty() {
            let same = |(name, kind): (String, Kind)| {
                let shown = OsString::from(&name);
                entry((name, kind), shown)
            };
            return Ok(all.into_iter().map(same).collect());
        }
        let cpus = cpus()?;
        let shown = |(name, kind): (String, Kind)| {
            let shown = match cpu_number(OsStr::new(&name)) {
                Some(host) => format!("cpu{}", cpus.shown(host)?.number.0).into(),
                None => OsString::from(&name),
            };
            Some(entry((name, kind), shown))
        };
        Ok(all.into_iter().filter_map(shown).collect())
    }

    /// Reads a file as `cpus` allows.
    pub(super) fn text(&self, path: &Path, cpus: &CpuView) -> Result<Vec<u8>, ReadError> {
        let name = path.file_name().and_then(OsStr::to_str).unwrap_or_default();
        Ok(cpu_dir::render(name, self.machine.text(path)?, cpus))
    }

    /// Reads a link.
    pub(super) fn link(&self, path: &Path) -> Result<OsString, ReadError> {
        self.machine.link(path)
    }

    fn number(&self, path: PathBuf) -> INodeNo {
        let number = hash(path.as_os_str().as_bytes()) & (IN_SYSFS - 1) | IN_SYSFS;
        self.paths.entry(number).or_insert(path);
        INodeNo(number)
    }
}

fn file_type(kind: Kind) -> FileType {
    match kind {
        Kind::Directory => FileType::Directory,
        Kind::File => FileType::RegularFile,
        Kind::Link => FileType::Symlink,
    }
}

/// Returns the number of a directory `cpuN`.
fn cpu_number(name: &OsStr) -> Option<CpuId> {
    name.to_str()?.strip_prefix("cpu")?.parse().ok().map(CpuId)
}
