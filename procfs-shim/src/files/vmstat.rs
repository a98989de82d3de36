//! /proc/vmstat: the machine's lines in the machine's order, the container's figures.

use super::formula::{DEVICES, Formula, LIMIT, NOTHING, of_stat};
use crate::cgroup::MemoryStat;
use crate::cgroup::io::{IoCounts, IoTable};
use crate::host::trace;
use crate::view::memory::MemoryView;

/// Bytes a page, in the counters of `memory.stat` and here. Other sizes only scale both.
const PAGE: u64 = 4096;

/// Renders the file. What a cgroup doesn't count is zero: a figure of the machine would be of no use.
pub fn render(host: &str, view: &MemoryView, io: Option<&IoTable>) -> Vec<u8> {
    let mut text = String::with_capacity(host.len());
    for name in host.lines().filter_map(|line| line.split(' ').next()) {
        let (value, formula) = figure(name, view, io).unwrap_or((0, NOTHING));
        trace::figure(name, formula);
        text.push_str(&format!("{name} {value}\n"));
    }
    text.into_bytes()
}

fn figure(name: &str, view: &MemoryView, io: Option<&IoTable>) -> Option<(u64, Formula)> {
    let stat = &view.stat;
    let kib = |of: fn(&IoCounts) -> u64, words| {
        let sum = io?.values().map(|c| of(c) / 1024).sum();
        Some((sum, Formula::new(DEVICES, words)))
    };
    let (bytes, formula) = match name {
        "nr_free_pages" => (view.free, Formula::new(LIMIT, "as MemFree of meminfo, in pages")),
        "nr_inactive_anon" | "nr_zone_inactive_anon" => of_stat!(stat => inactive_anon),
        "nr_active_anon" | "nr_zone_active_anon" => of_stat!(stat => active_anon),
        "nr_inactive_file" | "nr_zone_inactive_file" => of_stat!(stat => inactive_file),
        "nr_active_file" | "nr_zone_active_file" => of_stat!(stat => active_file),
        "nr_unevictable" | "nr_zone_unevictable" => of_stat!(stat => unevictable),
        "nr_anon_pages" => of_stat!(stat => anon),
        "nr_mapped" => of_stat!(stat => file_mapped),
        "nr_file_pages" => of_stat!(stat => file),
        "nr_dirty" => of_stat!(stat => file_dirty),
        "nr_writeback" => of_stat!(stat => file_writeback),
        "nr_shmem" => of_stat!(stat => shmem),
        "nr_slab_reclaimable" => of_stat!(stat => slab_reclaimable),
        "nr_slab_unreclaimable" => of_stat!(stat => slab_unreclaimable),
        "nr_page_table_pages" => of_stat!(stat => pagetables),
        "nr_sec_page_table_pages" => of_stat!(stat => sec_pagetables),
        "nr_swapcached" => of_stat!(stat => swapcached),
        // These are in KiB.
        "nr_kernel_stack" => {
            let (bytes, formula) = of_stat!(stat => kernel_stack);
            return Some((bytes / 1024, formula));
        }
        "pgpgin" => return kib(|c| c.read_bytes, "KiB read, of all devices"),
        "pgpgout" => return kib(|c| c.written_bytes, "KiB written, of all devices"),
        _ => return event(name, stat),
    };
    Some((bytes / PAGE, formula))
}

/// Returns what is counted one by one, by the same word in both files.
fn event(name: &str, stat: &MemoryStat) -> Option<(u64, Formula)> {
    macro_rules! one_of {
        ($($event:ident)*) => {
            match name {
                $(stringify!($event) => Some(of_stat!(stat => $event)),)*
                _ => None,
            }
        };
    }
    one_of! {
        pgfault pgmajfault pgscan_kswapd pgscan_direct pgsteal_kswapd pgsteal_direct pgrefill
        pgactivate pgdeactivate pglazyfree pglazyfreed pswpin pswpout zswpin zswpout zswpwb
        thp_fault_alloc thp_collapse_alloc thp_swpout thp_swpout_fallback
        workingset_refault_anon workingset_refault_file workingset_activate_anon
        workingset_activate_file workingset_restore_anon workingset_restore_file
        workingset_nodereclaim
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cgroup::io::Device;

    #[test]
    fn lines_are_the_machine_s_and_figures_the_container_s() {
        let host = "nr_free_pages 900\nnr_dirty 800\npgpgin 700\npgfault 600\n";
        let stat = MemoryStat { file_dirty: 8192, pgfault: 6, ..MemoryStat::default() };
        let view = MemoryView { free: 4096 * 5, stat, ..MemoryView::default() };
        let counts = IoCounts { read_bytes: 3072, ..IoCounts::default() };
        let io = IoTable::from([(Device { major: 8, minor: 0 }, counts)]);
        let text = String::from_utf8(render(host, &view, Some(&io))).unwrap();
        assert_eq!(text, "nr_free_pages 5\nnr_dirty 2\npgpgin 3\npgfault 6\n");
        let text = String::from_utf8(render(host, &view, None)).unwrap();
        assert!(text.contains("pgpgin 0\n"));
    }
}
