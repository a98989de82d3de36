//! What holds whatever the kernel says: bounds, sums, and counters that only grow.

use proptest::prelude::*;

use procfs_shim::cgroup::memory::{MemoryLevel, SwapLevel};
use procfs_shim::cgroup::{CpuTimes, MemoryStat, NanoCpus, Version};
use procfs_shim::files::{cpuinfo, meminfo, stat, swaps, uptime};
use procfs_shim::host::cpulist::{CpuId, CpuList};
use procfs_shim::host::parse::{self, HostMeminfo, Unit};
use procfs_shim::view::cpu::{CpuRules, CpuView, Numbering, Quota};
use procfs_shim::view::load::Counts;
use procfs_shim::view::memory::{MemoryRules, MemoryView, Show};
use procfs_shim::view::meter::{CpuAccount, Meter};

use crate::recording::Recording;

/// Sizes of all magnitudes, the greatest included.
fn size() -> impl Strategy<Value = u64> {
    prop_oneof![Just(0), 0u64..1 << 20, 0u64..1 << 40, any::<u64>(), Just(u64::MAX)]
}

fn memory_stat() -> impl Strategy<Value = MemoryStat> {
    proptest::collection::vec(size(), 25).prop_map(|v| MemoryStat {
        anon: v[0],
        file: v[1],
        kernel_stack: v[2],
        pagetables: v[3],
        sec_pagetables: v[4],
        percpu: v[5],
        vmalloc: v[6],
        shmem: v[7],
        zswap: v[8],
        zswapped: v[9],
        file_mapped: v[10],
        file_dirty: v[11],
        file_writeback: v[12],
        swap: v[13],
        swapcached: v[14],
        anon_thp: v[15],
        file_thp: v[16],
        shmem_thp: v[17],
        inactive_anon: v[18],
        active_anon: v[19],
        inactive_file: v[20],
        active_file: v[21],
        unevictable: v[22],
        slab_reclaimable: v[23],
        slab_unreclaimable: v[24],
        ..MemoryStat::default()
    })
}

fn level() -> impl Strategy<Value = MemoryLevel> {
    let limit = || proptest::option::of(size());
    (limit(), size(), memory_stat(), limit(), size()).prop_map(
        |(limit, usage, stat, swap, used)| MemoryLevel {
            limit,
            usage,
            stat,
            swap: SwapLevel { limit: swap, used },
        },
    )
}

fn host() -> HostMeminfo {
    (*Recording::open("v1").host().meminfo().expect("the recorded meminfo")).clone()
}

