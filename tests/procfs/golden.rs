//! Recorded machines in, exact text out. No privileges, no kernel.

use procfs_shim::cgroup::{NanoCpus, ONE_CPU};
use procfs_shim::files::{cpu_online, cpuinfo, stat};
use procfs_shim::host::cpulist::{CpuId, CpuList};
use procfs_shim::host::{HostFile, parse};
use procfs_shim::view::cpu::{CpuView, Numbering, Quota};
use procfs_shim::view::load::Counts;
use procfs_shim::view::memory::Show;
use procfs_shim::view::meter::Meter;

use crate::recording::{Recording, plain_rules};

#[test]
fn v1_with_a_limit_on_the_parent_and_a_greedy_sibling() {
    let recording = Recording::open("v1");
    recording.check("expected", &recording.render("membership", &plain_rules()));
}

#[test]
fn hybrid_counts_time_in_the_unified_hierarchy() {
    let recording = Recording::open("v1");
    recording.check("expected-hybrid", &recording.render("membership-hybrid", &plain_rules()));
}

#[test]
fn v2_with_a_limit_on_the_parent_and_a_greedy_sibling() {
    let recording = Recording::open("v2");
    recording.check("expected", &recording.render("membership", &plain_rules()));
}

#[test]
fn options_change_what_they_name_and_nothing_else() {
    let recording = Recording::open("v2");
    let plain = recording.render("membership", &plain_rules());
    let mut rules = plain_rules();
    rules.memory.swap = Show::Hidden;
    rules.memory.declared = Some(64 << 20);
    rules.cpu.quota = Quota::Ignored;
    rules.cpu.numbering = Numbering::FromZero;
    let other = recording.render("membership", &rules);
    let text = |files: &std::collections::BTreeMap<&str, Vec<u8>>, name| {
        String::from_utf8(files[name].clone()).unwrap()
    };
    let meminfo = parse::meminfo(&text(&other, "meminfo")).unwrap();
    assert_eq!(meminfo.bytes("MemTotal"), 64 << 20);
    assert_eq!(meminfo.bytes("SwapTotal"), 0);
    assert_eq!(text(&other, "online"), "0\n");
    assert_eq!(text(&plain, "online"), "1\n");
    assert_eq!(text(&other, "swaps").lines().count(), 1);
}

#[test]
fn a_declared_limit_never_widens_the_cgroup_s() {
    let recording = Recording::open("v1");
    let mut rules = plain_rules();
    rules.memory.declared = Some(1 << 40);
    rules.cpu.declared = Some(NanoCpus(64 * ONE_CPU.0));
    assert_eq!(
        recording.render("membership", &rules),
        recording.render("membership", &plain_rules())
    );
}

/// Repeats the recorded processor block for a machine of `count` processors, two threads a core.
fn machine_of(count: u32) -> String {
    let text = Recording::open("v1").host().text(HostFile::Cpuinfo).unwrap();
    let block = text.split_inclusive("\n\n").next().unwrap();
    let one = |cpu: u32| {
        let line = |l: &str| match l.split_once(':').map(|(n, _)| n.trim()) {
            Some("processor") => format!("processor\t: {cpu}\n"),
            Some("core id") => format!("core id\t\t: {}\n", cpu / 2),
            Some("siblings") => format!("siblings\t: {count}\n"),
            Some("cpu cores") => format!("cpu cores\t: {}\n", count.div_ceil(2)),
            _ => l.to_owned(),
        };
        block.split_inclusive('\n').map(line).collect::<String>()
    };
    (0..count).map(one).collect()
}

#[test]
fn cpuinfo_stat_and_online_agree_from_1_to_512_processors() {
    for (count, quota, shown) in [
        (1, None, 1),
        (2, Some(500_000_000), 1),
        (2, Some(1_000_000_001), 2),
        (8, Some(2_500_000_000), 3),
        (64, None, 64),
        (256, Some(255_000_000_000), 255),
        (512, None, 512),
        (512, Some(1), 1),
    ] {
        let all: CpuList = (0..count).map(CpuId).collect();
        let view = CpuView::of(&all, quota.map(NanoCpus), &plain_rules().cpu);
        let info = String::from_utf8(cpuinfo::render(&machine_of(count), &view)).unwrap();
        let online = String::from_utf8(cpu_online::render(&view)).unwrap();
        let account = Meter::default().read(7_000_000_000, view.capacity, Default::default());
        let seen = stat::Seen { cpus: &view, account, btime: 1, counts: Counts::default() };
        let stat = String::from_utf8(stat::render(&seen)).unwrap();

        let of_info: Vec<&str> =
            info.lines().filter_map(|l| l.strip_prefix("processor\t: ")).collect();
        let of_stat: Vec<&str> = stat
            .lines()
            .filter(|l| !l.starts_with("cpu "))
            .filter_map(|l| l.strip_prefix("cpu")?.split(' ').next())
            .collect();
        let of_online: Vec<String> =
            CpuList::parse(&online).unwrap().iter().map(|c| c.0.to_string()).collect();
        assert_eq!(of_info, of_stat);
        assert_eq!(of_info, of_online);
        assert_eq!(of_info.len(), shown, "{count} processors, quota {quota:?}");
        assert_eq!(info.matches(&format!("siblings\t: {shown}\n")).count(), shown);
    }
}

#[test]
fn a_cpuset_keeps_the_kernel_s_numbers() {
    let allowed = CpuList::parse("1,3,5-6\n").unwrap();
    let view = CpuView::of(&allowed, Some(NanoCpus(2_500_000_000)), &plain_rules().cpu);
    assert_eq!(cpu_online::render(&view), b"1,3,5\n");
    let mut rules = plain_rules().cpu;
    rules.numbering = Numbering::FromZero;
    let view = CpuView::of(&allowed, Some(NanoCpus(2_500_000_000)), &rules);
    assert_eq!(cpu_online::render(&view), b"0-2\n");
    let info = String::from_utf8(cpuinfo::render(&machine_of(8), &view)).unwrap();
    assert_eq!(info.matches("processor\t: ").count(), 3);
    // Two of the three are threads of different cores, 0 and 1, and the third is of core 2.
    assert_eq!(info.matches("cpu cores\t: 3\n").count(), 3);
}
