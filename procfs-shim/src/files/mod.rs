//! One table: path -> renderer -> fallback. A renderer is pure; what it is given comes from a view.

pub mod cpu_dir;
pub mod cpu_online;
pub mod cpuinfo;
pub mod diskstats;
pub mod fields;
pub mod formula;
pub mod loadavg;
pub mod meminfo;
pub mod slabinfo;
pub mod stat;
pub mod swaps;
pub mod sysinfo;
pub mod uptime;
pub mod vmstat;

use crate::cgroup::io::Resource;
use crate::error::ReadError;
use crate::host::{HostFile, trace};
use crate::view::View;
use formula::Formula;

/// What a reader is given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// A text of its own.
    Text(Vec<u8>),
    /// The machine's file, as the machine is what limits the reader.
    Host,
}

/// A file that is served.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// Path below the mount point.
    pub path: &'static str,
    /// Makes the content.
    pub render: fn(&View) -> Result<Content, ReadError>,
    /// The machine's file: for readers outside any container, and where the content can't be made.
    pub fallback: HostFile,
}

impl Row {
    /// Permission bits: the kernel's own.
    pub fn mode(&self) -> u16 {
        if self.fallback == HostFile::Slabinfo { 0o400 } else { 0o444 }
    }
}

/// Each file that is served.
pub const TABLE: &[Row] = &[
    Row { path: "proc/meminfo", render: meminfo, fallback: HostFile::Meminfo },
    Row { path: "proc/cpuinfo", render: cpuinfo, fallback: HostFile::Cpuinfo },
    Row { path: "proc/stat", render: stat, fallback: HostFile::Stat },
    Row { path: "proc/uptime", render: uptime, fallback: HostFile::Uptime },
    Row { path: "proc/loadavg", render: loadavg, fallback: HostFile::Loadavg },
    Row { path: "proc/swaps", render: swaps, fallback: HostFile::Swaps },
    Row { path: "proc/diskstats", render: diskstats, fallback: HostFile::Diskstats },
    Row { path: "proc/partitions", render: partitions, fallback: HostFile::Partitions },
    Row { path: "proc/vmstat", render: vmstat, fallback: HostFile::Vmstat },
    Row { path: "proc/slabinfo", render: slabinfo, fallback: HostFile::Slabinfo },
    Row { path: "proc/pressure/cpu", render: pressure_cpu, fallback: HostFile::PressureCpu },
    Row {
        path: "proc/pressure/memory",
        render: pressure_memory,
        fallback: HostFile::PressureMemory,
    },
    Row { path: "proc/pressure/io", render: pressure_io, fallback: HostFile::PressureIo },
    Row { path: "sys/devices/system/cpu/online", render: online, fallback: HostFile::CpuOnline },
    Row { path: "sys/devices/system/cpu/present", render: online, fallback: HostFile::CpuPresent },
    Row {
        path: "sys/devices/system/cpu/possible",
        render: online,
        fallback: HostFile::CpuPossible,
    },
    Row { path: "sys/devices/system/cpu/offline", render: offline, fallback: HostFile::CpuOffline },
];

fn meminfo(view: &View) -> Result<Content, ReadError> {
    let Some((memory, host)) = view.memory()? else { return Ok(Content::Host) };
    Ok(Content::Text(meminfo::render(&host, &memory)))
}

fn cpuinfo(view: &View) -> Result<Content, ReadError> {
    let host = view.host().cpuinfo()?;
    Ok(Content::Text(cpuinfo::render(&host, &view.cpus()?)))
}

fn stat(view: &View) -> Result<Content, ReadError> {
    let cpus = view.cpus()?;
    let Some(account) = view.account(&cpus)? else {
        if cpus.cpus.len() == view.host().online()?.len() {
            return Ok(Content::Host);
        }
        let host = view.host().text(HostFile::Stat)?;
        return Ok(Content::Text(stat::render_machine(&host, &cpus)));
    };
    let counts = view.load().unwrap_or_default().counts;
    let seen = stat::Seen { cpus: &cpus, account, btime: view.btime()?, counts };
    Ok(Content::Text(stat::render(&seen)))
}

fn uptime(view: &View) -> Result<Content, ReadError> {
    let Some(age) = view.age() else { return Ok(Content::Host) };
    let account = view.account(&view.cpus()?)?;
    // Where no time is counted for the container, its processors may as well have been idle.
    let idle = account.map_or(age, |a| a.idle);
    Ok(Content::Text(uptime::render(age, idle)))
}

fn loadavg(view: &View) -> Result<Content, ReadError> {
    Ok(view.load().map_or(Content::Host, |load| Content::Text(loadavg::render(&load))))
}

fn swaps(view: &View) -> Result<Content, ReadError> {
    let Some((memory, _)) = view.memory()? else { return Ok(Content::Host) };
    Ok(Content::Text(swaps::render(memory.swap_total, memory.swap_free)))
}

fn online(view: &View) -> Result<Content, ReadError> {
    Ok(Content::Text(cpu_online::render(&view.cpus()?)))
}

/// What is not shown is not there, rather than there and off.
fn offline(_view: &View) -> Result<Content, ReadError> {
    trace::figure("", Formula::new("nothing", "always empty"));
    Ok(Content::Text(b"\n".to_vec()))
}

fn diskstats(view: &View) -> Result<Content, ReadError> {
    let Some(counts) = view.io()? else { return Ok(Content::Host) };
    let host = view.host().text(HostFile::Diskstats)?;
    Ok(Content::Text(diskstats::render(&host, &counts)))
}

fn partitions(view: &View) -> Result<Content, ReadError> {
    let Some(counts) = view.io()? else { return Ok(Content::Host) };
    let host = view.host().text(HostFile::Partitions)?;
    Ok(Content::Text(diskstats::render_partitions(&host, &counts)))
}

fn vmstat(view: &View) -> Result<Content, ReadError> {
    let Some((memory, _)) = view.memory()? else { return Ok(Content::Host) };
    let io = match view.io() {
        Err(ReadError::NotCounted(_)) => None,
        counts => counts?,
    };
    let host = view.host().text(HostFile::Vmstat)?;
    Ok(Content::Text(vmstat::render(&host, &memory, io.as_ref())))
}

fn slabinfo(view: &View) -> Result<Content, ReadError> {
    let Some(own) = view.slabs()? else { return Ok(Content::Host) };
    let host = view.host().text(HostFile::Slabinfo)?;
    Ok(Content::Text(slabinfo::render(&host, &own)))
}

fn pressure(view: &View, resource: Resource) -> Result<Content, ReadError> {
    // The cgroup's own file has the form of the machine's.
    trace::figure("", Formula::new("*.pressure of the unified hierarchy", "as it is"));
    let text = view.pressure(resource)?;
    Ok(text.map_or(Content::Host, |t| Content::Text(t.into_bytes())))
}

fn pressure_cpu(view: &View) -> Result<Content, ReadError> {
    pressure(view, Resource::Cpu)
}

fn pressure_memory(view: &View) -> Result<Content, ReadError> {
    pressure(view, Resource::Memory)
}

fn pressure_io(view: &View) -> Result<Content, ReadError> {
    pressure(view, Resource::Io)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_file_falls_back_to_its_own_path() {
        for row in TABLE {
            assert_eq!(row.path, row.fallback.path());
        }
    }
}
