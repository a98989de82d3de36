//! Exact counts of FUSE messages and of a daemon's system calls, by the kernel's trace events.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use nix::fcntl::OFlag;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::names;

/// Counts by name.
pub(crate) type Counts = BTreeMap<String, u64>;

/// How long answers that nobody waits for (RELEASE) may take before counting ends.
pub(crate) const TAIL: Duration = Duration::from_millis(30);

/// The event of a message.
const MESSAGE: &str = "events/fuse/fuse_request_send";
/// The event of a system call.
const SYSCALL: &str = "events/raw_syscalls/sys_enter";

/// The kernel's trace file system, mounted for this process, and trace buffers of its own: made once,
/// as removing one waits for all processors.
#[derive(Debug)]
pub(crate) struct Tracing {
    messages: Instance,
    syscalls: Instance,
    // After the buffers, which are in it.
    _mounted: Mounted,
}

impl Tracing {
    /// Mounts tracefs on `dir`, which it makes.
    ///
    /// # Errors
    /// For people: the kernel has no trace events, or they may not be used.
    pub(crate) fn new(dir: &Path) -> Result<Tracing, String> {
        let failed = |e: &dyn std::fmt::Display| format!("tracefs: {e}");
        fs::create_dir_all(dir).map_err(|e| failed(&e))?;
        let none = None::<&str>;
        mount(Some("tracefs"), dir, Some("tracefs"), MsFlags::empty(), none)
            .map_err(|e| failed(&e.desc()))?;
        let mounted = Mounted(dir.to_path_buf());
        if !dir.join(MESSAGE).exists() {
            return Err("the kernel has no trace event fuse_request_send (Linux 6.11)".into());
        }
        let pid = std::process::id();
        let instance =
            |what: &str| Instance::new(dir, &format!("bench-{pid}-{what}")).map_err(|e| failed(&e));
        let (messages, syscalls) = (instance("messages")?, instance("syscalls")?);
        // Threads that start meanwhile are followed.
        syscalls.set("options/event-fork", "1").map_err(|e| failed(&e))?;
        Ok(Tracing { messages, syscalls, _mounted: mounted })
    }

    /// Begins to count: messages of the FUSE connection `device`, and system calls of `daemon`.
    pub(crate) fn begin(&self, device: u32, daemon: i32) -> io::Result<Counting<'_>> {
        self.messages.set(&format!("{MESSAGE}/filter"), &format!("connection == {device}"))?;
        let tasks = fs::read_dir(format!("/proc/{daemon}/task"))?.flatten();
        let tasks: Vec<_> = tasks.map(|t| t.file_name().to_string_lossy().into_owned()).collect();
        self.syscalls.set("set_event_pid", &tasks.join(" "))?;
        Ok(Counting {
            messages: Reader::start(&self.messages, MESSAGE, message_of)?,
            syscalls: Reader::start(&self.syscalls, SYSCALL, syscall_of)?,
        })
    }
}

#[derive(Debug)]
struct Mounted(PathBuf);

impl Drop for Mounted {
    fn drop(&mut self) {
        if let Err(e) = umount2(&self.0, MntFlags::MNT_DETACH) {
            eprintln!("bench: unmount {}: {}", self.0.display(), e.desc());
        }
    }
}

/// Counting goes on until it is ended.
pub(crate) struct Counting<'a> {
    messages: Reader<'a>,
    syscalls: Reader<'a>,
}

impl Counting<'_> {
    /// Ends it and returns messages and system calls.
    pub(crate) fn end(self) -> io::Result<(Counts, Counts)> {
        std::thread::sleep(TAIL);
        Ok((self.messages.end()?, self.syscalls.end()?))
    }
}

/// A trace buffer of its own.
#[derive(Debug)]
struct Instance(PathBuf);

impl Instance {
    fn new(tracefs: &Path, name: &str) -> io::Result<Instance> {
        let path = tracefs.join("instances").join(name);
        match fs::create_dir(&path) {
            Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(named(&path, &e)),
            _ => {}
        }
        let instance = Instance(path);
        instance.set("buffer_size_kb", "4096")?;
        Ok(instance)
    }

    fn set(&self, file: &str, value: &str) -> io::Result<()> {
        let path = self.0.join(file);
        fs::write(&path, value).map_err(|e| named(&path, &e))
    }

