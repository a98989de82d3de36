//! Limits and use of memory, level by level up the tree.

use super::{Level, MemoryStat, Version, v1, v2};
use crate::error::ReadError;
use crate::host::held::HeldFile;

/// Swap of one level, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SwapLevel {
    /// Limit of swap alone, if there is one.
    pub limit: Option<u64>,
    /// In use.
    pub used: u64,
}

/// Memory of one level, its descendants included, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemoryLevel {
    /// Limit, if there is one.
    pub limit: Option<u64>,
    /// In use.
    pub usage: u64,
    /// What it is used for.
    pub stat: MemoryStat,
    /// Swap.
    pub swap: SwapLevel,
}

/// Whether swap is asked for, too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Swap {
    /// It is.
    Read,
    /// The machine has none, or it isn't shown: its files need not be read.
    Skipped,
}

#[derive(Debug)]
enum Files {
    V1(v1::MemoryFiles),
    V2(v2::MemoryFiles),
}

/// A cgroup and its ancestors, as far as they account memory, their files held open.
#[derive(Debug)]
pub struct MemoryGroup {
    leaf: Files,
    above: Vec<Files>,
    is_root: bool,
    /// What is allocated of each kind (v1).
    slabs: Option<HeldFile>,
}

impl Files {
    fn open(level: &Level) -> Result<Option<Files>, ReadError> {
        Ok(match level.version() {
            Version::V1 => v1::MemoryFiles::open(level)?.map(Files::V1),
            Version::V2 => v2::MemoryFiles::open(level)?.map(Files::V2),
        })
    }

    fn is_limited(&self) -> Result<bool, ReadError> {
        match self {
            Files::V1(f) => f.is_limited(),
            Files::V2(f) => f.is_limited(),
        }
    }

    fn read(&self, swap: Swap) -> Result<MemoryLevel, ReadError> {
        match self {
            Files::V1(f) => f.read(swap),
            Files::V2(f) => f.read(swap),
        }
    }
}

impl MemoryGroup {
    /// Opens the files of `levels` (a cgroup, then its ancestors). Where the controller is not
    /// enabled for the cgroup, its nearest ancestor with it stands for it. `None` if none has it.
    ///
    /// # Errors
    /// A cgroup is gone, or a file can't be opened.
    pub fn open(levels: &[Level]) -> Result<Option<MemoryGroup>, ReadError> {
        let mut all = Vec::new();
        let mut leaf_is_root = false;
        for level in levels {
            if !all.is_empty() && level.is_top()? {
                continue;
            }
            if let Some(files) = Files::open(level)? {
                leaf_is_root |= all.is_empty() && level.is_root();
                all.push(files);
            }
        }
        if all.is_empty() {
            return Ok(None);
        }
        let leaf = all.remove(0);
        let slabs = match levels.first() {
            Some(level) if level.version() == Version::V1 => level.find(v1::SLAB_FILE)?,
            _ => None,
        };
        Ok(Some(MemoryGroup { leaf, above: all, is_root: leaf_is_root, slabs }))
    }

    /// Reads the caches of the cgroup; an empty text where the kernel doesn't count them.
    ///
    /// # Errors
    /// `ENODEV`: the cgroup is gone.
    pub fn slabs(&self) -> Result<String, ReadError> {
        self.slabs.as_ref().map_or(Ok(String::new()), HeldFile::records)
    }

    /// Reads the cgroup's own level, and those of its ancestors that have a limit.
    ///
    /// # Errors
    /// `ENODEV`: the cgroup is gone.
    pub fn read(&self, swap: Swap) -> Result<Vec<MemoryLevel>, ReadError> {
        let mut levels = vec![self.leaf.read(swap)?];
        for files in &self.above {
            if files.is_limited()? {
                levels.push(files.read(swap)?);
            }
        }
        Ok(levels)
    }

    /// Whether this is the root of what is mounted, and without a limit: the machine as a whole.
    ///
    /// # Errors
    /// The limit can't be read.
    pub fn is_whole_machine(&self) -> Result<bool, ReadError> {
        Ok(self.is_root && !self.leaf.is_limited()?)
    }
}
