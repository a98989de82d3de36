//! Which processors a container sees, and what share of their time is its own.

use crate::cgroup::{NanoCpus, ONE_CPU};
use crate::host::cpulist::{CpuId, CpuList};

/// Whether the processor quota lowers the number of processors shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quota {
    /// It does, rounded up.
    Counted,
    /// Only the cpuset counts.
    Ignored,
}

/// How the processors shown are numbered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Numbering {
    /// As the kernel does, so that the numbers are those of `sched_setaffinity(2)` and
    /// `Cpus_allowed_list`.
    Kernel,
    /// From 0 without gaps.
    FromZero,
}

/// Rules of the processor view that are the operator's choice.
#[derive(Clone, Copy, Debug)]
pub struct CpuRules {
    /// A share to show although no cgroup enforces it.
    pub declared: Option<NanoCpus>,
    /// Whether a quota counts.
    pub quota: Quota,
    /// Numbers.
    pub numbering: Numbering,
}

/// A processor as it is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShownCpu {
    /// Number shown.
    pub number: CpuId,
    /// Number of the machine's processor that stands behind it.
    pub host: CpuId,
}

/// The processors of a container; the same in each file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CpuView {
    /// At least one, ascending.
    pub cpus: Vec<ShownCpu>,
    /// What it may use of them all together; at most one whole processor each.
    pub capacity: NanoCpus,
}

impl CpuView {
    /// Decides from the allowed processors (not empty) and the smallest quota up the tree.
    pub fn of(allowed: &CpuList, quota: Option<NanoCpus>, rules: &CpuRules) -> CpuView {
        let whole = NanoCpus(ONE_CPU.0.saturating_mul(allowed.len().max(1) as u64));
        let quota = quota.filter(|_| rules.quota == Quota::Counted);
        let capacity = [quota, rules.declared].into_iter().flatten().fold(whole, NanoCpus::min);
        let count = capacity.0.div_ceil(ONE_CPU.0).max(1) as usize;
        let shown = |(index, host): (usize, CpuId)| {
            let number = match rules.numbering {
                Numbering::Kernel => host,
                Numbering::FromZero => CpuId(index as u32),
            };
            ShownCpu { number, host }
        };
        let mut cpus: Vec<ShownCpu> = allowed.iter().take(count).enumerate().map(shown).collect();
        if cpus.is_empty() {
            cpus.push(ShownCpu { number: CpuId(0), host: CpuId(0) });
        }
        CpuView { cpus, capacity }
    }

    /// The numbers shown.
    pub fn numbers(&self) -> CpuList {
        self.cpus.iter().map(|c| c.number).collect()
    }

    /// Returns how a processor of the machine is shown, if it is.
    pub fn shown(&self, host: CpuId) -> Option<ShownCpu> {
        self.cpus.iter().find(|c| c.host == host).copied()
    }
}
