//! File names and units of cgroup v2.

use super::memory::{MemoryLevel, Swap, SwapLevel};
use super::{CpuTimes, Level, MemoryStat, NanoCpus, Version, parse};
use crate::error::ReadError;
use crate::host::held::HeldFile;

/// The files of a cgroup of the memory controller. The hierarchy's root has none of them.
#[derive(Debug)]
pub(super) struct MemoryFiles {
    limit: HeldFile,
    usage: HeldFile,
    stat: HeldFile,
    swap_limit: Option<HeldFile>,
    swap_usage: Option<HeldFile>,
}

impl MemoryFiles {
    pub(super) fn open(level: &Level) -> Result<Option<MemoryFiles>, ReadError> {
        let find = |name| level.find(name);
        let (Some(limit), Some(usage), Some(stat)) =
            (find("memory.max")?, find("memory.current")?, find("memory.stat")?)
        else {
            return Ok(None);
        };
        let swap_limit = find("memory.swap.max")?;
        let swap_usage = find("memory.swap.current")?;
        Ok(Some(MemoryFiles { limit, usage, stat, swap_limit, swap_usage }))
    }

    fn limit(&self) -> Result<Option<u64>, ReadError> {
        limit(&self.limit)
    }

    /// Whether there is a limit of memory or of swap.
    pub(super) fn is_limited(&self) -> Result<bool, ReadError> {
        Ok(self.limit()?.is_some() || self.swap_limit()?.is_some())
    }

    fn swap_limit(&self) -> Result<Option<u64>, ReadError> {
        self.swap_limit.as_ref().map_or(Ok(None), limit)
    }

    pub(super) fn read(&self, swap: Swap) -> Result<MemoryLevel, ReadError> {
        let text = self.stat.text()?;
        let stat = MemoryStat::parse(&text, Version::V2).map_err(ReadError::of(&self.stat))?;
        let swap = match swap {
            Swap::Skipped => SwapLevel::default(),
            Swap::Read => {
                let used = self.swap_usage.as_ref().map_or(Ok(0), number)?;
                SwapLevel { limit: self.swap_limit()?, used }
            }
        };
        Ok(MemoryLevel { limit: self.limit()?, usage: number(&self.usage)?, stat, swap })
    }
}

/// The file of a cgroup of the cpu controller.
#[derive(Debug)]
pub(super) struct QuotaFiles {
    max: HeldFile,
}

impl QuotaFiles {
    pub(super) fn open(level: &Level) -> Result<Option<QuotaFiles>, ReadError> {
        Ok(level.find("cpu.max")?.map(|max| QuotaFiles { max }))
    }

    pub(super) fn quota(&self) -> Result<Option<NanoCpus>, ReadError> {
        parse::cpu_max(&self.max.text()?).map_err(ReadError::of(&self.max))
    }
}

/// Name of the file that tells the processor time used; each cgroup has it.
pub(super) const TIME_FILE: &str = "cpu.stat";

/// Name of the file that counts the use of devices.
pub(super) const IO_FILE: &str = "io.stat";

/// Name of the file that tells the allowed processors.
pub(super) const CPUSET_FILES: [&str; 1] = ["cpuset.cpus.effective"];

pub(super) fn times(text: &str) -> Result<CpuTimes, crate::error::ParseError> {
    parse::cpu_stat(text)
}

fn number(file: &HeldFile) -> Result<u64, ReadError> {
    parse::number(&file.text()?).map_err(ReadError::of(file))
}

fn limit(file: &HeldFile) -> Result<Option<u64>, ReadError> {
    parse::limit(&file.text()?).map_err(ReadError::of(file))
}
