//! Figures together with how they come about: one expression gives both.

pub use crate::host::trace::Formula;

/// Formula of what no cgroup counts.
pub(super) const NOTHING: Formula = Formula::new("nothing", "0: not counted for a cgroup");

/// Where limits and use of memory are from.
pub(super) const LIMIT: &str =
    "memory.limit_in_bytes, memory.usage_in_bytes | memory.max, memory.current";

/// Where swap is from.
pub(super) const SWAP: &str = "memory.memsw.* | memory.swap.max, memory.swap.current";

/// Where processor time is from.
pub(super) const TIME: &str = "cpuacct.stat | cpu.stat";

/// Where threads are from.
pub(super) const THREADS: &str = "tasks | cgroup.threads, /proc/PID/task/TID/stat";

/// Where use of devices is from.
pub(super) const DEVICES: &str = "blkio.throttle.*, blkio.bfq.* | io.stat";

/// A figure of `memory.stat`, or a sum or difference of some, and its formula: what is evaluated is what
/// is told.
macro_rules! of_stat {
    ($stat:expr => $first:ident $(+ $more:ident)*) => {
        (
            0u64.saturating_add($stat.$first)$(.saturating_add($stat.$more))*,
            $crate::files::formula::Formula::new("memory.stat", stringify!($first $(+ $more)*)),
        )
    };
    ($stat:expr => $first:ident - $less:ident) => {
        (
            $stat.$first.saturating_sub($stat.$less),
            $crate::files::formula::Formula::new("memory.stat", stringify!($first - $less)),
        )
    };
}
pub(super) use of_stat;
