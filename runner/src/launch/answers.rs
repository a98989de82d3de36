//! Answers the container's sysinfo(2) and sched_getaffinity(2) with its own figures, those of its /proc:
//! programs that ask the kernel, as busybox's `free` and musl do, are told the same.

use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::time::Instant;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::{CpuSet, sched_getaffinity};
use nix::unistd::Pid;
use procfs_shim::cgroup::NanoCpus;
use procfs_shim::figures::Figures;
use procfs_shim::files::sysinfo::SysInfo;
use procfs_shim::view::Rules;
use sys::seccomp::{Answer, Call, arch};

use crate::error::{Context, Error, Result};
use crate::spec::Shim;

/// The calls that are answered.
pub(super) const CALLS: [&str; 2] = ["sysinfo", "sched_getaffinity"];

/// Who answers the calls of one container.
pub(super) struct Answers {
    listener: OwnedFd,
    first: i32,
    told: Shim,
    /// Made at the first call: most programs make none.
    figures: Option<Figures>,
    sampled: Instant,
}

impl Answers {
    /// Begins to answer.
    ///
    /// # Errors
    /// The first process has ended.
    pub(super) fn new(listener: OwnedFd, first: i32, told: Shim) -> Result<Answers> {
        Ok(Answers { listener, first, told, figures: None, sampled: Instant::now() })
    }

    /// Returns what to wait for.
    pub(super) fn poll_fd(&self) -> PollFd<'_> {
        PollFd::new(self.listener.as_fd(), PollFlags::POLLIN)
    }

    /// Whether nobody is left who could call.
    pub(super) fn is_over(&self) -> bool {
        self.ready().contains(PollFlags::POLLHUP)
    }

    fn ready(&self) -> PollFlags {
        let mut fds = [self.poll_fd()];
        match poll(&mut fds, PollTimeout::ZERO) {
            Ok(1..) => fds.iter().find_map(PollFd::revents).unwrap_or(PollFlags::empty()),
            _ => PollFlags::empty(),
        }
    }

    /// Answers the calls that wait.
    pub(super) fn answer(&mut self) {
        while self.ready().contains(PollFlags::POLLIN) {
            // One whose thread has ended meanwhile is no call any more.
            let Ok(call) = sys::seccomp::receive(&self.listener) else { return };
            // What we can't answer the kernel does: a figure of the host is better than a failure.
            let answer = self.find(&call).unwrap_or(Answer::Continue);
            match sys::seccomp::answer(&self.listener, call.id, answer) {
                Ok(()) | Err(_) => {}
            }
        }
    }

    fn find(&mut self, call: &Call) -> Option<Answer> {
        let [first, second, third, ..] = call.args;
        match (name(call)?, call.arch) {
            ("sysinfo", arch::X86_64 | arch::AARCH64) => {
                let bytes = wide(&self.figures()?.sysinfo().ok()?);
                self.write(call, first, &bytes)
            }
            ("sysinfo", _) => {
                let bytes = narrow(&self.figures()?.sysinfo().ok()?);
                self.write(call, first, &bytes)
            }
            // Of another process the kernel knows more than we do.
            ("sched_getaffinity", arch::X86_64 | arch::AARCH64) if first == 0 => {
                let own = sched_getaffinity(Pid::from_raw(call.pid as i32)).ok()?;
                let bytes = mask(&self.figures()?.affinity().ok()?, &own, second)?;
                let written = self.write(call, third, &bytes)?;
                Some(if written == Answer::Value(0) {
                    Answer::Value(bytes.len() as i64)
                } else {
                    written
                })
            }
            _ => None,
        }
    }

    /// Writes into the memory of the caller.
    fn write(&self, call: &Call, at: u64, bytes: &[u8]) -> Option<Answer> {
        let memory =
            fs::File::options().write(true).open(format!("/proc/{}/mem", call.pid)).ok()?;
        // Only now is it sure that the number was the caller's when the file was opened.
        if !sys::seccomp::is_valid(&self.listener, call.id) {
            return None;
        }
        match memory.write_all_at(bytes, at) {
            Ok(()) => Some(Answer::Value(0)),
            Err(_) => Some(Answer::Fail(Errno::EFAULT)),
        }
    }

    fn figures(&mut self) -> Option<&Figures> {
        if self.figures.is_none() {
            self.figures = Some(self.open().ok()?);
        }
        let figures = self.figures.as_ref()?;
        if self.sampled.elapsed() >= Figures::PERIOD {
            figures.sample();
            self.sampled = Instant::now();
        }
        Some(figures)
    }

    fn open(&self) -> Result<Figures> {
        let mut rules = Rules::USUAL;
        rules.memory.declared = self.told.declared_memory;
        rules.cpu.declared = self.told.declared_cpus.map(|m| NanoCpus(m * 1_000_000));
        let pid = procfs_shim::host::process::Pid(self.first as u32);
        Figures::of_init(pid, None, rules)
            .map_err(|e| Error::new("answer system calls", e.to_string()))
            .step("read the container's figures")
    }
}

