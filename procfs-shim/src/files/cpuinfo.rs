//! /proc/cpuinfo: the processors that the view allows, and counts that agree with them.

use std::collections::BTreeSet;

use super::formula::Formula;
use crate::host::cpulist::CpuId;
use crate::host::trace;
use crate::view::cpu::{CpuView, ShownCpu};

/// Renders the file from the machine's. Blocks that are of no processor (`Hardware`, `Serial` on
/// ARM) are kept.
pub fn render(host: &str, view: &CpuView) -> Vec<u8> {
    let words = "blocks of the processors of `online`; counts of siblings and cores made to agree";
    trace::figure("", Formula::new("/proc/cpuinfo", words));
    if host.starts_with("vendor_id") {
        return render_s390(host, view);
    }
    let blocks: Vec<&str> = host.split_inclusive("\n\n").collect();
    let shown: Vec<(Option<ShownCpu>, &str)> =
        blocks.into_iter().filter_map(|b| keep(b, view)).collect();
    let mut out = String::with_capacity(host.len());
    for (cpu, block) in &shown {
        match cpu {
            Some(cpu) => push_block(&mut out, *cpu, block, &shown),
            None => out.push_str(block),
        }
    }
    out.into_bytes()
}

/// Returns the processor of a block and the block, unless the view hides it.
fn keep<'a>(block: &'a str, view: &CpuView) -> Option<(Option<ShownCpu>, &'a str)> {
    match number_of(block) {
        None => Some((None, block)),
        Some(cpu) => view.shown(cpu).map(|shown| (Some(shown), block)),
    }
}

fn push_block(out: &mut String, cpu: ShownCpu, block: &str, all: &[(Option<ShownCpu>, &str)]) {
    let package = value(block, "physical id");
    let same =
        |b: &&(Option<ShownCpu>, &str)| b.0.is_some() && value(b.1, "physical id") == package;
    for line in block.split_inclusive('\n') {
        let Some((head, _)) = line.split_once(':') else {
            out.push_str(line);
            continue;
        };
        let figure = match head.trim() {
            "processor" => Some(cpu.number.0 as usize),
            "siblings" => Some(all.iter().filter(same).count()),
            "cpu cores" => {
                let cores = all.iter().filter(same).map(|b| value(b.1, "core id"));
                Some(cores.collect::<BTreeSet<_>>().len())
            }
            _ => None,
        };
        match figure {
            Some(n) => out.push_str(&format!("{head}: {n}\n")),
            None => out.push_str(line),
        }
    }
}

fn number_of(block: &str) -> Option<CpuId> {
    value(block, "processor")?.parse().ok().map(CpuId)
}

fn value<'a>(block: &'a str, key: &str) -> Option<&'a str> {
    let pairs = block.lines().filter_map(|l| l.split_once(':'));
    pairs.filter(|(name, _)| name.trim() == key).map(|(_, v)| v.trim()).next()
}

/// s390 has one head, then a line a processor (`processor 0: version = ...`), then a block each
/// (`cpu number      : 0`).
fn render_s390(host: &str, view: &CpuView) -> Vec<u8> {
    let mut out = String::with_capacity(host.len());
    for block in host.split_inclusive("\n\n") {
        let cpu = value(block, "cpu number").and_then(|n| n.parse().ok()).map(CpuId);
        if cpu.is_some_and(|c| view.shown(c).is_none()) {
            continue;
        }
        for line in block.split_inclusive('\n') {
            push_s390_line(&mut out, line, view);
        }
    }
    out.into_bytes()
}

fn push_s390_line(out: &mut String, line: &str, view: &CpuView) {
    let Some((head, rest)) = line.split_once(':') else {
        out.push_str(line);
        return;
    };
    let number = |text: &str| text.trim().parse().ok().map(CpuId);
    let of_cpu = head.strip_prefix("processor ").and_then(number);
    match head.trim_end() {
        "# processors" => out.push_str(&format!("{head}: {}\n", view.cpus.len())),
        "cpu number" => {
            let shown = number(rest).and_then(|c| view.shown(c));
            out.push_str(&shown.map_or_else(String::new, |s| format!("{head}: {}\n", s.number.0)));
        }
        _ => match of_cpu.map(|c| view.shown(c)) {
            Some(Some(cpu)) => out.push_str(&format!("processor {}:{rest}", cpu.number.0)),
            Some(None) => {}
            None => out.push_str(line),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cgroup::ONE_CPU;

    fn view(cpus: &[(u32, u32)]) -> CpuView {
        let shown = |&(number, host)| ShownCpu { number: CpuId(number), host: CpuId(host) };
        CpuView { cpus: cpus.iter().map(shown).collect(), capacity: ONE_CPU }
    }

    #[test]
    fn counts_agree_with_the_blocks_shown() {
        let block = |n: u32| {
            format!(
                "processor\t: {n}\nphysical id\t: 0\nsiblings\t: 4\ncore id\t\t: {}\ncpu cores\t: 2\n\n",
                n / 2
            )
        };
        let host: String = (0..4).map(block).collect();
        let text = String::from_utf8(render(&host, &view(&[(1, 1), (2, 2), (3, 3)]))).unwrap();
        assert_eq!(text.matches("processor\t: ").count(), 3);
        assert_eq!(text.matches("siblings\t: 3\n").count(), 3);
        assert_eq!(text.matches("cpu cores\t: 2\n").count(), 3);
        assert!(text.starts_with("processor\t: 1\n"));
    }

    #[test]
    fn a_block_of_no_processor_is_kept() {
        let host = "processor\t: 0\nBogoMIPS\t: 50\n\nprocessor\t: 1\nBogoMIPS\t: 50\n\nHardware\t: Board\n";
        let text = String::from_utf8(render(host, &view(&[(0, 1)]))).unwrap();
        assert_eq!(text, "processor\t: 0\nBogoMIPS\t: 50\n\nHardware\t: Board\n");
    }

    #[test]
    fn s390_lines_are_counted_too() {
        let host = "vendor_id       : IBM/S390\n# processors    : 2\nprocessor 0: version = FF\nprocessor 1: version = FE\n\ncpu number      : 0\ncpu MHz : 5\n\ncpu number      : 1\ncpu MHz : 6\n\n";
        let text = String::from_utf8(render(host, &view(&[(0, 1)]))).unwrap();
        let expected = "vendor_id       : IBM/S390\n# processors    : 1\nprocessor 0: version = FE\n\ncpu number      : 0\ncpu MHz : 6\n\n";
        assert_eq!(text, expected);
    }
}
