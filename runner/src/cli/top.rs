//! `runner top`, `runner stats`.

use std::collections::HashMap;
use std::fs;
use std::io::IsTerminal;
use std::path::Path;
use std::time::{Duration, Instant};

use clap::Args;
use serde_json::{Value, json};

use crate::cgroup::usage::{Usage, usage};
use crate::cli::format::{Format, table};
use crate::cli::{print, stop};
use crate::error::{Context, Error, Result};
use crate::spec::{Identity, Range};
use crate::store::{self, Entry, Status, Store, span};

/// Ticks of a second in /proc/PID/stat: the same on all architectures.
const TICKS: u64 = 100;

/// List the processes of a container.
#[derive(Debug, Args)]
pub(crate) struct TopArgs {
    /// Container
    #[arg(value_name = "CONTAINER")]
    container: String,
}

/// Show what containers use, again and again.
#[derive(Debug, Args)]
pub(crate) struct StatsArgs {
    /// Once only
    #[arg(long)]
    no_stream: bool,
    /// Seconds between two looks
    #[arg(short, long, value_name = "SECONDS", default_value_t = 5)]
    interval: u64,
    /// Don't clear the screen in between
    #[arg(long)]
    no_reset: bool,
    /// All that run, which is the default
    #[arg(short, long)]
    all: bool,
    /// json, or a template such as {{.MemUsage}}
    #[arg(long)]
    format: Option<String>,
    /// As --format json
    #[arg(long)]
    json: bool,
    /// Containers [default: all that run]
    #[arg(value_name = "CONTAINER")]
    containers: Vec<String>,
}

