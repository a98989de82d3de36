//! What sysinfo(2) and sched_getaffinity(2) would answer inside: the figures of meminfo, uptime, loadavg
//! and cpuinfo as numbers, so that programs that ask the kernel are told the same.

use crate::error::ReadError;
use crate::host::HostFile;
use crate::host::cpulist::CpuList;
use crate::host::parse;
use crate::view::View;
use crate::view::load::LoadView;

/// Fraction bits of a load average in `struct sysinfo` (`SI_LOAD_SHIFT`).
const LOAD_SHIFT: u32 = 16;

/// `struct sysinfo` of sysinfo(2) with a `mem_unit` of 1: sizes are in bytes. There is no high memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SysInfo {
    /// Seconds since the start, begun ones counted, as the kernel does; first column of uptime.
    pub uptime: u64,
    /// Averages over 1, 5 and 15 minutes, times 65536; as in loadavg.
    pub loads: [u64; 3],
    /// `MemTotal`.
    pub totalram: u64,
    /// `MemFree`.
    pub freeram: u64,
    /// `Shmem`.
    pub sharedram: u64,
    /// `Buffers`: no cgroup counts them.
    pub bufferram: u64,
    /// `SwapTotal`.
    pub totalswap: u64,
    /// `SwapFree`.
    pub freeswap: u64,
    /// Threads, as many as the field has room for.
    pub procs: u16,
}

/// Returns what sysinfo(2) would answer.
///
/// # Errors
/// As the files that show the same figures.
pub fn sysinfo(view: &View) -> Result<SysInfo, ReadError> {
    let LoadView { averages, counts } = load(view)?;
    let uptime = match view.age() {
        Some(age) => age.div_ceil(1_000_000_000),
        None => uptime_of_machine(view)?,
    };
    let memory = match view.memory()? {
        Some((memory, _)) => SysInfo {
            totalram: memory.total,
            freeram: memory.free,
            sharedram: memory.stat.shmem.min(memory.total),
            bufferram: 0,
            totalswap: memory.swap_total,
            freeswap: memory.swap_free,
            ..SysInfo::default()
        },
        None => {
            let host = view.host().meminfo()?;
            SysInfo {
                totalram: host.bytes("MemTotal"),
                freeram: host.bytes("MemFree"),
                sharedram: host.bytes("Shmem"),
                bufferram: host.bytes("Buffers"),
                totalswap: host.bytes("SwapTotal"),
                freeswap: host.bytes("SwapFree"),
                ..SysInfo::default()
            }
        }
    };
    // The file has two decimals; so has the answer.
    let scaled =
        |load: f64| ((load * 100.0).round() * f64::from(1u32 << LOAD_SHIFT) / 100.0) as u64;
    let procs = u16::try_from(counts.threads.max(1)).unwrap_or(u16::MAX);
    Ok(SysInfo { uptime, loads: averages.map(scaled), procs, ..memory })
}

/// Returns the processors that sched_getaffinity(2) would name: those of cpuinfo, by their numbers there.
///
/// # Errors
/// As cpuinfo.
pub fn affinity(view: &View) -> Result<CpuList, ReadError> {
    Ok(view.cpus()?.numbers())
}

fn load(view: &View) -> Result<LoadView, ReadError> {
    if let Some(load) = view.load() {
        return Ok(load);
    }
    let text = view.host().text(HostFile::Loadavg)?;
    let (averages, threads) =
        parse::loadavg(&text).map_err(ReadError::of(HostFile::Loadavg.path()))?;
    let mut load = LoadView { averages, ..LoadView::default() };
    load.counts.threads = threads;
    Ok(load)
}

fn uptime_of_machine(view: &View) -> Result<u64, ReadError> {
    let text = view.host().text(HostFile::Uptime)?;
    let seconds = parse::uptime(&text).map_err(ReadError::of(HostFile::Uptime.path()))?;
    Ok(seconds.ceil() as u64)
}
