//! Metrics, by a parser of Prometheus's text format of our own.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

use support::process::run;
use support::require;

use crate::seen::fuse;
use crate::shim::Shim;
use crate::survival::{next_worker, resend};

/// A metric's kind, its help, and its samples by name and labels.
#[derive(Debug, Default)]
struct Metric {
    kind: String,
    help: String,
    samples: BTreeMap<String, f64>,
}

/// Asks by HTTP and returns status line and body.
fn ask(socket: &Path, request: &str) -> (String, String) {
    let mut stream = UnixStream::connect(socket).expect("connect");
    stream.write_all(request.as_bytes()).expect("ask");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    let (head, body) = answer.split_once("\r\n\r\n").expect("head and body");
    let length = head.lines().find_map(|l| l.strip_prefix("Content-Length: ")).expect("a length");
    assert_eq!(length.parse::<usize>(), Ok(body.len()));
    (head.lines().next().unwrap_or_default().to_owned(), body.to_owned())
}

/// Parses what Prometheus's documentation of the format (0.0.4) allows, strictly.
fn parse(text: &str) -> BTreeMap<String, Metric> {
    let mut metrics: BTreeMap<String, Metric> = BTreeMap::new();
    assert!(text.ends_with('\n'));
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').expect("a help");
            let metric = metrics.entry(name.to_owned()).or_default();
            assert!(metric.help.is_empty(), "{line}");
            metric.help = help.to_owned();
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').expect("a kind");
            assert!(["counter", "gauge", "histogram"].contains(&kind), "{line}");
            let metric = metrics.get_mut(name).expect("its help before");
            assert!(metric.kind.is_empty() && metric.samples.is_empty(), "{line}");
            metric.kind = kind.to_owned();
        } else {
            let (series, value) = line.rsplit_once(' ').expect("a value");
            let name = series.split('{').next().expect("a name");
            let ok = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
            assert!(
                name.chars().all(ok) && !name.starts_with(|c: char| c.is_ascii_digit()),
                "{line}"
            );
            if let Some((_, labels)) = series.split_once('{') {
                let labels = labels.strip_suffix('}').expect("a closed brace");
                let (key, value) = labels.split_once("=\"").expect("a label");
                assert!(key.chars().all(ok) && value.ends_with('"'), "{line}");
            }
            let parts = ["_bucket", "_sum", "_count"];
            let family = parts
                .iter()
                .find_map(|p| name.strip_suffix(p))
                .filter(|f| metrics.contains_key(*f));
            let metric = metrics.get_mut(family.unwrap_or(name)).expect("TYPE and HELP before");
            assert!(!metric.kind.is_empty(), "{line}");
            let value: f64 = value.parse().expect("a number");
            assert!(metric.samples.insert(series.to_owned(), value).is_none(), "twice: {line}");
        }
    }
    metrics
}

fn scrape(socket: &Path) -> BTreeMap<String, Metric> {
    let (status, body) = ask(socket, "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_eq!(status, "HTTP/1.1 200 OK");
    parse(&body)
}

fn sample(metrics: &BTreeMap<String, Metric>, family: &str, series: &str) -> f64 {
    *metrics[family].samples.get(series).unwrap_or_else(|| panic!("{series}"))
}

#[test]
fn metrics_are_told_and_counters_only_grow() {
    require!("metrics_are_told_and_counters_only_grow", fuse());
    let dir = tempfile::tempdir().expect("a directory");
    let socket = dir.path().join("metrics");
    let shim = Shim::start(&["--metrics", socket.to_str().expect("a path")]);
    let before = scrape(&socket);
    for _ in 0..3 {
        shim.read("proc/meminfo");
    }
    let gone = std::fs::read(shim.file("proc/nothing"));
    assert!(gone.is_err());
    let after = scrape(&socket);
    let grown = |family: &str, series: &str| {
        sample(&after, family, series) - sample(&before, family, series)
    };
    assert_eq!(
        grown("procfs_shim_reads_total", "procfs_shim_reads_total{file=\"proc/meminfo\"}"),
        3.0
    );
    assert_eq!(
        grown("procfs_shim_messages_total", "procfs_shim_messages_total{kind=\"open\"}"),
        3.0
    );
    assert_eq!(
        grown("procfs_shim_messages_total", "procfs_shim_messages_total{kind=\"read\"}"),
        6.0
    );
    assert_eq!(grown("procfs_shim_errors_total", "procfs_shim_errors_total"), 1.0);
    for (name, metric) in after.iter().filter(|(_, m)| m.kind == "counter") {
        assert!(name.ends_with("_total"), "{name}");
        for (series, value) in &metric.samples {
            assert!(*value >= sample(&before, name, series), "{series}");
        }
    }
    let times = &after["procfs_shim_render_seconds"];
    let buckets: Vec<f64> = ["5e-6", "0.00001", "0.1", "+Inf"]
        .iter()
        .filter_map(|le| {
            times.samples.get(&format!("procfs_shim_render_seconds_bucket{{le=\"{le}\"}}"))
        })
        .copied()
        .collect();
    assert!(buckets.is_sorted() && buckets.len() >= 2, "{times:?}");
    assert_eq!(buckets.last(), times.samples.get("procfs_shim_render_seconds_count"));
    assert!(*buckets.last().expect("a bucket") >= 1.0);
    assert!(sample(&after, "procfs_shim_containers", "procfs_shim_containers") >= 1.0);
    assert!(sample(&after, "process_resident_memory_bytes", "process_resident_memory_bytes") > 0.0);
}

#[test]
fn who_asks_otherwise_is_told_so() {
    require!("who_asks_otherwise_is_told_so", fuse());
    let dir = tempfile::tempdir().expect("a directory");
    let socket = dir.path().join("metrics");
    let at = socket.to_str().expect("a path");
    let shim = Shim::start(&["--metrics", at]);
    for (request, status) in [
        ("GET /other HTTP/1.1\r\n\r\n", "404 Not Found"),
        ("POST /metrics HTTP/1.1\r\n\r\n", "405 Method Not Allowed"),
        ("\r\n\r\n", "400 Bad Request"),
    ] {
        assert_eq!(ask(&socket, request).0, format!("HTTP/1.1 {status}"));
    }
    let mut second = std::process::Command::new(crate::shim::PROGRAM);
    let second = run(second.args(["-f", "--metrics", at, dir.path().to_str().expect("a path")]));
    assert_eq!(second.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&second.stderr).contains("another daemon listens there"));
    drop(shim);
}

#[test]
fn restarts_of_workers_are_counted() {
    require!("restarts_of_workers_are_counted", resend());
    let dir = tempfile::tempdir().expect("a directory");
    let socket = dir.path().join("metrics");
    let shim = Shim::start(&["--metrics", socket.to_str().expect("a path")]);
    let restarts = || {
        let name = "procfs_shim_worker_restarts_total";
        sample(&scrape(&socket), name, name)
    };
    assert_eq!(restarts(), 0.0);
    let worker = next_worker(shim.pid(), &Default::default());
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(worker), nix::sys::signal::Signal::SIGKILL)
        .expect("kill the worker");
    next_worker(shim.pid(), &std::collections::BTreeSet::from([worker]));
    // Who asks waits until the next worker answers.
    assert_eq!(restarts(), 1.0);
}