/// Prints the processes of a container.
pub(super) fn top(args: TopArgs, state: Option<&Path>) -> Result<u8> {
    let store = Store::choose(state)?;
    let entry = stop::running(&store, &args.container)?;
    let first = entry.state.first.map_or(0, |p| p.pid);
    let namespace = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/pid"));
    let own = namespace(&first.to_string()).step("find the container's processes")?;
    let uptime = fs::read_to_string("/proc/uptime").step_at("read", "/proc/uptime")?;
    let uptime = uptime.split('.').next().and_then(|s| s.parse::<u64>().ok()).unwrap_or(0);
    let head = ["USER", "PID", "PPID", "%CPU", "ELAPSED", "TTY", "TIME", "COMMAND"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    let mut numbers = HashMap::new();
    let mut found = Vec::new();
    for process in fs::read_dir("/proc").step_at("read directory", "/proc")?.flatten() {
        let name = process.file_name().to_string_lossy().into_owned();
        if name.bytes().all(|b| b.is_ascii_digit())
            && namespace(&name).is_ok_and(|n| n == own)
            // One that has just ended is none any more.
            && let Some(p) = Listed::read(&name)
        {
            numbers.insert(p.host, p.inside);
            found.push(p);
        }
    }
    found.sort_by_key(|p| p.inside);
    for p in found {
        let parent = numbers.get(&p.parent).copied().unwrap_or(0);
        let age = uptime.saturating_sub(p.start / TICKS);
        let cpu = p.ticks as f64 * 100.0 / (TICKS as f64 * age.max(1) as f64);
        rows.push(vec![
            inside(p.uid, entry.identity()).to_string(),
            p.inside.to_string(),
            parent.to_string(),
            format!("{cpu:.3}"),
            span(age * 1_000_000_000),
            p.terminal(),
            format!("{}s", p.ticks / TICKS),
            p.command,
        ]);
    }
    print(&table(&rows)).map(|()| 0)
}

/// A process of a container.
struct Listed {
    host: i32,
    inside: i32,
    parent: i32,
    uid: u32,
    tty: u64,
    ticks: u64,
    start: u64,
    command: String,
}

impl Listed {
    fn read(pid: &str) -> Option<Listed> {
        let read = |file: &str| fs::read_to_string(format!("/proc/{pid}/{file}")).ok();
        let stat = read("stat")?;
        let rest = stat.get(stat.rfind(')')? + 1..)?;
        let fields: Vec<&str> = rest.split_whitespace().collect();
        let number = |n: usize| fields.get(n - 3).and_then(|f| f.parse::<u64>().ok());
        let status = read("status")?;
        let line = |name: &str| status.lines().find_map(|l| l.strip_prefix(name));
        let args = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let args: Vec<_> = args.split(|&b| b == 0).filter(|a| !a.is_empty()).collect();
        let args: Vec<_> = args.into_iter().map(String::from_utf8_lossy).collect();
        let name = line("Name:").unwrap_or_default().trim().to_owned();
        Some(Listed {
            host: pid.parse().ok()?,
            inside: line("NSpid:")?.split_whitespace().last()?.parse().ok()?,
            parent: number(4)? as i32,
            uid: line("Uid:")?.split_whitespace().nth(1)?.parse().ok()?,
            tty: number(7)?,
            ticks: number(14)? + number(15)?,
            start: number(22)?,
            command: if args.is_empty() { format!("[{name}]") } else { args.join(" ") },
        })
    }

    fn terminal(&self) -> String {
        let (major, minor) = (self.tty >> 8 & 0xfff, self.tty & 0xff | self.tty >> 12 & 0xfff00);
        match major {
            0 => "?".to_owned(),
            136..=143 => format!("pts/{}", minor + (major - 136) * 256),
            _ => format!("tty{minor}"),
        }
    }
}

/// Returns the number that a user of the host has in the container.
fn inside(uid: u32, identity: &Identity) -> u32 {
    let Identity::Mapped(maps) = identity else { return uid };
    let holds = |r: &&Range| uid >= r.outside && uid - r.outside < r.count;
    maps.uids.iter().find(holds).map_or(65534, |r| r.inside + (uid - r.outside))
}

/// Prints what containers use.
pub(super) fn stats(args: StatsArgs, state: Option<&Path>) -> Result<u8> {
    let store = Store::choose(state)?;
    let format = Format::of(args.format.as_deref(), args.json);
    let is_screen = format == Format::Table && std::io::stdout().is_terminal() && !args.no_reset;
    let mut before: HashMap<String, (Instant, Usage)> = HashMap::new();
    // What was used so far says little about now: two looks, a moment apart, do.
    for entry in chosen(&store, &args.containers)? {
        before.insert(entry.id.clone(), (Instant::now(), usage(&entry.state.cgroups)));
    }
    std::thread::sleep(Duration::from_millis(200));
    loop {
        let mut rows = Vec::new();
        for entry in chosen(&store, &args.containers)? {
            let now = (Instant::now(), usage(&entry.state.cgroups));
            rows.push(row(&entry, before.get(&entry.id), &now));
            before.insert(entry.id.clone(), now);
        }
        let columns = [
            ("ID", "ID"),
            ("NAME", "Name"),
            ("CPU %", "CPUPerc"),
            ("MEM USAGE / LIMIT", "MemUsage"),
            ("MEM %", "MemPerc"),
            ("NET IO", "NetIO"),
            ("BLOCK IO", "BlockIO"),
            ("PIDS", "PIDs"),
            ("CPU TIME", "CPUTime"),
        ];
        let text = format.list(&columns, &rows)?;
        print(&if is_screen { format!("\x1b[H\x1b[J{text}") } else { text })?;
        if args.no_stream {
            return Ok(0);
        }
        std::thread::sleep(Duration::from_secs(args.interval.max(1)));
    }
}

fn chosen(store: &Store, names: &[String]) -> Result<Vec<Entry>> {
    if names.is_empty() {
        let all = store::all(store)?.into_iter();
        return Ok(all.filter(|e| e.status() == Status::Running).collect());
    }
    names.iter().map(|n| stop::running(store, n)).collect::<Result<Vec<_>>>().map_err(|e: Error| e)
}

fn row(entry: &Entry, before: Option<&(Instant, Usage)>, now: &(Instant, Usage)) -> Value {
    let (at, u) = now;
    let unknown = || "--".to_owned();
    let cpu = before.and_then(|(then, b)| {
        let spent = u.cpu?.saturating_sub(b.cpu?) as f64;
        Some(spent * 100.0 / at.duration_since(*then).as_nanos().max(1) as f64)
    });
    let total = host_memory();
    let limit = u.memory_limit.unwrap_or(total).min(total);
    let percent = u.memory.map(|m| m as f64 * 100.0 / limit.max(1) as f64);
    let (received, sent) = network(entry);
    let show = |n: Option<f64>| n.map_or_else(unknown, |p| format!("{p:.2}%"));
    let both = |a: Option<u64>, b: Option<u64>| match (a, b) {
        (Some(a), Some(b)) => format!("{} / {}", size(a), size(b)),
        _ => "-- / --".to_owned(),
    };
    json!({
        "ID": entry.short(),
        "Name": entry.name(),
        "CPUPerc": show(cpu),
        "MemUsage": format!("{} / {}", u.memory.map_or_else(unknown, size), size(limit)),
        "MemPerc": show(percent),
        "NetIO": both(received, sent),
        "BlockIO": both(u.read, u.written),
        "PIDs": u.pids.map_or_else(unknown, |n| n.to_string()),
        "CPUTime": u.cpu.map_or_else(unknown, |ns| format!("{:.3}s", ns as f64 / 1e9)),
        "CPUNano": u.cpu,
        "MemBytes": u.memory,
        "MemLimit": limit,
    })
}

fn host_memory() -> u64 {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = text.lines().find_map(|l| l.strip_prefix("MemTotal:"));
    let kb = line.and_then(|l| l.split_whitespace().next()).and_then(|n| n.parse::<u64>().ok());
    kb.unwrap_or(0) * 1024
}

/// Returns the bytes that the container's interfaces but the loopback have received and sent.
fn network(entry: &Entry) -> (Option<u64>, Option<u64>) {
    let first = entry.state.first.map_or(0, |p| p.pid);
    let Ok(text) = fs::read_to_string(format!("/proc/{first}/net/dev")) else {
        return (None, None);
    };
    let (mut received, mut sent) = (0, 0);
    for line in text.lines().skip(2) {
        let Some((name, rest)) = line.split_once(':') else { continue };
        let fields: Vec<u64> = rest.split_whitespace().filter_map(|f| f.parse().ok()).collect();
        if name.trim() != "lo" {
            received += fields.first().copied().unwrap_or(0);
            sent += fields.get(8).copied().unwrap_or(0);
        }
    }
    (Some(received), Some(sent))
}

/// Returns a size as podman shows it, with decimal units.
fn size(bytes: u64) -> String {
    let mut value = bytes as f64;
    for unit in ["B", "kB", "MB", "GB", "TB"] {
        if value < 1000.0 {
            let text = format!("{value:.3}");
            return format!("{}{unit}", text.trim_end_matches('0').trim_end_matches('.'));
        }
        value /= 1000.0;
    }
    format!("{value:.3}PB")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_decimal_units() {
        assert_eq!(
            (size(0), size(1500), size(64 << 20)),
            ("0B".into(), "1.5kB".into(), "67.109MB".into())
        );
    }
}
