//! What the live tests need and what they read.

use std::path::Path;

use procfs_shim::host::parse;
use support::privilege::{Missing, root};

/// Bytes.
pub(crate) const MIB: u64 = 1 << 20;

/// Says what is missing to mount.
pub(crate) fn fuse() -> Result<(), Missing> {
    root()?;
    if Path::new("/dev/fuse").exists() {
        return Ok(());
    }
    Err(Missing::Setup("there is no /dev/fuse".into()))
}

/// No arguments.
pub(crate) fn no_args() -> [&'static str; 0] {
    []
}

/// Returns a figure of a meminfo in KiB.
pub(crate) fn kib(meminfo: &str, name: &str) -> u64 {
    parse::meminfo(meminfo).expect("a meminfo").bytes(name) / 1024
}

/// Returns the figures of a `cpu` line: user, nice, system, idle.
pub(crate) fn cpu_line(stat: &str) -> Vec<u64> {
    let line = stat.lines().next().expect("a first line");
    assert!(line.starts_with("cpu "), "{line}");
    line.split_ascii_whitespace().skip(1).take(4).map(|f| f.parse().expect("ticks")).collect()
}