    /// Returns how many events were lost because the buffer was full.
    fn lost(&self) -> io::Result<u64> {
        let mut lost = 0;
        for cpu in fs::read_dir(self.0.join("per_cpu"))? {
            let text = fs::read_to_string(cpu?.path().join("stats"))?;
            let values = text.lines().filter_map(|l| {
                l.strip_prefix("overrun: ").or_else(|| l.strip_prefix("dropped events: "))
            });
            lost += values.filter_map(|v| v.trim().parse::<u64>().ok()).sum::<u64>();
        }
        Ok(lost)
    }
}

fn named(path: &Path, e: &io::Error) -> io::Error {
    io::Error::new(e.kind(), format!("{}: {e}", path.display()))
}

impl Drop for Instance {
    fn drop(&mut self) {
        if let Err(e) = fs::remove_dir(&self.0) {
            eprintln!("bench: remove {}: {e}", self.0.display());
        }
    }
}

/// Reads an instance's events while they come, so that no buffer need hold them all.
struct Reader<'a> {
    instance: &'a Instance,
    event: &'static str,
    // Events that were lost before.
    lost: u64,
    done: Arc<AtomicBool>,
    thread: JoinHandle<io::Result<Counts>>,
}

impl<'a> Reader<'a> {
    fn start(
        instance: &'a Instance,
        event: &'static str,
        name: fn(&str) -> Option<String>,
    ) -> io::Result<Reader<'a>> {
        let lost = instance.lost()?;
        let path = instance.0.join("trace_pipe");
        let pipe = File::options()
            .read(true)
            .custom_flags(OFlag::O_NONBLOCK.bits())
            .open(&path)
            .map_err(|e| named(&path, &e))?;
        instance.set(&format!("{event}/enable"), "1")?;
        let done = Arc::new(AtomicBool::new(false));
        let ends = Arc::clone(&done);
        let thread = std::thread::spawn(move || count(pipe, &ends, name));
        Ok(Reader { instance, event, lost, done, thread })
    }

    fn end(self) -> io::Result<Counts> {
        self.instance.set(&format!("{}/enable", self.event), "0")?;
        self.done.store(true, Ordering::Release);
        let counts = self.thread.join().map_err(|_| io::Error::other("the reader panicked"))??;
        match self.instance.lost()?.saturating_sub(self.lost) {
            0 => Ok(counts),
            lost => Err(io::Error::other(format!("{lost} events were lost: not exact"))),
        }
    }
}

fn count(
    mut pipe: File,
    ends: &AtomicBool,
    name: fn(&str) -> Option<String>,
) -> io::Result<Counts> {
    let mut counts = Counts::new();
    let mut rest = String::new();
    let mut block = vec![0; 1 << 16];
    loop {
        // Asked before reading: what came before the end is read after it.
        let last = ends.load(Ordering::Acquire);
        match pipe.read(&mut block) {
            Ok(n) if n > 0 => {
                rest.push_str(&String::from_utf8_lossy(&block[..n]));
                let whole = rest.rfind('\n').map_or(0, |at| at + 1);
                for name in rest[..whole].lines().filter_map(name) {
                    *counts.entry(name).or_default() += 1;
                }
                rest.drain(..whole);
            }
            Err(e) if e.kind() != io::ErrorKind::WouldBlock => return Err(e),
            _ if last => return Ok(counts),
            _ => {
                let mut fds = [PollFd::new(pipe.as_fd(), PollFlags::POLLIN)];
                poll(&mut fds, PollTimeout::from(5u8))?;
            }
        }
    }
}

/// Returns the name of the message that an event is about.
fn message_of(line: &str) -> Option<String> {
    let (_, rest) = line.split_once("(FUSE_")?;
    rest.split(')').next().map(str::to_owned)
}

/// Returns the name of the system call that an event is about: `sys_enter: NR 0 (5, …`.
fn syscall_of(line: &str) -> Option<String> {
    let (_, rest) = line.split_once("sys_enter: NR ")?;
    let number = rest.split(' ').next()?.parse().ok()?;
    Some(names::syscall(number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_read() {
        let line = " cat-7 [000] ..... 9.1: fuse_request_send: connection 45 req 6 opcode 1 (FUSE_LOOKUP) len 45 ";
        assert_eq!(message_of(line).as_deref(), Some("LOOKUP"));
        let line = " fuse-8 [001] ..... 9.2: sys_enter: NR 0 (5, 7f, 1000, 0, 0, 0)";
        let name = syscall_of(line);
        if cfg!(target_arch = "x86_64") {
            assert_eq!(name.as_deref(), Some("read"));
        }
        assert_eq!(syscall_of("CPU:1 [LOST 7 EVENTS]"), None);
    }
}
