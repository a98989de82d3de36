//! What a read costs, counted: messages of the kernel, and system calls of the daemon.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use support::privilege::Missing;
use support::requests::{Counter, summary};
use support::{Scratch, require};

use crate::seen::{fuse, no_args};
use crate::shim::Shim;
use crate::survival::next_worker;

/// How long a text is given again.
const GOOD_FOR: Duration = Duration::from_millis(5);

/// Opens a file, reads to its end, and closes it.
fn read(path: &Path) {
    let mut file = std::fs::File::open(path).expect("open");
    let mut room = [0; 65536];
    while file.read(&mut room).expect("read") > 0 {}
}

#[test]
fn a_read_takes_four_messages() {
    let test = "a_read_takes_four_messages";
    require!(test, fuse());
    let shim = Shim::start(&no_args());
    let counter = Counter::new(shim.path());
    require!(test, counter.as_ref().map(drop).map_err(Clone::clone));
    let counter = counter.expect("found above");
    let path = shim.file("proc/meminfo");
    read(&path);
    let messages = counter.count(|| (0..10).for_each(|_| read(&path)));
    assert_eq!(summary(&messages), "10 OPEN, 20 READ, 10 RELEASE");
}

/// Counts the system calls of some threads, by number.
struct Calls {
    instance: PathBuf,
    tracefs: PathBuf,
    _scratch: Scratch,
}

impl Calls {
    fn of(threads: &[i32]) -> Result<Calls, Missing> {
        let scratch = Scratch::new();
        let tracefs = scratch.dir("trace");
        mount(Some("tracefs"), &tracefs, Some("tracefs"), MsFlags::empty(), None::<&str>)
            .map_err(|e| Missing::Kernel(format!("no tracefs ({})", e.desc())))?;
        let name = scratch.path().file_name().expect("a scratch name").to_owned();
        let calls =
            Calls { instance: tracefs.join("instances").join(name), tracefs, _scratch: scratch };
        std::fs::create_dir(&calls.instance)
            .map_err(|e| Missing::Kernel(format!("no trace instance ({e})")))?;
        if !calls.instance.join("events/raw_syscalls/sys_enter").exists() {
            return Err(Missing::Kernel("no trace event raw_syscalls:sys_enter".into()));
        }
        let all: Vec<String> = threads.iter().map(i32::to_string).collect();
        calls.set("buffer_size_kb", "8192");
        calls.set("set_event_pid", &all.join(" "));
        Ok(calls)
    }

    fn count(&self, action: impl FnOnce()) -> BTreeMap<u32, u64> {
        self.set("trace", "");
        self.set("events/raw_syscalls/sys_enter/enable", "1");
        action();
        self.set("events/raw_syscalls/sys_enter/enable", "0");
        let text = std::fs::read_to_string(self.instance.join("trace")).expect("read the trace");
        let mut calls = BTreeMap::new();
        let number = |l: &str| l.split_once("NR ")?.1.split(' ').next()?.parse::<u32>().ok();
        for number in text.lines().filter_map(number) {
            *calls.entry(number).or_default() += 1;
        }
        calls
    }

    fn set(&self, file: &str, value: &str) {
        let path = self.instance.join(file);
        std::fs::write(&path, value).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    }
}

impl Drop for Calls {
    fn drop(&mut self) {
        if let Err(e) = std::fs::remove_dir(&self.instance) {
            eprintln!("remove {}: {e}", self.instance.display());
        }
        if let Err(e) = umount2(&self.tracefs, MntFlags::MNT_DETACH) {
            eprintln!("unmount {}: {e}", self.tracefs.display());
        }
    }
}

#[test]
fn readers_that_come_together_cost_two_system_calls_a_message() {
    let test = "readers_that_come_together_cost_two_system_calls_a_message";
    require!(test, fuse());
    const READS: u64 = 500;
    let shim = Shim::start(&no_args());
    // Once it has answered, its threads are there.
    shim.read("proc/uptime");
    let worker = next_worker(shim.pid(), &Default::default());
    let tasks = std::fs::read_dir(format!("/proc/{worker}/task")).expect("its threads");
    let is_server = |tid: &i32| {
        let name = std::fs::read_to_string(format!("/proc/{worker}/task/{tid}/comm"));
        name.is_ok_and(|name| name.starts_with("fuser"))
    };
    let tasks = tasks.filter_map(|t| t.ok()?.file_name().to_str()?.parse().ok());
    let servers: Vec<i32> = tasks.filter(is_server).collect();
    assert!(!servers.is_empty(), "its threads are called otherwise");
    let calls = Calls::of(&servers);
    require!(test, calls.as_ref().map(drop).map_err(Clone::clone));
    let calls = calls.expect("found above");
    for name in ["proc/meminfo", "proc/stat", "proc/uptime", "proc/cpuinfo", "proc/loadavg"] {
        let path = shim.file(name);
        read(&path);
        let began = Instant::now();
        let counted = calls.count(|| (0..READS).for_each(|_| read(&path)));
        // How often the text may have been made anew, however slow the machine was.
        let anew = u64::try_from(began.elapsed().as_nanos() / GOOD_FOR.as_nanos()).expect("") + 2;
        let total: u64 = counted.values().sum();
        assert!(total >= 8 * READS, "{name}: {counted:?}");
        assert!(total <= 8 * READS + 14 * anew + 20, "{name}: {anew} times anew: {counted:?}");
    }
}
