//! Cgroups of one name in each hierarchy that the machine has: made, limited, read, and removed.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::privilege::{Missing, root};

/// Where hierarchies are mounted on the machines that these tests know.
const ROOT: &str = "/sys/fs/cgroup";

/// Length of a period of a processor quota, in microseconds.
const PERIOD: u64 = 100_000;

/// Controllers of cgroup v1 that limits and figures need.
const CONTROLLERS: [&str; 6] = ["memory", "cpu", "cpuacct", "cpuset", "blkio", "pids"];

/// What limits a container.
#[derive(Clone, Debug, Default)]
pub struct Limits {
    /// Memory in bytes.
    pub memory: Option<u64>,
    /// Swap in bytes, beside the memory.
    pub swap: Option<u64>,
    /// Processor time in microseconds of each 100 ms.
    pub quota: Option<u64>,
    /// Processors, as `cpuset.cpus` takes them.
    pub cpus: Option<String>,
    /// A block device whose use is to be counted, as `MAJOR:MINOR`: v1 counts only where a limit is.
    pub device: Option<String>,
}

/// What of the machine's hierarchies is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// One hierarchy for each controller, and maybe the unified one beside them.
    V1,
    /// The unified hierarchy alone.
    V2,
}

/// Returns which hierarchies have the controllers.
///
/// # Errors
/// Not root, or the controllers are nowhere.
pub fn version() -> Result<Version, Missing> {
    root()?;
    let lists = fs::read_to_string(format!("{ROOT}/cgroup.controllers")).unwrap_or_default();
    if ["memory", "cpu", "cpuset", "io"].iter().all(|c| lists.split_whitespace().any(|l| l == *c)) {
        return Ok(Version::V2);
    }
    for name in CONTROLLERS {
        if !Path::new(ROOT).join(name).join("cgroup.procs").exists() {
            return Err(Missing::Kernel(format!("no cgroup controller {name} is mounted")));
        }
    }
    Ok(Version::V1)
}

/// Cgroups of one container. Dropping kills what runs in them and removes them.
#[derive(Debug)]
pub struct Cgroups {
    version: Version,
    /// By controller; the unified hierarchy has the empty name.
    dirs: BTreeMap<&'static str, PathBuf>,
}

/// What a cgroup did on a block device, since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DeviceUse {
    /// Bytes read.
    pub read: u64,
    /// Bytes written.
    pub written: u64,
}

fn write(path: &Path, text: &str) {
    fs::write(path, text).unwrap_or_else(|e| panic!("write {text} to {}: {e}", path.display()));
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|e| panic!("read {}: {e}", path.display()))
}

fn number(path: &Path) -> u64 {
    let text = read(path);
    text.trim().parse().unwrap_or_else(|_| panic!("{}: {text} is no number", path.display()))
}

impl Cgroups {
    /// Makes cgroups with these limits.
    pub fn new(limits: &Limits) -> Cgroups {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("figures-test-{}-{number}", std::process::id());
        let version = version().expect("the caller asked for controllers");
        let mut groups = Cgroups { version, dirs: BTreeMap::new() };
        match version {
            Version::V1 => groups.make_v1(&name, limits),
            Version::V2 => groups.make_v2(&name, limits),
        }
        groups
    }

    fn make(&mut self, controller: &'static str, dir: PathBuf) {
        fs::create_dir(&dir).unwrap_or_else(|e| panic!("make {}: {e}", dir.display()));
        self.dirs.insert(controller, dir);
    }

    fn make_v1(&mut self, name: &str, limits: &Limits) {
        for controller in CONTROLLERS {
            self.make(controller, Path::new(ROOT).join(controller).join(name));
        }
        let unified = Path::new(ROOT).join("unified");
        if unified.join("cgroup.procs").exists() {
            self.make("", unified.join(name));
        }
        for file in ["cpuset.mems", "cpuset.cpus"] {
            self.set("cpuset", file, &read(&Path::new(ROOT).join("cpuset").join(file)));
        }
        if let Some(bytes) = limits.memory {
            self.set("memory", "memory.limit_in_bytes", &bytes.to_string());
        }
        if let (Some(memory), Some(swap)) = (limits.memory, limits.swap) {
            self.set("memory", "memory.memsw.limit_in_bytes", &(memory + swap).to_string());
        }
        if let Some(quota) = limits.quota {
            self.set("cpu", "cpu.cfs_quota_us", &quota.to_string());
        }
        if let Some(cpus) = &limits.cpus {
            self.set("cpuset", "cpuset.cpus", cpus);
        }
        if let Some(device) = &limits.device {
            for file in ["read_bps_device", "write_bps_device"] {
                let file = format!("blkio.throttle.{file}");
                self.set("blkio", &file, &format!("{device} {}", 1u64 << 40));
            }
        }
    }

    fn make_v2(&mut self, name: &str, limits: &Limits) {
        for controller in ["memory", "cpu", "cpuset", "io", "pids"] {
            write(&Path::new(ROOT).join("cgroup.subtree_control"), &format!("+{controller}"));
        }
        self.make("", Path::new(ROOT).join(name));
        let limit = |value: Option<u64>| value.map_or("max".to_owned(), |v| v.to_string());
        self.set("", "memory.max", &limit(limits.memory));
        // Without swap in the kernel there is no such file.
        if self.dir("").join("memory.swap.max").exists() {
            self.set("", "memory.swap.max", &limit(limits.swap));
        }
        self.set("", "cpu.max", &format!("{} {PERIOD}", limit(limits.quota)));
        if let Some(cpus) = &limits.cpus {
            self.set("", "cpuset.cpus", cpus);
        }
    }

