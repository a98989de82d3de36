//! /proc/uptime: age of the container, and idle time of all its processors.

use super::formula::{Formula, TIME};
use crate::host::trace;

/// Renders the file from nanoseconds.
pub fn render(age: u64, idle: u64) -> Vec<u8> {
    let start = "now - start of the container's init; its own clock in a time namespace";
    trace::figure("uptime", Formula::new("/proc/INIT/stat", start));
    let idle_is = "capacity x time - time used, never less than shown before";
    trace::figure("idle", Formula::new(TIME, idle_is));
    let hundredths = |ns: u64| format!("{}.{:02}", ns / 1_000_000_000, ns / 10_000_000 % 100);
    format!("{} {}\n", hundredths(age), hundredths(idle)).into_bytes()
}

#[cfg(test)]
mod tests {
    #[test]
    fn hundredths_have_two_digits() {
        assert_eq!(super::render(10_050_000_000, 999_999_999), b"10.05 0.99\n");
    }
}
