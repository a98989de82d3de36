//! The environment block: what a figure means nothing without.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::bed::scale::Scale;
use crate::record::Environment;

/// Describes this machine; `stage` is where layers and mount points are.
pub(crate) fn describe(stage: &Path, scale: &Scale, rounds: u32, seed: u64) -> Environment {
    let cpuinfo = read("/proc/cpuinfo");
    let model = cpuinfo.lines().find_map(|l| l.strip_prefix("model name")?.split_once(": "));
    let count = cpuinfo.lines().filter(|l| l.starts_with("processor")).count();
    let memory = read("/proc/meminfo");
    let memory = memory.lines().next().map_or("", |l| l.trim_start_matches("MemTotal:").trim());
    let mut facts = vec![
        ("date", date()),
        ("kernel", read("/proc/sys/kernel/osrelease")),
        ("build", read("/proc/sys/kernel/version")),
        ("system", os_name()),
        ("processors", format!("{count} × {}", model.map_or("unknown", |m| m.1))),
        ("siblings", read("/sys/devices/system/cpu/cpu0/topology/thread_siblings_list")),
        ("governor", read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")),
        ("clock", read("/sys/devices/system/clocksource/clocksource0/current_clocksource")),
        ("mitigations", mitigations()),
        ("memory", memory.to_owned()),
        ("hypervisor", hypervisor(&cpuinfo)),
        ("layers on", mount_of(stage)),
        ("fuse: io_uring", read("/sys/module/fuse/parameters/enable_uring")),
        ("fuse: most pages of a request", read("/proc/sys/fs/fuse/max_pages_limit")),
        ("load before", read("/proc/loadavg")),
        ("CPU pressure before", read("/proc/pressure/cpu").lines().next().unwrap_or("").to_owned()),
        ("bench", format!("{}{}", env!("CARGO_PKG_VERSION"), build())),
        ("user", nix::unistd::Uid::effective().to_string()),
    ];
    facts.retain(|(_, value)| !value.trim().is_empty());
    let facts = facts.into_iter().map(|(k, v)| (k.to_owned(), v.trim().to_owned())).collect();
    Environment {
        facts,
        command: std::env::args().collect(),
        peer: None,
        rounds,
        scale: scale.name.clone(),
        seed,
        started: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs()),
    }
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default().trim().to_owned()
}

fn date() -> String {
    let out = Command::new("date").args(["-u", "+%Y-%m-%d %H:%M UTC"]).output();
    out.map_or(String::new(), |o| String::from_utf8_lossy(&o.stdout).into_owned())
}

fn build() -> &'static str {
    if cfg!(debug_assertions) { " (debug build)" } else { "" }
}

fn os_name() -> String {
    let text = read("/etc/os-release");
    let name = text.lines().find_map(|l| l.strip_prefix("PRETTY_NAME="));
    name.unwrap_or("").trim_matches('"').to_owned()
}

fn hypervisor(cpuinfo: &str) -> String {
    let flags = cpuinfo.lines().find(|l| l.starts_with("flags")).unwrap_or("");
    match flags.split_whitespace().any(|f| f == "hypervisor") {
        true => format!("yes {}", read("/sys/hypervisor/type")),
        false => "none seen".into(),
    }
}

fn mitigations() -> String {
    let dir = fs::read_dir("/sys/devices/system/cpu/vulnerabilities").into_iter().flatten();
    let active = dir
        .flatten()
        .filter(|entry| read(&entry.path().to_string_lossy()).starts_with("Mitigation"));
    let mut names: Vec<_> = active.map(|e| e.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names.join(", ")
}

/// Returns the file system and the mount options of a directory.
fn mount_of(dir: &Path) -> String {
    let text = read("/proc/self/mounts");
    let mounts = text.lines().filter_map(|line| {
        let mut words = line.split(' ');
        let (source, point) = (words.next()?, words.next()?);
        dir.starts_with(point).then(|| (point.len(), source, words.next(), words.next()))
    });
    let best = mounts.max_by_key(|(length, ..)| *length);
    best.map_or(String::new(), |(_, source, kind, options)| {
        format!("{} ({source}, {})", kind.unwrap_or(""), options.unwrap_or(""))
    })
}