proptest! {
    #[test]
    fn free_available_and_total_are_in_order(
        levels in proptest::collection::vec(level(), 1..4),
        declared in proptest::option::of(size()),
    ) {
        let rules = MemoryRules { declared, swap: Show::Shown, zswap: Show::Shown };
        let host = host();
        let view = MemoryView::of(&levels, &host, &rules).unwrap();
        prop_assert!(view.free <= view.available);
        prop_assert!(view.available <= view.total);
        prop_assert!(view.total <= host.bytes("MemTotal"));
        prop_assert!(view.swap_free <= view.swap_total);
        for limit in levels.iter().filter_map(|l| l.limit).chain(declared) {
            prop_assert!(view.total <= limit);
        }
        for level in levels.iter().filter(|l| l.limit.is_some()) {
            let left = level.limit.unwrap_or(0).saturating_sub(level.usage);
            prop_assert!(view.free <= left, "usage is taken where the limit is");
        }
        swaps::render(view.swap_total, view.swap_free);
    }

    #[test]
    fn no_figure_is_larger_than_the_container(levels in proptest::collection::vec(level(), 1..4)) {
        let rules = MemoryRules { declared: None, swap: Show::Shown, zswap: Show::Shown };
        let host = host();
        let view = MemoryView::of(&levels, &host, &rules).unwrap();
        let text = String::from_utf8(meminfo::render(&host, &view)).unwrap();
        let shown = parse::meminfo(&text).unwrap();
        prop_assert_eq!(shown.lines.len(), host.lines.len());
        let total = shown.bytes("MemTotal");
        for line in &shown.lines {
            let swap = line.name.starts_with("Swap") || line.name == "Zswapped";
            let commit = line.name == "CommitLimit" || line.name == "Committed_AS";
            if line.unit == Unit::Kib && !swap && !commit && line.name != "Hugepagesize" {
                prop_assert!(line.value * 1024 <= total, "{} {}", line.name, line.value);
            }
        }
    }

    #[test]
    fn counters_only_grow_and_add_up(
        cpus in 1u32..600,
        steps in proptest::collection::vec(
            (0u64..20_000_000_000, 1u64..16_000_000_000, 0u64..30_000_000_000, 0u64..1 << 34),
            1..40,
        ),
    ) {
        let allowed: CpuList = (0..cpus).map(CpuId).collect();
        let rules = CpuRules { declared: None, quota: Quota::Counted, numbering: Numbering::Kernel };
        let mut meter = Meter::default();
        let (mut age, mut used) = (0, CpuTimes::default());
        let mut before: Option<(CpuAccount, Vec<u64>)> = None;
        for (dt, quota, user, system) in steps {
            age += dt;
            used.user += user;
            used.system += system;
            let view = CpuView::of(&allowed, Some(NanoCpus(quota)), &rules);
            let account = meter.read(age, view.capacity, used);
            let seen = stat::Seen { cpus: &view, account, btime: 1, counts: Counts::default() };
            let text = String::from_utf8(stat::render(&seen)).unwrap();
            let lines: Vec<Vec<u64>> = text
                .lines()
                .filter(|l| l.starts_with("cpu"))
                .map(|l| l.split_ascii_whitespace().skip(1).map(|f| f.parse().unwrap()).collect())
                .collect();
            prop_assert_eq!(lines.len(), view.cpus.len() + 1);
            for column in 0..10 {
                let parts: u64 = lines[1..].iter().map(|l| l[column]).sum();
                prop_assert_eq!(parts, lines[0][column]);
            }
            if let Some((earlier, head)) = &before {
                prop_assert!(account.idle >= earlier.idle);
                prop_assert!(account.busy.total() >= earlier.busy.total());
                prop_assert!(head.iter().zip(&lines[0]).all(|(a, b)| a <= b));
            }
            before = Some((account, lines[0].clone()));
            uptime::render(age, account.idle);
        }
    }

    #[test]
    fn readers_do_not_disturb_each_other(
        quota in 1u64..4_000_000_000,
        ages in proptest::collection::vec((0u64..100_000_000_000, any::<bool>()), 1..50),
    ) {
        // Whether somebody else reads in between makes no difference to what one reads.
        let mut ages = ages;
        ages.sort_unstable();
        let used = |age: u64| CpuTimes { user: age / 3, nice: 0, system: age / 7 };
        let (mut alone, mut crowded) = (Meter::default(), Meter::default());
        // Both are read once at the start, as the sampler does.
        alone.read(0, NanoCpus(quota), CpuTimes::default());
        crowded.read(0, NanoCpus(quota), CpuTimes::default());
        for (age, mine) in ages {
            let seen = crowded.read(age, NanoCpus(quota), used(age));
            if mine {
                let same = alone.read(age, NanoCpus(quota), used(age));
                prop_assert!(seen.idle.abs_diff(same.idle) <= 64, "rounding alone: {seen:?} {same:?}");
                prop_assert_eq!(seen.busy, same.busy);
            }
        }
    }

    #[test]
    fn a_saturated_share_is_fully_busy(quota in 10_000_000u64..8_000_000_000, seconds in 1u64..1000) {
        let mut meter = Meter::default();
        let share = |ns: u64| (u128::from(ns) * u128::from(quota) / 1_000_000_000) as u64;
        let at = |age: u64| CpuTimes { user: share(age), nice: 0, system: 0 };
        let first = meter.read(1_000_000_000, NanoCpus(quota), at(1_000_000_000));
        let age = 1_000_000_000 + seconds * 1_000_000_000;
        let last = meter.read(age, NanoCpus(quota), at(age));
        prop_assert_eq!(last.idle, first.idle);
        prop_assert!(last.busy.user > first.busy.user);
    }

    #[test]
    fn an_idle_container_in_an_old_cgroup_is_idle(used in 0u64..1 << 50, seconds in 1u64..1000) {
        let mut meter = Meter::default();
        let times = CpuTimes { user: used, nice: 0, system: 0 };
        let first = meter.read(1_000, NanoCpus(1_000_000_000), times);
        let last = meter.read(1_000 + seconds * 1_000_000_000, NanoCpus(1_000_000_000), times);
        let idle = last.idle - first.idle;
        prop_assert!(idle.abs_diff(seconds * 1_000_000_000) <= 1, "{idle}");
    }

    #[test]
    fn nothing_a_file_may_hold_makes_a_parser_panic(text in "\\PC*") {
        use procfs_shim::cgroup::parse as cgroup;
        let _parsed = parse::meminfo(&text);
        let _parsed = parse::pid_stat(&text);
        let _parsed = parse::btime(&text);
        let _parsed = parse::boottime_offset(&text);
        parse::pid_status(&text);
        let _parsed = CpuList::parse(&text);
        let _parsed = cgroup::membership(&text);
        let _parsed = MemoryStat::parse(&text, Version::V1);
        let _parsed = MemoryStat::parse(&text, Version::V2);
        let _parsed = cgroup::cpu_stat(&text);
        let _parsed = cgroup::cpu_max(&text);
        let _parsed = cgroup::cfs(&text, &text);
        cgroup::mountinfo(&text);
        let rules = CpuRules { declared: None, quota: Quota::Counted, numbering: Numbering::Kernel };
        let view = CpuView::of(&CpuList::default(), None, &rules);
        cpuinfo::render(&text, &view);
        stat::render_machine(&text, &view);
    }
}
