//! Metrics for Prometheus: its text format (version 0.0.4), served by HTTP on a unix socket.

use std::fmt::{Display, Write as _};
use std::io::{self, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;
use std::time::Duration;

use super::counters::{BOUNDS, COUNTERS, Message};
use crate::host::{HostFile, USER_HZ};
use crate::view::Views;

/// How long a client may take for its question, or to take the answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// The longest question.
const MOST_ASKED: usize = 8192;

/// Answers clients, one after the other, for as long as the process lives.
pub(super) fn serve(listener: &UnixListener, views: &Arc<Views>) {
    for client in listener.incoming() {
        if let Err(e) = client.and_then(|client| answer(client, views)) {
            log::debug!("metrics: {e}");
        }
    }
}

fn answer(mut client: UnixStream, views: &Views) -> io::Result<()> {
    client.set_read_timeout(Some(PATIENCE))?;
    client.set_write_timeout(Some(PATIENCE))?;
    let mut asked = Vec::new();
    let mut room = [0; 1024];
    while !asked.windows(4).any(|w| w == b"\r\n\r\n") && asked.len() < MOST_ASKED {
        match client.read(&mut room)? {
            0 => break,
            n => asked.extend_from_slice(room.get(..n).unwrap_or_default()),
        }
    }
    let (status, body) = respond(&asked, || text(views));
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    client.write_all(head.as_bytes())?;
    client.write_all(body.as_bytes())
}

/// Returns status and body for a question.
fn respond(asked: &[u8], metrics: impl FnOnce() -> String) -> (&'static str, String) {
    let line = String::from_utf8_lossy(asked);
    let mut words = line.lines().next().unwrap_or_default().split(' ');
    match (words.next(), words.next().map(|path| path.split('?').next().unwrap_or(path))) {
        (Some("GET"), Some("/metrics")) => ("200 OK", metrics()),
        (Some("GET"), Some("/")) => ("200 OK", "procfs-shim: see /metrics\n".into()),
        (Some("GET"), Some(_)) => ("404 Not Found", "there is /metrics only\n".into()),
        (Some(_), Some(_)) => ("405 Method Not Allowed", "GET only\n".into()),
        _ => ("400 Bad Request", "ask by HTTP: GET /metrics\n".into()),
    }
}

/// The text while it is written.
#[derive(Default)]
struct Text(String);

impl Text {
    /// Begins a metric.
    fn metric(&mut self, name: &str, kind: &str, help: &str) {
        self.line(format_args!("# HELP {name} {help}\n# TYPE {name} {kind}"));
    }

    fn sample(&mut self, name: &str, labels: &str, value: impl Display) {
        self.line(format_args!("{name}{labels} {value}"));
    }

    fn line(&mut self, line: std::fmt::Arguments) {
        // Writing to a string has no failure.
        if writeln!(self.0, "{line}").is_err() {
            log::debug!("metrics: a line was not written");
        }
    }

    /// A metric without labels.
    fn single(&mut self, name: &str, kind: &str, help: &str, value: impl Display) {
        self.metric(name, kind, help);
        self.sample(name, "", value);
    }
}

/// Writes all metrics.
fn text(views: &Views) -> String {
    let mut text = Text::default();
    let name = "procfs_shim_messages_total";
    text.metric(name, "counter", "Messages of the kernel, by kind.");
    for (kind, count) in Message::NAMES.iter().zip(COUNTERS.messages()) {
        text.sample(name, &format!("{{kind=\"{kind}\"}}"), count);
    }
    let (given, stand_ins) = COUNTERS.files();
    for (name, help, counts) in [
        ("procfs_shim_reads_total", "Files made for readers, by file.", given),
        (
            "procfs_shim_stand_ins_total",
            "Files of which the machine's was given, as the container's own could not be made or the machine is its limit.",
            stand_ins,
        ),
    ] {
        text.metric(name, "counter", help);
        for (file, count) in HostFile::ALL.iter().zip(counts) {
            text.sample(name, &format!("{{file=\"{}\"}}", file.path()), count);
        }
    }
    let errors = "Messages answered by an error.";
    text.single("procfs_shim_errors_total", "counter", errors, COUNTERS.errors());
    times(&mut text);
    let (containers, readers) = views.known_ones();
    text.single("procfs_shim_containers", "gauge", "Containers known.", containers);
    text.single("procfs_shim_readers", "gauge", "Reading processes known.", readers);
    let restarts = daemon::supervise::workers_started().saturating_sub(1);
    let help = "Workers that were started in the place of one that ended.";
    text.single("procfs_shim_worker_restarts_total", "counter", help, restarts);
    text.metric("procfs_shim_build_info", "gauge", "Version of the program; always 1.");
    let version = format!("{{version=\"{}\"}}", env!("CARGO_PKG_VERSION"));
    text.sample("procfs_shim_build_info", &version, 1);
    process(&mut text, views);
    text.0
}

/// The histogram of the times that texts took.
fn times(text: &mut Text) {
    let name = "procfs_shim_render_seconds";
    text.metric(
        name,
        "histogram",
        "Time to make a file's content, where that was not done a moment ago.",
    );
    let (counts, nanoseconds) = COUNTERS.times();
    let bounds = BOUNDS.iter().map(|&b| (b as f64 / 1e6).to_string()).chain(["+Inf".into()]);
    let mut sum = 0;
    for (bound, count) in bounds.zip(counts) {
        sum += count;
        text.sample(&format!("{name}_bucket"), &format!("{{le=\"{bound}\"}}"), sum);
    }
    text.sample(&format!("{name}_sum"), "", nanoseconds as f64 / 1e9);
    text.sample(&format!("{name}_count"), "", sum);
}

/// What each program of this kind tells of its process: the worker's.
fn process(text: &mut Text, views: &Views) {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:"));
    let kib: u64 = line.and_then(|l| l.split_ascii_whitespace().next()?.parse().ok()).unwrap_or(0);
    let help = "Resident memory size in bytes.";
    text.single("process_resident_memory_bytes", "gauge", help, kib * 1024);
    // One is the directory itself.
    let fds = std::fs::read_dir("/proc/self/fd").map_or(0, |d| d.count().saturating_sub(1));
    text.single("process_open_fds", "gauge", "Number of open file descriptors.", fds);
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    if let Ok(stat) = crate::host::parse::pid_stat(&stat) {
        let seconds = (stat.user + stat.system) as f64 / USER_HZ as f64;
        let help = "Total user and system CPU time spent in seconds.";
        text.single("process_cpu_seconds_total", "counter", help, seconds);
        if let Ok(boot) = views.host().btime() {
            let start = boot as f64 + stat.start as f64 / USER_HZ as f64;
            let help = "Start time of the process since unix epoch in seconds.";
            text.single("process_start_time_seconds", "gauge", help, start);
        }
    }
}
