//! The programs on a machine with cgroup v2 alone: Debian's cloud kernel in QEMU, by software
//! emulation, with a root file system that is made here of this build and of installed programs.
//!
//! Reading order: [`kernel`] fetches what is booted, [`archive`] and [`root`] make the root file
//! system, [`console`] runs it and reads its verdict. What runs inside is the program in `inside`.
#![forbid(unsafe_code)]

mod archive;
mod console;
mod kernel;
mod root;

use support::Scratch;
use support::privilege::{Missing, installed, root};
use support::require;

/// The programs that are needed to make the machine.
const MAKERS: [&str; 5] = ["qemu-system-x86_64", "dpkg-deb", "apt-get", "ldd", "strip"];

/// Programs that run inside: those of a shell's everyday life, and those whose figures are looked at.
pub(crate) const PROGRAMS: [&str; 44] = [
    "apparmor_parser",
    "awk",
    "busybox",
    "cat",
    "chmod",
    "cp",
    "cut",
    "dd",
    "dmesg",
    "env",
    "find",
    "free",
    "getconf",
    "grep",
    "head",
    "iostat",
    "ln",
    "ls",
    "lscpu",
    "lxcfs",
    "mkdir",
    "mkswap",
    "mount",
    "mv",
    "nproc",
    "nsenter",
    "ps",
    "rm",
    "rmdir",
    "sed",
    "seq",
    "sh",
    "sleep",
    "stat",
    "swapon",
    "sync",
    "tail",
    "top",
    "touch",
    "wc",
    "umount",
    "unshare",
    "uptime",
    "vmstat",
];

fn programs() -> Result<(), Missing> {
    MAKERS.iter().chain(&PROGRAMS).try_for_each(|program| installed(program))
}

#[test]
fn all_is_right_on_a_machine_with_cgroup_v2_alone() {
    require!("all_is_right_on_a_machine_with_cgroup_v2_alone", root(), programs());
    let kernel = match kernel::fetch() {
        Ok(kernel) => kernel,
        Err(why) => return support::privilege::skip("guest", &Missing::Setup(why)),
    };
    let scratch = Scratch::new();
    let archive = scratch.path().join("root.cpio");
    std::fs::write(&archive, root::make(&kernel)).expect("write the root file system");
    let report = console::run(&kernel, &archive, scratch.path());
    report.write_page();
    report.assert_good();
}
