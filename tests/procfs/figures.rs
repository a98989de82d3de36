//! The figures as numbers, beside the files that show them.

use procfs_shim::figures::Figures;
use procfs_shim::host::process::{Pid, StartTime};
use procfs_shim::view::Rules;
use support::require;

use crate::container::{Container, Limits, Namespaces, v1_controllers};
use crate::seen::{MIB, fuse, kib, no_args};
use crate::shim::Shim;
use crate::swap;

#[test]
fn numbers_are_those_of_the_files() {
    require!("numbers_are_those_of_the_files", fuse(), v1_controllers());
    let _same_swap = swap::unchanged();
    let shim = Shim::start(&no_args());
    let limits = Limits { memory: Some(64 * MIB), quota: Some(50_000), ..Limits::default() };
    let container = Container::start(shim.path(), &limits, Namespaces::Own);
    let pid = Pid(u32::try_from(container.init()).expect("a pid"));
    let figures = Figures::of_init(pid, None, Rules::USUAL).expect("the container's figures");
    let before: f64 = container.sh("cut -d' ' -f1 /proc/uptime").trim().parse().expect("seconds");
    let told = figures.sysinfo().expect("sysinfo");
    let after: f64 = container.sh("cut -d' ' -f1 /proc/uptime").trim().parse().expect("seconds");
    assert!(before <= told.uptime as f64 && told.uptime as f64 <= after.ceil(), "{told:?}");
    let meminfo = container.sh("cat /proc/meminfo");
    for (name, bytes) in [
        ("MemTotal", told.totalram),
        ("Shmem", told.sharedram),
        ("SwapTotal", told.totalswap),
        ("SwapFree", told.freeswap),
    ] {
        assert_eq!(kib(&meminfo, name), bytes / 1024, "{name}");
    }
    assert_eq!(told.totalram, 64 * MIB);
    assert!(told.freeram < told.totalram && told.freeram > 0, "{told:?}");
    assert!(told.procs >= 1, "{told:?}");
    let shown = container.sh("sed -n 's/^processor.*: //p' /proc/cpuinfo");
    let shown: Vec<u32> = shown.lines().map(|n| n.parse().expect("a number")).collect();
    assert_eq!(figures.affinity().expect("processors"), shown);
    assert_eq!(shown.len(), 1);
    figures.sample();
    assert!(Figures::of_init(pid, Some(StartTime(1)), Rules::USUAL).is_err());
}

#[test]
fn the_machine_is_told_its_own() {
    let own = Pid(std::process::id());
    let Ok(figures) = Figures::of_init(own, None, Rules::USUAL) else {
        panic!("no figures of this very process")
    };
    let told = figures.sysinfo().expect("sysinfo");
    assert!(told.totalram > 0 && told.freeram <= told.totalram, "{told:?}");
    assert!(!figures.affinity().expect("processors").is_empty());
}
