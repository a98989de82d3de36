//! /sys/devices/system/cpu/online (and its neighbours) in the list syntax of sysfs.

use crate::view::cpu::CpuView;

/// Renders the list of the processors shown.
pub fn render(view: &CpuView) -> Vec<u8> {
    format!("{}\n", view.numbers()).into_bytes()
}
