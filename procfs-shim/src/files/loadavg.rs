//! /proc/loadavg: averages of the container's own threads.

use super::formula::{Formula, THREADS};
use crate::host::trace;
use crate::view::load::LoadView;

/// Renders the file. The last number is that of the newest process in the container's own pid
/// namespace.
pub fn render(load: &LoadView) -> Vec<u8> {
    trace::figure("threads", Formula::new(THREADS, "running / all threads of the container"));
    trace::figure(
        "last_pid",
        Formula::new("/proc/PID/status", "newest process, by its own number"),
    );
    let words = "running and blocked threads every 5 s, decaying as in the kernel";
    trace::figure("", Formula::new(THREADS, words));
    let [one, five, fifteen] = load.averages;
    let counts = load.counts;
    // Whoever reads this is a thread that runs.
    let (running, threads) = (counts.running.max(1), counts.threads.max(1));
    format!("{one:.2} {five:.2} {fifteen:.2} {running}/{threads} {}\n", counts.last_pid)
        .into_bytes()
}
