//! /proc/vmstat: the machine's lines in the machine's order, the container's figures.

use crate::cgroup::io::IoTable;
use crate::view::memory::MemoryView;

/// Bytes a page, in the counters of `memory.stat` and here. Other sizes only scale both.
const PAGE: u64 = 4096;

/// Renders the file. What a cgroup doesn't count is zero: a figure of the machine would be of no use.
pub fn render(host: &str, view: &MemoryView, io: Option<&IoTable>) -> Vec<u8> {
    let mut text = String::with_capacity(host.len());
    for name in host.lines().filter_map(|line| line.split(' ').next()) {
        let value = figure(name, view, io).unwrap_or(0);
        text.push_str(&format!("{name} {value}\n"));
    }
    text.into_bytes()
}

fn figure(name: &str, view: &MemoryView, io: Option<&IoTable>) -> Option<u64> {
    let stat = &view.stat;
    let bytes = match name {
        "nr_free_pages" => view.free,
        "nr_inactive_anon" | "nr_zone_inactive_anon" => stat.inactive_anon,
        "nr_active_anon" | "nr_zone_active_anon" => stat.active_anon,
        "nr_inactive_file" | "nr_zone_inactive_file" => stat.inactive_file,
        "nr_active_file" | "nr_zone_active_file" => stat.active_file,
        "nr_unevictable" | "nr_zone_unevictable" => stat.unevictable,
        "nr_anon_pages" => stat.anon,
        "nr_mapped" => stat.mapped,
        "nr_file_pages" => stat.file,
        "nr_dirty" => stat.dirty,
        "nr_writeback" => stat.writeback,
        "nr_shmem" => stat.shmem,
        "nr_slab_reclaimable" => stat.slab_reclaimable,
        "nr_slab_unreclaimable" => stat.slab_unreclaimable,
        "nr_page_table_pages" => stat.pagetables,
        "nr_sec_page_table_pages" => stat.sec_pagetables,
        "nr_swapcached" => stat.swapcached,
        // These are in KiB.
        "nr_kernel_stack" => return Some(stat.kernel_stack / 1024),
        "pgpgin" => return io.map(|t| t.values().map(|c| c.read_bytes / 1024).sum()),
        "pgpgout" => return io.map(|t| t.values().map(|c| c.written_bytes / 1024).sum()),
        _ => return None,
    };
    Some(bytes / PAGE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cgroup::MemoryStat;
    use crate::cgroup::io::{Device, IoCounts};

    #[test]
    fn lines_are_the_machine_s_and_figures_the_container_s() {
        let host = "nr_free_pages 900\nnr_dirty 800\npgpgin 700\npgfault 600\n";
        let stat = MemoryStat { dirty: 8192, ..MemoryStat::default() };
        let view = MemoryView { free: 4096 * 5, stat, ..MemoryView::default() };
        let counts = IoCounts { read_bytes: 3072, ..IoCounts::default() };
        let io = IoTable::from([(Device { major: 8, minor: 0 }, counts)]);
        let text = String::from_utf8(render(host, &view, Some(&io))).unwrap();
        assert_eq!(text, "nr_free_pages 5\nnr_dirty 2\npgpgin 3\npgfault 0\n");
        let text = String::from_utf8(render(host, &view, None)).unwrap();
        assert!(text.contains("pgpgin 0\n"));
    }
}