/// Returns the name of a call, if it is one of ours.
fn name(call: &Call) -> Option<&'static str> {
    let number = |name: &str| super::filter::number(call.arch, name);
    CALLS.into_iter().find(|n| number(n) == Some(call.number as u32))
}

/// `struct sysinfo` of 64-bit programs.
fn wide(s: &SysInfo) -> Vec<u8> {
    let words = [s.uptime, s.loads[0], s.loads[1], s.loads[2], s.totalram, s.freeram];
    let more = [s.sharedram, s.bufferram, s.totalswap, s.freeswap];
    let mut out: Vec<u8> = words.into_iter().chain(more).flat_map(u64::to_ne_bytes).collect();
    out.extend(s.procs.to_ne_bytes());
    out.extend([0; 6]);
    // No high memory; sizes are bytes.
    out.extend([0u64, 0].into_iter().flat_map(u64::to_ne_bytes));
    out.extend(1u32.to_ne_bytes());
    out.extend([0; 4]);
    out
}

/// `struct sysinfo` of 32-bit programs, where sizes are pages.
fn narrow(s: &SysInfo) -> Vec<u8> {
    const PAGE: u64 = 4096;
    let word = |n: u64| u32::try_from(n).unwrap_or(u32::MAX);
    let pages = |n: u64| word(n / PAGE);
    let words = [
        word(s.uptime),
        word(s.loads[0]),
        word(s.loads[1]),
        word(s.loads[2]),
        pages(s.totalram),
        pages(s.freeram),
        pages(s.sharedram),
        pages(s.bufferram),
        pages(s.totalswap),
        pages(s.freeswap),
    ];
    let mut out: Vec<u8> = words.into_iter().flat_map(u32::to_ne_bytes).collect();
    out.extend(s.procs.to_ne_bytes());
    out.extend([0; 2]);
    out.extend([0u32, 0, PAGE as u32].into_iter().flat_map(u32::to_ne_bytes));
    out.extend([0; 8]);
    out
}

/// Returns the mask of CPUs that are the container's and that the thread may run on, as long as the
/// kernel's own; `None`: the caller has no room for it.
fn mask(shown: &[u32], own: &CpuSet, room: u64) -> Option<Vec<u8>> {
    let may = |cpu: &u32| own.is_set(*cpu as usize).unwrap_or(false);
    let cpus: Vec<usize> = shown.iter().filter(|c| may(c)).map(|c| *c as usize).collect();
    let length = kernel_mask();
    let last = cpus.last()?;
    if room < length as u64 || !room.is_multiple_of(8) || last / 8 >= length {
        return None;
    }
    let mut bytes = vec![0u8; length];
    for cpu in cpus {
        *bytes.get_mut(cpu / 8)? |= 1 << (cpu % 8);
    }
    Some(bytes)
}

/// Returns the length of the kernel's masks: whole words for all CPUs that there may ever be.
fn kernel_mask() -> usize {
    let possible = fs::read_to_string("/sys/devices/system/cpu/possible").unwrap_or_default();
    let last = possible.trim().rsplit([',', '-']).next().and_then(|n| n.parse::<usize>().ok());
    (last.unwrap_or(0) / 64 + 1) * 8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_layouts_have_the_size_of_the_kernel_s() {
        let s = SysInfo { totalram: 1 << 32, procs: 3, ..SysInfo::default() };
        assert_eq!(wide(&s).len(), size_of::<nix::libc::sysinfo>());
        assert_eq!(narrow(&s).len(), 64);
        assert_eq!(narrow(&s)[16..20], (1u32 << 20).to_ne_bytes());
    }

    #[test]
    fn a_mask_holds_what_both_allow() {
        let mut own = CpuSet::new();
        own.set(0).unwrap();
        own.set(1).unwrap();
        assert_eq!(mask(&[1], &own, 128).unwrap()[0], 2);
        assert_eq!(mask(&[70_000], &own, 128), None);
        assert_eq!(mask(&[0], &own, 4), None);
    }
}
