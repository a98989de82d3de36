//! /proc/meminfo: the machine's lines in the machine's order, the container's figures.

use super::formula::{Formula, LIMIT, NOTHING, SWAP, of_stat};
use crate::host::parse::{HostMeminfo, MemLine, Unit};
use crate::host::trace;
use crate::view::memory::MemoryView;

/// Formula of a line whose meaning is not known here.
const MACHINE: Formula = Formula::new("/proc/meminfo", "the machine's, at most MemTotal");

/// Renders the file. A line whose meaning is not known here keeps the machine's figure as far as
/// that is not more than the container has.
pub fn render(host: &HostMeminfo, view: &MemoryView) -> Vec<u8> {
    let total = view.total / 1024;
    let huge_page = host.bytes("Hugepagesize").max(1);
    let mut unmapped = total;
    let mut text = String::with_capacity(1600);
    for line in &host.lines {
        let own = figure(&line.name, host, view);
        trace::figure(&line.name, own.map_or(MACHINE, |(_, formula)| formula));
        let value = match (own, line.unit) {
            (Some((bytes, _)), _) => bytes / 1024,
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

/// Returns the container's figure of a line in bytes and how it comes about, if it has one of its own.
fn figure(name: &str, host: &HostMeminfo, view: &MemoryView) -> Option<(u64, Formula)> {
    let stat = &view.stat;
    let of = |bytes, source, words| (bytes, Formula::new(source, words));
    // Not counted by cgroup, but each is a part of another figure.
    let part = |whole: u64, words| of(whole.min(host.bytes(name)), "memory.stat", words);
    let (bytes, formula) = match name {
        "MemTotal" => {
            of(view.total, LIMIT, "min over the cgroup, its ancestors and the machine of limit")
        }
        "MemFree" => of(view.free, LIMIT, "min over the same levels of (limit - usage)"),
        "MemAvailable" => of(
            view.available,
            LIMIT,
            "min over the same levels of (limit - usage + file lists + reclaimable slab), and of the machine's",
        ),
        "SwapTotal" => of(
            view.swap_total,
            SWAP,
            "min over the levels of the limit of swap, and of the machine's",
        ),
        "SwapFree" => of(view.swap_free, SWAP, "min over the levels of (limit - used)"),
        // The kernel counts neither for a cgroup: block device caches and what it has on its way.
        "Buffers" | "NFS_Unstable" | "Bounce" | "WritebackTmp" | "Balloon" => (0, NOTHING),
        // The swap cache is in the sum of file pages, and has a line of its own.
        "Cached" => of_stat!(stat => file - swapcached),
        "SwapCached" => of_stat!(stat => swapcached),
        "Active" => of_stat!(stat => active_anon + active_file),
        "Inactive" => of_stat!(stat => inactive_anon + inactive_file),
        "Active(anon)" => of_stat!(stat => active_anon),
        "Inactive(anon)" => of_stat!(stat => inactive_anon),
        "Active(file)" => of_stat!(stat => active_file),
        "Inactive(file)" => of_stat!(stat => inactive_file),
        "Unevictable" => of_stat!(stat => unevictable),
        "Mlocked" => part(stat.unevictable, "min(unevictable, the machine's)"),
        "Zswap" => of_stat!(stat => zswap),
        "Zswapped" => of_stat!(stat => zswapped),
        "Dirty" => of_stat!(stat => file_dirty),
        "Writeback" => of_stat!(stat => file_writeback),
        "AnonPages" => of_stat!(stat => anon),
        "Mapped" => of_stat!(stat => file_mapped),
        "Shmem" => of_stat!(stat => shmem),
        "KReclaimable" | "SReclaimable" => of_stat!(stat => slab_reclaimable),
        "Slab" => of_stat!(stat => slab_reclaimable + slab_unreclaimable),
        "SUnreclaim" => of_stat!(stat => slab_unreclaimable),
        "KernelStack" => of_stat!(stat => kernel_stack),
        "PageTables" => of_stat!(stat => pagetables),
        "SecPageTables" => of_stat!(stat => sec_pagetables),
        "CommitLimit" => {
            let words =
                "the part that the machine's overcommit ratio allows of MemTotal, + SwapTotal";
            return Some(of(commit_limit(host, view), "/proc/meminfo", words));
        }
        "Committed_AS" => {
            let words = "anon + shmem + swap in use: the least that can be committed";
            return Some(of(view.committed(), "memory.stat", words));
        }
        "VmallocUsed" => of_stat!(stat => vmalloc),
        "Percpu" => of_stat!(stat => percpu),
        "AnonHugePages" => of_stat!(stat => anon_thp),
        "ShmemHugePages" => of_stat!(stat => shmem_thp),
        "FileHugePages" => of_stat!(stat => file_thp),
        "ShmemPmdMapped" => part(stat.shmem_thp, "min(shmem_thp, the machine's)"),
        "FilePmdMapped" => part(stat.file_thp, "min(file_thp, the machine's)"),
        _ => return None,
    };
    let bytes = match name {
        "SwapTotal" | "SwapFree" | "Zswapped" => bytes,
        _ => bytes.min(view.total),
    };
    Some((bytes, formula))
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
