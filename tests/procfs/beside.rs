//! Every figure under real load, beside the kernel's own and those of the packaged lxcfs, as
//! docs/procfs-values.md has it.

use std::path::Path;
use std::process::Command;

use support::Scratch;
use support::cgroups::{Version, version};
use support::figures::Needs;
use support::figures::measure::{Column, Disk, Machine, group};
use support::figures::page::{self, Part};
use support::figures::rows::{Pace, all};
use support::figures::server::Server;
use support::privilege::{Missing, installed, skip};
use support::process::program;
use support::require;

use crate::seen::fuse;
use crate::shim::PROGRAM;
use crate::swap::Swap;

const LOAD: &str = env!("CARGO_BIN_EXE_load-under-test");

fn v1() -> Result<(), Missing> {
    match version()? {
        Version::V1 => Ok(()),
        Version::V2 => Err(Missing::Kernel("the suite `guest` measures cgroup v2".into())),
    }
}

/// Returns which kernel and which package are measured.
fn versions() -> String {
    let kernel = nix::sys::utsname::uname().expect("uname");
    let release = kernel.release().to_string_lossy();
    let release: Vec<_> = release.split('.').take(2).collect();
    let said = support::process::run(Command::new("lxcfs").arg("--version")).stdout;
    let said = String::from_utf8_lossy(&said).trim().to_owned();
    format!("Measured with Linux {} and lxcfs {said}.", release.join("."))
}

#[test]
fn every_figure_is_as_the_page_says() {
    let needed = ["lxcfs", "free", "top", "vmstat", "ps", "uptime", "iostat", "busybox"];
    require!("every_figure_is_as_the_page_says", fuse(), v1());
    for tool in needed {
        require!("every_figure_is_as_the_page_says", installed(tool));
    }
    let shim = Server::shim(Path::new(PROGRAM));
    let lxcfs = Server::lxcfs(&program("lxcfs").expect("it is installed"));
    let scratch = Scratch::new();
    let file = scratch.path().join("disk");
    // A hole: a page that this process had in its cache would count as its own.
    let made = std::fs::File::create(&file).and_then(|f| f.set_len(32 << 20));
    made.expect("make a file to read and write");
    let machine = || Machine::here(Path::new(LOAD), Disk::of_file(&file));
    let only = std::env::var("PALIMPSEST_LOAD").unwrap_or_default();
    let columns = [Column::Kernel, Column::Ours(shim.path()), Column::Peer(lxcfs.path())];
    let mut measured = Vec::new();
    for one in all(Pace::Native) {
        if !one.load.contains(&only) {
            continue;
        }
        let _swap = match one.needs {
            Needs::Swap if !machine().has(Needs::Swap) => match Swap::on(scratch.path()) {
                Ok(swap) => Some(swap),
                Err(missing) => {
                    skip(&format!("procfs::beside, {}", one.load), &missing);
                    continue;
                }
            },
            _ => None,
        };
        let machine = machine();
        if machine.has(one.needs) {
            measured.push((one.load, group(&machine, &columns, &one)));
        }
    }
    let versions = versions();
    let old = std::fs::read_to_string(page::path()).unwrap_or_default();
    if std::env::var_os("PALIMPSEST_WRITE_VALUES").is_some() {
        let new = page::with_part(&old, Part::Hybrid, &versions, &measured);
        std::fs::write(page::path(), new).expect("write docs/procfs-values.md");
    }
    let text = std::fs::read_to_string(page::path()).expect("read docs/procfs-values.md");
    let differences = page::differences(&text, Part::Hybrid, &versions, &measured).failures();
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}
