//! Quota, time used and allowed processors.

use super::{CpuTimes, Level, NanoCpus, Version, v1, v2};
use crate::error::ReadError;
use crate::host::cpulist::CpuList;
use crate::host::held::HeldFile;

#[derive(Debug)]
enum Files {
    V1(v1::QuotaFiles),
    V2(v2::QuotaFiles),
}

/// The quotas of a cgroup and its ancestors.
#[derive(Debug)]
pub struct QuotaGroup {
    levels: Vec<Files>,
}

impl QuotaGroup {
    /// Opens the files of `levels`; the root has no quota.
    ///
    /// # Errors
    /// A cgroup is gone, or a file can't be opened.
    pub fn open(levels: &[Level]) -> Result<QuotaGroup, ReadError> {
        let open = |level: &Level| -> Result<Option<Files>, ReadError> {
            if level.is_top()? {
                return Ok(None);
            }
            Ok(match level.version() {
                Version::V1 => v1::QuotaFiles::open(level)?.map(Files::V1),
                Version::V2 => v2::QuotaFiles::open(level)?.map(Files::V2),
            })
        };
        let levels = levels.iter().filter_map(|l| open(l).transpose());
        Ok(QuotaGroup { levels: levels.collect::<Result<_, _>>()? })
    }

    /// Returns the smallest quota up the tree.
    ///
    /// # Errors
    /// `ENODEV`: the cgroup is gone.
    pub fn smallest(&self) -> Result<Option<NanoCpus>, ReadError> {
        let mut smallest: Option<NanoCpus> = None;
        for files in &self.levels {
            let quota = match files {
                Files::V1(f) => f.quota()?,
                Files::V2(f) => f.quota()?,
            };
            smallest = match (smallest, quota) {
                (Some(a), Some(b)) => Some(a.min(b)),
                (a, b) => a.or(b),
            };
        }
        Ok(smallest)
    }
}

/// Where the processor time of a cgroup and its descendants is counted.
#[derive(Debug)]
pub struct TimeGroup {
    file: HeldFile,
    version: Version,
}

impl TimeGroup {
    /// Opens the counter of a cgroup; `None` where it has none.
    ///
    /// # Errors
    /// The cgroup is gone, or the file can't be opened.
    pub fn open(leaf: &Level) -> Result<Option<TimeGroup>, ReadError> {
        let version = leaf.version();
        let name = match version {
            Version::V1 => v1::TIME_FILE,
            Version::V2 => v2::TIME_FILE,
        };
        Ok(leaf.find(name)?.map(|file| TimeGroup { file, version }))
    }

    /// Reads the time used since the cgroup was made.
    ///
    /// # Errors
    /// `ENODEV`: the cgroup is gone.
    pub fn used(&self) -> Result<CpuTimes, ReadError> {
        let text = self.file.text()?;
        let times = match self.version {
            Version::V1 => v1::times(&text),
            Version::V2 => v2::times(&text),
        };
        times.map_err(ReadError::of(&self.file))
    }
}

/// The processors that a cgroup may use.
#[derive(Debug)]
pub struct CpusetGroup {
    file: HeldFile,
}

impl CpusetGroup {
    /// Opens the list of the nearest level that has one; `None` where none has.
    ///
    /// # Errors
    /// A cgroup is gone, or a file can't be opened.
    pub fn open(levels: &[Level]) -> Result<Option<CpusetGroup>, ReadError> {
        for level in levels {
            let names: &[&str] = match level.version() {
                Version::V1 => &v1::CPUSET_FILES,
                Version::V2 => &v2::CPUSET_FILES,
            };
            for name in names {
                if let Some(file) = level.find(name)? {
                    return Ok(Some(CpusetGroup { file }));
                }
            }
        }
        Ok(None)
    }

    /// Reads the list.
    ///
    /// # Errors
    /// `ENODEV`: the cgroup is gone.
    pub fn cpus(&self) -> Result<CpuList, ReadError> {
        CpuList::parse(&self.file.text()?).map_err(ReadError::of(&self.file))
    }
}
