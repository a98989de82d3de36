//! Files below /sys/devices/system/cpu/cpuN: the machine's, but that they name no processor that the
//! view hides.

use crate::host::cpulist::{CpuId, CpuList};
use crate::view::cpu::CpuView;

/// Bits a word of the kernel's masks.
const WORD: u32 = 32;

/// Renders the file called `name` from the machine's text. Lists and masks of processors are cut down
/// to those shown, by their numbers shown; other files are the machine's.
pub fn render(name: &str, host: String, view: &CpuView) -> Vec<u8> {
    let changed = match name {
        "shared_cpu_map" | "core_siblings" | "thread_siblings" | "core_cpus" | "package_cpus"
        | "die_cpus" | "cluster_cpus" => mask(&host, view),
        _ if name.ends_with("_list") => list(&host, view),
        _ => None,
    };
    changed.unwrap_or(host).into_bytes()
}

fn shown(all: impl Iterator<Item = CpuId>, view: &CpuView) -> CpuList {
    all.filter_map(|cpu| view.shown(cpu)).map(|s| s.number).collect()
}

fn list(host: &str, view: &CpuView) -> Option<String> {
    let all = CpuList::parse(host).ok()?;
    Some(format!("{}\n", shown(all.iter(), view)))
}

/// A mask is hexadecimal in words of 32 bits between commas, the highest first.
fn mask(host: &str, view: &CpuView) -> Option<String> {
    let texts: Vec<&str> = host.trim().split(',').collect();
    let words: Option<Vec<u32>> = texts.iter().map(|w| u32::from_str_radix(w, 16).ok()).collect();
    let bits = |(index, word): (u32, u32)| {
        let is_set = move |bit: &u32| word >> bit & 1 == 1;
        (0..WORD).filter(is_set).map(move |bit| CpuId(index * WORD + bit))
    };
    let all = (0..).zip(words?.into_iter().rev()).flat_map(bits);
    let kept = shown(all, view);
    let last = texts.len().saturating_sub(1);
    let word = |(position, text): (usize, &&str)| {
        let index = (last - position) as u32;
        let ours = kept.iter().filter(|c| c.0 / WORD == index);
        let value = ours.fold(0u32, |w, c| w | 1 << (c.0 % WORD));
        format!("{value:0width$x}", width = text.len())
    };
    let words: Vec<String> = texts.iter().enumerate().map(word).collect();
    Some(format!("{}\n", words.join(",")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cgroup::ONE_CPU;
    use crate::view::cpu::ShownCpu;

    #[test]
    fn lists_and_masks_name_only_what_is_shown() {
        let same = |n| ShownCpu { number: CpuId(n), host: CpuId(n) };
        let view = CpuView { cpus: [1, 3, 33].map(same).to_vec(), capacity: ONE_CPU };
        let text = |name, host: &str| String::from_utf8(render(name, host.into(), &view)).unwrap();
        assert_eq!(text("core_siblings_list", "0-3\n"), "1,3\n");
        assert_eq!(text("core_siblings", "f\n"), "a\n");
        assert_eq!(text("shared_cpu_map", "ffffffff,ffffffff\n"), "00000002,0000000a\n");
        assert_eq!(text("core_id", "7\n"), "7\n");
        assert_eq!(text("shared_cpu_map", "what\n"), "what\n");
    }
}
