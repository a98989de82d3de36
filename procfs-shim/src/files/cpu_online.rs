//! /sys/devices/system/cpu/online (and its neighbours) in the list syntax of sysfs.

use super::formula::Formula;
use crate::host::trace;
use crate::view::cpu::CpuView;

/// Where the allowed processors are from.
const PROCESSORS: &str =
    "cpuset.effective_cpus, cpu.cfs_quota_us, cpu.cfs_period_us | cpuset.cpus.effective, cpu.max";

/// Renders the list of the processors shown.
pub fn render(view: &CpuView) -> Vec<u8> {
    let words = "the first ceil(min over ancestors of quota / period) of the allowed processors that are on";
    trace::figure("", Formula::new(PROCESSORS, words));
    format!("{}\n", view.numbers()).into_bytes()
}
