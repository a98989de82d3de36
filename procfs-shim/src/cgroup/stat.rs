//! What `memory.stat` tells: one list of figures with their keys in both versions.

use super::{Version, parse};
use crate::error::ParseError;

/// Makes [`MemoryStat`], and what finds its figures by their keys, from one list: the words of v2, and
/// those of v1 where it has them.
macro_rules! memory_stat {
    ($($field:ident $(= $v1:literal)?),* $(,)?) => {
        /// What `memory.stat` tells of a cgroup and its descendants, by the words of v2: bytes, and
        /// counts of events, which come last.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        #[allow(missing_docs)] // The names are the kernel's own, see cgroups(7) and cgroup-v2.rst.
        pub struct MemoryStat {
            $(pub $field: u64,)*
        }

        impl MemoryStat {
            /// Each figure: its name, and its key on v1.
            pub const KEYS: &[(&str, Option<&str>)] =
                &[$((stringify!($field), memory_stat!(@key $($v1)?)),)*];

            fn by_v2(&mut self, key: &str) -> Option<&mut u64> {
                match key {
                    $(stringify!($field) => Some(&mut self.$field),)*
                    _ => None,
                }
            }

            fn by_v1(&mut self, key: &str) -> Option<&mut u64> {
                match key {
                    $($($v1 => Some(&mut self.$field),)?)*
                    _ => None,
                }
            }
        }
    };
    (@key) => { None };
    (@key $v1:literal) => { Some($v1) };
}

// v1's `total_` keys count the descendants too, as the usage does.
memory_stat! {
    anon = "total_rss",
    file = "total_cache",
    kernel_stack,
    pagetables,
    sec_pagetables,
    percpu,
    vmalloc,
    shmem = "total_shmem",
    zswap,
    zswapped,
    file_mapped = "total_mapped_file",
    file_dirty = "total_dirty",
    file_writeback = "total_writeback",
    // v2 has a file for it.
    swap = "total_swap",
    swapcached = "total_swapcached",
    anon_thp = "total_rss_huge",
    file_thp,
    shmem_thp,
    inactive_anon = "total_inactive_anon",
    active_anon = "total_active_anon",
    inactive_file = "total_inactive_file",
    active_file = "total_active_file",
    unevictable = "total_unevictable",
    slab_reclaimable,
    // v1 has a file of this name for all of the kernel's memory.
    slab_unreclaimable = "memory.kmem.usage_in_bytes",
    // Events, which are counted one by one.
    pgfault = "total_pgfault",
    pgmajfault = "total_pgmajfault",
    workingset_refault_anon = "total_workingset_refault_anon",
    workingset_refault_file = "total_workingset_refault_file",
    workingset_activate_anon,
    workingset_activate_file,
    workingset_restore_anon,
    workingset_restore_file,
    workingset_nodereclaim,
    pgscan_kswapd,
    pgscan_direct,
    pgsteal_kswapd,
    pgsteal_direct,
    pgrefill,
    pgactivate,
    pgdeactivate,
    pglazyfree,
    pglazyfreed,
    pswpin,
    pswpout,
    zswpin,
    zswpout,
    zswpwb,
    thp_fault_alloc,
    thp_collapse_alloc,
    thp_swpout,
    thp_swpout_fallback,
}

impl MemoryStat {
    /// Parses `memory.stat`: each key exactly, as `file` is also the beginning of `file_mapped`.
    ///
    /// # Errors
    /// A value is no number.
    pub fn parse(text: &str, version: Version) -> Result<MemoryStat, ParseError> {
        let mut stat = MemoryStat::default();
        parse::each_pair(text, |key, value| {
            let figure = match version {
                Version::V1 => stat.by_v1(key),
                Version::V2 => stat.by_v2(key),
            };
            if let Some(figure) = figure {
                *figure = value;
            }
        })?;
        Ok(stat)
    }

    /// What the kernel would give back under pressure, by the rule of its own `MemAvailable`: page
    /// cache on the file lists (tmpfs is on the anonymous ones) and reclaimable slab. The kernel
    /// keeps back its low watermark of both, which a cgroup has not.
    pub fn reclaimable(&self) -> u64 {
        let lists = self.active_file.saturating_add(self.inactive_file);
        lists.saturating_add(self.slab_reclaimable)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_key_is_taken_exactly() {
        let text = "file 10\nfile_mapped 3\nfile_dirty 2\nanon 7\nanon_thp 5\n";
        let stat = MemoryStat::parse(text, Version::V2).unwrap();
        let expected = MemoryStat {
            file: 10,
            file_mapped: 3,
            file_dirty: 2,
            anon: 7,
            anon_thp: 5,
            ..MemoryStat::default()
        };
        assert_eq!(stat, expected);
        let v1 = |text| MemoryStat::parse(text, Version::V1);
        let stat = v1("total_rss 4\ntotal_rss_huge 2\nrss 99\n").unwrap();
        assert_eq!((stat.anon, stat.anon_thp), (4, 2));
        assert_eq!(v1("x 1\ny z\n").unwrap_err().line, 2);
    }
}
