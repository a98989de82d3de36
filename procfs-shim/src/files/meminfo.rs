//! /proc/meminfo: the machine's lines in the machine's order, the container's figures.

use crate::host::parse::{HostMeminfo, MemLine, Unit};
use crate::view::memory::MemoryView;

/// Renders the file. A line whose meaning is not known here keeps the machine's figure as far as
/// that is not more than the container has.
pub fn render(host: &HostMeminfo, view: &MemoryView) -> Vec<u8> {
    let total = view.total / 1024;
    let huge_page = host.bytes("Hugepagesize").max(1);
    let mut unmapped = total;
    let mut text = String::with_capacity(1600);
    for line in &host.lines {
        let value = match (figure(&line.name, host, view), line.unit) {
            (Some(bytes), _) => bytes / 1024,
            (None, Unit::Count) => line.value.min(view.total / huge_page),
            (None, Unit::Kib) if line.name == "Hugepagesize" => line.value,
            (None, Unit::Kib) if line.name.starts_with("DirectMap") => {
                // The lines add up to the memory there is.
                let mapped = line.value.min(unmapped);
                unmapped -= mapped;
                mapped
            }
            (None, Unit::Kib) => line.value.min(total),
        };
        push(&mut text, line, value);
    }
    text.into_bytes()
}

/// Returns the container's figure of a line in bytes, if it has one of its own.
fn figure(name: &str, host: &HostMeminfo, view: &MemoryView) -> Option<u64> {
    let stat = &view.stat;
    let bytes = match name {
        "MemTotal" => view.total,
        "MemFree" => view.free,
        "MemAvailable" => view.available,
        "SwapTotal" => view.swap_total,
        "SwapFree" => view.swap_free,
        // The kernel counts neither for a cgroup: block device caches and what it has on its way.
        "Buffers" | "NFS_Unstable" | "Bounce" | "WritebackTmp" | "Balloon" => 0,
        // The swap cache is in the sum of file pages, and has a line of its own.
        "Cached" => stat.file.saturating_sub(stat.swapcached),
        "SwapCached" => stat.swapcached,
        "Active" => stat.active_anon.saturating_add(stat.active_file),
        "Inactive" => stat.inactive_anon.saturating_add(stat.inactive_file),
        "Active(anon)" => stat.active_anon,
        "Inactive(anon)" => stat.inactive_anon,
        "Active(file)" => stat.active_file,
        "Inactive(file)" => stat.inactive_file,
        "Unevictable" => stat.unevictable,
        // Locked pages are not counted by cgroup; each of them is unevictable.
        "Mlocked" => stat.unevictable.min(host.bytes("Mlocked")),
        "Zswap" => stat.zswap,
        "Zswapped" => stat.zswapped,
        "Dirty" => stat.dirty,
        "Writeback" => stat.writeback,
        "AnonPages" => stat.anon,
        "Mapped" => stat.mapped,
        "Shmem" => stat.shmem,
        "KReclaimable" | "SReclaimable" => stat.slab_reclaimable,
        "Slab" => stat.slab_reclaimable.saturating_add(stat.slab_unreclaimable),
        "SUnreclaim" => stat.slab_unreclaimable,
        "KernelStack" => stat.kernel_stack,
        "PageTables" => stat.pagetables,
        "SecPageTables" => stat.sec_pagetables,
        "CommitLimit" => return Some(commit_limit(host, view)),
        "Committed_AS" => return Some(view.committed()),
        "VmallocUsed" => stat.vmalloc,
        "Percpu" => stat.percpu,
        "AnonHugePages" => stat.anon_huge,
        "ShmemHugePages" => stat.shmem_huge,
        "FileHugePages" => stat.file_huge,
        // Not counted by cgroup; a part of the line before.
        "ShmemPmdMapped" => stat.shmem_huge.min(host.bytes(name)),
        "FilePmdMapped" => stat.file_huge.min(host.bytes(name)),
        _ => return None,
    };
    Some(match name {
        "SwapTotal" | "SwapFree" | "Zswapped" => bytes,
        _ => bytes.min(view.total),
    })
}

/// Returns the part of the container's memory and swap that the machine's overcommit ratio allows.
fn commit_limit(host: &HostMeminfo, view: &MemoryView) -> u64 {
    let allowed = host.bytes("CommitLimit").saturating_sub(host.bytes("SwapTotal"));
    let whole = u128::from(host.bytes("MemTotal").max(1));
    let ours = u128::from(allowed) * u128::from(view.total) / whole;
    u64::try_from(ours).unwrap_or(u64::MAX).min(view.total).saturating_add(view.swap_total)
}

/// Writes a line in the kernel's columns: names to 16, values to 8. By hand, as `format!` shows up in
/// profiles where a file has 55 lines.
fn push(text: &mut String, line: &MemLine, value: u64) {
    const BLANKS: &str = "                ";
    let pad = |used: usize, width: usize| BLANKS.get(used.min(width)..width).unwrap_or_default();
    let digits = value.to_string();
    text.push_str(&line.name);
    text.push(':');
    text.push_str(pad(line.name.len() + 1, 16));
    text.push_str(pad(digits.len(), 8));
    text.push_str(&digits);
    text.push_str(if line.unit == Unit::Kib { " kB\n" } else { "\n" });
}
