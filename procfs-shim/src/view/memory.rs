//! What memory a container sees: the smallest limit up the tree, and the use at that same level.

use crate::cgroup::MemoryStat;
use crate::cgroup::memory::MemoryLevel;
use crate::host::parse::HostMeminfo;

/// Whether something is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Show {
    /// It is.
    Shown,
    /// It is shown as zero.
    Hidden,
}

/// Rules of the memory view that are the operator's choice.
#[derive(Clone, Copy, Debug)]
pub struct MemoryRules {
    /// A limit to show although no cgroup enforces it, in bytes.
    pub declared: Option<u64>,
    /// Swap.
    pub swap: Show,
    /// Compressed swap.
    pub zswap: Show,
}

/// Memory of a container in bytes. `free <= available <= total`, `swap_free <= swap_total`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemoryView {
    /// All that it may use.
    pub total: u64,
    /// Unused.
    pub free: u64,
    /// Unused, or given back by the kernel under pressure.
    pub available: u64,
    /// What the used is used for.
    pub stat: MemoryStat,
    /// Swap that it may use.
    pub swap_total: u64,
    /// Swap unused.
    pub swap_free: u64,
}

impl MemoryView {
    /// Decides what to show from the levels of the tree: the container's own first, then each
    /// ancestor that has a limit. `None` where there is no level at all.
    pub fn of(levels: &[MemoryLevel], host: &HostMeminfo, rules: &MemoryRules) -> Option<Self> {
        let own = levels.first()?;
        let host_total = host.bytes("MemTotal");
        let mut bounds: Vec<Bound> =
            levels.iter().filter_map(|l| Some(Bound::new(l.limit?.min(host_total), l))).collect();
        bounds.extend(rules.declared.map(|limit| Bound::new(limit.min(host_total), own)));
        if bounds.is_empty() {
            // Nothing but the machine limits it, and all of its own use counts against that.
            bounds.push(Bound::new(host_total, own));
        }
        let least = |of: fn(&Bound) -> u64| bounds.iter().map(of).min().unwrap_or(0);
        let total = least(|b| b.limit);
        // What the machine as a whole can't give is not available to a container either.
        let available = least(|b| b.available).min(host.bytes("MemAvailable")).min(total);
        let (swap_total, swap_free) = swap(levels, host, rules.swap);
        let mut stat = own.stat;
        if rules.zswap == Show::Hidden {
            (stat.zswap, stat.zswapped) = (0, 0);
        }
        let free = least(|b| b.free).min(available);
        Some(MemoryView { total, free, available, stat, swap_total, swap_free })
    }

    /// Memory and swap in use that some process has asked for: the least that can be committed.
    pub fn committed(&self) -> u64 {
        let swapped = self.swap_total.saturating_sub(self.swap_free);
        self.stat.anon.saturating_add(self.stat.shmem).saturating_add(swapped)
    }
}

/// A limit, and what is left of it at its own level.
struct Bound {
    limit: u64,
    free: u64,
    available: u64,
}

impl Bound {
    fn new(limit: u64, level: &MemoryLevel) -> Bound {
        let free = limit.saturating_sub(level.usage);
        let available = free.saturating_add(level.stat.reclaimable()).min(limit);
        Bound { limit, free, available }
    }
}

/// Returns total and free swap.
fn swap(levels: &[MemoryLevel], host: &HostMeminfo, show: Show) -> (u64, u64) {
    if show == Show::Hidden {
        return (0, 0);
    }
    let host_total = host.bytes("SwapTotal");
    let own = levels.first().map_or(0, |l| l.swap.used);
    let limited = levels.iter().filter_map(|l| Some((l.swap.limit?.min(host_total), l.swap.used)));
    let (mut total, mut free) = (host_total, host_total.saturating_sub(own));
    for (limit, used) in limited {
        total = total.min(limit);
        free = free.min(limit.saturating_sub(used));
    }
    (total, free.min(total))
}
