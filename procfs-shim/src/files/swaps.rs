//! /proc/swaps: one line for what the container may swap, or none.

use super::formula::{Formula, SWAP};
use crate::host::trace;

/// Renders the file from bytes, in the kernel's columns.
pub fn render(total: u64, free: u64) -> Vec<u8> {
    trace::figure(
        "",
        Formula::new(SWAP, "one line: SwapTotal, and SwapTotal - SwapFree, of meminfo"),
    );
    let mut text = String::from("Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n");
    if total > 0 {
        let (size, used) = (total / 1024, total.saturating_sub(free) / 1024);
        // The kernel widens a column by a second tab where a number is short.
        let tab = |n: u64| if n < 10_000_000 { "\t" } else { "" };
        let line =
            format!("{:<40}virtual\t\t{size}\t{}{used}\t{}0\n", "none", tab(size), tab(used));
        text.push_str(&line);
    }
    text.into_bytes()
}

#[cfg(test)]
mod tests {
    #[test]
    fn no_swap_is_no_line() {
        assert_eq!(super::render(0, 0).iter().filter(|&&b| b == b'\n').count(), 1);
        let text = String::from_utf8(super::render(2048, 1024)).unwrap();
        assert!(text.ends_with("virtual\t\t2\t\t1\t\t0\n"), "{text}");
    }
}