    /// Which kind they are.
    pub fn version(&self) -> Version {
        self.version
    }

    /// Returns the cgroup of a controller by its v1 name, in whichever hierarchy it is.
    pub fn dir(&self, controller: &str) -> &Path {
        let unified = || self.dirs.get("").expect("a cgroup of the unified hierarchy");
        self.dirs.get(controller).unwrap_or_else(unified)
    }

    /// Writes a file of a cgroup.
    pub fn set(&self, controller: &str, file: &str, value: &str) {
        write(&self.dir(controller).join(file), value);
    }

    /// The shell's words to enter all of them.
    pub fn enter(&self) -> String {
        let one = |dir: &PathBuf| format!("echo $$ > {}/cgroup.procs; ", dir.display());
        self.dirs.values().map(one).collect()
    }

    /// Returns the bytes of memory in use.
    pub fn memory_used(&self) -> u64 {
        let file = match self.version {
            Version::V1 => "memory.usage_in_bytes",
            Version::V2 => "memory.current",
        };
        number(&self.dir("memory").join(file))
    }

    /// Returns the bytes of swap in use.
    pub fn swap_used(&self) -> u64 {
        let dir = self.dir("memory");
        match self.version {
            Version::V1 => {
                let file = dir.join("memory.memsw.usage_in_bytes");
                let both = if file.exists() { number(&file) } else { 0 };
                both.saturating_sub(self.memory_used())
            }
            Version::V2 if dir.join("memory.swap.current").exists() => {
                number(&dir.join("memory.swap.current"))
            }
            Version::V2 => 0,
        }
    }

    /// Returns what the memory is used for, by v2's names; v1's sums over the tree are given those.
    pub fn memory_stat(&self) -> BTreeMap<String, u64> {
        let text = read(&self.dir("memory").join("memory.stat"));
        let pairs = text.lines().filter_map(|line| {
            let (name, value) = line.split_once(' ')?;
            let name = match self.version {
                Version::V1 => v2_name(name.strip_prefix("total_")?),
                Version::V2 => name,
            };
            Some((name.to_owned(), value.parse().ok()?))
        });
        pairs.collect()
    }

    /// Returns the processor time used.
    pub fn cpu_time(&self) -> Duration {
        match self.version {
            Version::V1 => Duration::from_nanos(number(&self.dir("cpuacct").join("cpuacct.usage"))),
            Version::V2 => {
                let text = read(&self.dir("").join("cpu.stat"));
                let usage = text.lines().find_map(|l| l.strip_prefix("usage_usec "));
                Duration::from_micros(usage.and_then(|u| u.parse().ok()).expect("usage_usec"))
            }
        }
    }

    /// Returns what was done on a device (`MAJOR:MINOR`).
    pub fn device_use(&self, device: &str) -> DeviceUse {
        let word = |line: &str, key: &str| -> u64 {
            let found = line.split_whitespace().find_map(|w| w.strip_prefix(key));
            found.and_then(|v| v.parse().ok()).unwrap_or(0)
        };
        let dir = self.dir("blkio");
        match self.version {
            Version::V1 => {
                let text = read(&dir.join("blkio.throttle.io_service_bytes_recursive"));
                let of = |what: &str| -> u64 {
                    let start = format!("{device} {what} ");
                    let line = text.lines().find_map(|l| l.strip_prefix(&start));
                    line.and_then(|v| v.parse().ok()).unwrap_or(0)
                };
                DeviceUse { read: of("Read"), written: of("Write") }
            }
            Version::V2 => {
                let text = read(&dir.join("io.stat"));
                let start = format!("{device} ");
                let line = text.lines().find(|l| l.starts_with(&start)).unwrap_or_default();
                DeviceUse { read: word(line, "rbytes="), written: word(line, "wbytes=") }
            }
        }
    }

    /// Returns the processes in them.
    pub fn processes(&self) -> Vec<i32> {
        let text = read(&self.dir("cpu").join("cgroup.procs"));
        text.lines().filter_map(|p| p.parse().ok()).collect()
    }

    /// Returns the number of their threads.
    pub fn threads(&self) -> u64 {
        let of = |pid: &i32| fs::read_dir(format!("/proc/{pid}/task")).map_or(0, Iterator::count);
        self.processes().iter().map(|pid| of(pid) as u64).sum()
    }
}

/// Returns v2's name of a figure of v1's `memory.stat`.
fn v2_name(name: &str) -> &str {
    match name {
        "rss" => "anon",
        "rss_huge" => "anon_thp",
        "cache" => "file",
        "mapped_file" => "file_mapped",
        "dirty" => "file_dirty",
        "writeback" => "file_writeback",
        other => other,
    }
}

impl Drop for Cgroups {
    fn drop(&mut self) {
        for dir in self.dirs.values() {
            // A cgroup is busy until the last of its processes is reaped.
            for _ in 0..200 {
                let procs = fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
                for pid in procs.lines().filter_map(|p| p.parse().ok()) {
                    if let Err(e) = kill(Pid::from_raw(pid), Signal::SIGKILL) {
                        // ESRCH: it is gone already.
                        eprintln!("kill {pid}: {e}");
                    }
                }
                if fs::remove_dir(dir).is_ok() {
                    break;
                }
                std::thread::sleep(Duration::from_millis(10));
            }
        }
    }
}
