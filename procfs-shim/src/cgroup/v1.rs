//! File names and units of cgroup v1.

use super::memory::{MemoryLevel, Swap, SwapLevel};
use super::{CpuTimes, Level, MemoryStat, NanoCpus, Version, parse};
use crate::error::ReadError;
use crate::host::held::HeldFile;

/// The files of a cgroup of the memory controller.
#[derive(Debug)]
pub(super) struct MemoryFiles {
    limit: HeldFile,
    usage: HeldFile,
    stat: HeldFile,
    /// Memory and swap together; absent where swap is not accounted.
    both_limit: Option<HeldFile>,
    both_usage: Option<HeldFile>,
    kernel: Option<HeldFile>,
}

impl MemoryFiles {
    pub(super) fn open(level: &Level) -> Result<Option<MemoryFiles>, ReadError> {
        let find = |name| level.find(name);
        let (Some(limit), Some(usage), Some(stat)) =
            (find("memory.limit_in_bytes")?, find("memory.usage_in_bytes")?, find("memory.stat")?)
        else {
            return Ok(None);
        };
        Ok(Some(MemoryFiles {
            limit,
            usage,
            stat,
            both_limit: find("memory.memsw.limit_in_bytes")?,
            both_usage: find("memory.memsw.usage_in_bytes")?,
            kernel: find("memory.kmem.usage_in_bytes")?,
        }))
    }

    fn limit(&self) -> Result<Option<u64>, ReadError> {
        limit(&self.limit)
    }

    /// Whether there is a limit of memory: that of both is never below it.
    pub(super) fn is_limited(&self) -> Result<bool, ReadError> {
        Ok(self.limit()?.is_some())
    }

    /// The limit of swap alone is what the limit of both leaves above that of memory.
    fn swap_limit(&self, memory: Option<u64>) -> Result<Option<u64>, ReadError> {
        let (Some(file), Some(memory)) = (&self.both_limit, memory) else { return Ok(None) };
        Ok(limit(file)?.map(|both| both.saturating_sub(memory)))
    }

    pub(super) fn read(&self, swap: Swap) -> Result<MemoryLevel, ReadError> {
        let text = self.stat.text()?;
        let mut stat = MemoryStat::parse(&text, Version::V1).map_err(ReadError::of(&self.stat))?;
        // v1 counts the kernel's memory as one sum, and doesn't tell what of it is reclaimable.
        if let Some(kernel) = &self.kernel {
            stat.slab_unreclaimable = number(kernel)?;
        }
        let usage = number(&self.usage)?;
        let limit = self.limit()?;
        if swap == Swap::Skipped {
            return Ok(MemoryLevel { limit, usage, stat, swap: SwapLevel::default() });
        }
        let used = match &self.both_usage {
            Some(both) if stat.swap == 0 => number(both)?.saturating_sub(usage),
            _ => stat.swap,
        };
        let swap = SwapLevel { limit: self.swap_limit(limit)?, used };
        Ok(MemoryLevel { limit, usage, stat, swap })
    }
}

/// The files of a cgroup of the cpu controller.
#[derive(Debug)]
pub(super) struct QuotaFiles {
    quota: HeldFile,
    period: HeldFile,
}

impl QuotaFiles {
    pub(super) fn open(level: &Level) -> Result<Option<QuotaFiles>, ReadError> {
        let quota = level.find("cpu.cfs_quota_us")?;
        let period = level.find("cpu.cfs_period_us")?;
        Ok(quota.zip(period).map(|(quota, period)| QuotaFiles { quota, period }))
    }

    pub(super) fn quota(&self) -> Result<Option<NanoCpus>, ReadError> {
        let quota = self.quota.text()?;
        if quota.starts_with('-') {
            return Ok(None);
        }
        parse::cfs(&quota, &self.period.text()?).map_err(ReadError::of(&self.quota))
    }
}

/// Name of the file that lists what the kernel has allocated for a cgroup, by kind.
pub(super) const SLAB_FILE: &str = "memory.kmem.slabinfo";

/// Name of the file that tells the processor time used.
pub(super) const TIME_FILE: &str = "cpuacct.stat";

/// Names of the files that count bytes and operations by device. throttle's see each request, since
/// Linux 6.10 only of devices that have a limit somewhere; BFQ's those of the devices that it schedules.
pub(super) const IO_FILES: [(&str, &str); 2] = [
    ("blkio.throttle.io_service_bytes_recursive", "blkio.throttle.io_serviced_recursive"),
    ("blkio.bfq.io_service_bytes_recursive", "blkio.bfq.io_serviced_recursive"),
];

/// Names of the files that tell the allowed processors, the better one first: what is in force is
/// not always what is configured.
pub(super) const CPUSET_FILES: [&str; 2] = ["cpuset.effective_cpus", "cpuset.cpus"];

pub(super) fn times(text: &str) -> Result<CpuTimes, crate::error::ParseError> {
    parse::cpuacct_stat(text)
}

fn number(file: &HeldFile) -> Result<u64, ReadError> {
    parse::number(&file.text()?).map_err(ReadError::of(file))
}

fn limit(file: &HeldFile) -> Result<Option<u64>, ReadError> {
    parse::limit(&file.text()?).map_err(ReadError::of(file))
}
