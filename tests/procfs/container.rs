//! A container of real cgroups and namespaces that leaves nothing behind, also after a panic.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use support::privilege::{Missing, root};

/// Where v1 controllers are mounted on the machines that these tests know.
const CGROUPS: &str = "/sys/fs/cgroup";

/// Where the unified hierarchy is mounted beside them.
pub(crate) const UNIFIED: &str = "/sys/fs/cgroup/unified";

/// What limits a container.
#[derive(Clone, Debug, Default)]
pub(crate) struct Limits {
    /// `memory.limit_in_bytes`.
    pub(crate) memory: Option<u64>,
    /// Quota in microseconds of a period of 100 ms.
    pub(crate) quota: Option<u64>,
    /// `cpuset.cpus`.
    pub(crate) cpus: Option<&'static str>,
    /// Which hierarchy counts processor time.
    pub(crate) time: Time,
}

/// A hierarchy that counts processor time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Time {
    /// cpuacct.
    #[default]
    V1,
    /// The unified hierarchy alone.
    Unified,
}

/// Cgroups of one name below each v1 controller that is needed. Dropping kills what runs in them and
/// removes them.
#[derive(Debug)]
pub(crate) struct Cgroups {
    dirs: Vec<PathBuf>,
}

/// Says what is missing to limit a container by cgroup v1.
pub(crate) fn v1_controllers() -> Result<(), Missing> {
    root()?;
    for name in ["memory", "cpu", "cpuacct", "cpuset"] {
        if !Path::new(CGROUPS).join(name).join("cgroup.procs").exists() {
            return Err(Missing::Kernel(format!("no cgroup v1 controller {name} is mounted")));
        }
    }
    Ok(())
}

fn write(path: &Path, text: &str) {
    fs::write(path, text).unwrap_or_else(|e| panic!("write {text} to {}: {e}", path.display()));
}

impl Cgroups {
    /// Makes the cgroups.
    pub(crate) fn new(limits: &Limits) -> Cgroups {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("shim-test-{}-{number}", std::process::id());
        let mut groups = Cgroups { dirs: Vec::new() };
        for controller in ["memory", "cpu", "cpuacct", "cpuset"] {
            let dir = Path::new(CGROUPS).join(controller).join(&name);
            fs::create_dir(&dir).expect("make a cgroup");
            groups.dirs.push(dir);
        }
        if limits.time == Time::Unified {
            // The processes stay in the controller's root.
            let cpuacct = groups.dirs.remove(2);
            fs::remove_dir(cpuacct).expect("remove the cgroup");
        }
        if Path::new(UNIFIED).join("cgroup.procs").exists() {
            let dir = Path::new(UNIFIED).join(&name);
            fs::create_dir(&dir).expect("make a unified cgroup");
            groups.dirs.push(dir);
        }
        let (memory, cpu, cpuset) = (groups.dir("memory"), groups.dir("cpu"), groups.dir("cpuset"));
        if let Some(bytes) = limits.memory {
            write(&memory.join("memory.limit_in_bytes"), &bytes.to_string());
        }
        if let Some(quota) = limits.quota {
            write(&cpu.join("cpu.cfs_quota_us"), &quota.to_string());
        }
        for file in ["cpuset.mems", "cpuset.cpus"] {
            let above = Path::new(CGROUPS).join("cpuset").join(file);
            write(&cpuset.join(file), &fs::read_to_string(above).expect("the root's cpuset"));
        }
        if let Some(cpus) = limits.cpus {
            write(&cpuset.join("cpuset.cpus"), cpus);
        }
        groups
    }

    /// Returns the cgroup of a controller.
    fn dir(&self, controller: &str) -> &Path {
        let of = |d: &&PathBuf| d.starts_with(Path::new(CGROUPS).join(controller));
        self.dirs.iter().find(of).expect("a cgroup of the controller")
    }

    /// Sets the memory limit anew.
    pub(crate) fn limit_memory(&self, bytes: u64) {
        write(&self.dir("memory").join("memory.limit_in_bytes"), &bytes.to_string());
    }

    /// Allows other processors.
    pub(crate) fn limit_cpus(&self, cpus: &str) {
        write(&self.dir("cpuset").join("cpuset.cpus"), cpus);
    }

    /// The shell's words to enter them.
    pub(crate) fn enter(&self) -> String {
        let one = |dir: &PathBuf| format!("echo $$ > {}/cgroup.procs; ", dir.display());
        self.dirs.iter().map(one).collect()
    }
}

impl Drop for Cgroups {
    fn drop(&mut self) {
        for dir in &self.dirs {
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
                std::thread::sleep(std::time::Duration::from_millis(10));
            }
        }
    }
}

/// How a container's processes are kept apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Namespaces {
    /// Of its own: pid, mount.
    Own,
    /// Of its own: pid, mount, and a time that starts with it.
    OwnTime,
    /// A mount namespace alone: it sees the machine's processes.
    HostPid,
}

/// A container with the files of `mount` bound over its /proc. Its init is a shell that runs until
/// the container is dropped.
#[derive(Debug)]
pub(crate) struct Container {
    child: Child,
    init: i32,
    namespaces: Namespaces,
    // Dropped last: by then nothing runs in them.
    groups: Cgroups,
}

/// The files that are bound.
const BIND: &str = r#"for f in "$1"/proc/*; do [ -f "$f" ] && mount --bind "$f" "/proc/${f##*/}"; done
mount --bind "$1/sys/devices/system/cpu/online" /sys/devices/system/cpu/online
"#;

impl Container {
    /// Starts one; returns when its init runs and the files are bound.
    pub(crate) fn start(mount: &Path, limits: &Limits, namespaces: Namespaces) -> Container {
        let mut container = Container::start_bare(limits, namespaces);
        container.bind(mount);
        container
    }

    /// Starts one whose /proc is the kernel's.
    pub(crate) fn start_bare(limits: &Limits, namespaces: Namespaces) -> Container {
        let groups = Cgroups::new(limits);
        let unshare = match namespaces {
            Namespaces::Own => {
                "exec unshare -m --propagation slave -p -f --kill-child --mount-proc".to_owned()
            }
            Namespaces::OwnTime => {
                let up = fs::read_to_string("/proc/uptime").expect("the uptime");
                let seconds = up.split('.').next().expect("seconds");
                format!(
                    "exec unshare -m --propagation slave -p -f -T --boottime -{seconds} --kill-child --mount-proc"
                )
            }
            Namespaces::HostPid => "exec unshare -m --propagation slave".to_owned(),
        };
        let script = format!(
            "{}{unshare} sh -c 'echo up; while read -r line; do eval \"$line\"; done'",
            groups.enter()
        );
        let mut child = Command::new("sh")
            .args(["-c", &script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("start a container");
        let mut line = [0; 3];
        std::io::Read::read_exact(child.stdout.as_mut().expect("a pipe"), &mut line)
            .expect("the container says that it is up");
        let pid = i32::try_from(child.id()).expect("a pid");
        let init = if namespaces == Namespaces::HostPid { pid } else { only_child(pid) };
        Container { child, init, namespaces, groups }
    }

    /// Binds the files of a mount over the container's.
    pub(crate) fn bind(&mut self, mount: &Path) {
        let out = self.run_with(&format!("set -e\n{BIND}"), &[mount.to_str().expect("a path")]);
        assert!(out.status.success(), "bind: {}", String::from_utf8_lossy(&out.stderr));
    }

    /// The init's number.
    pub(crate) fn init(&self) -> i32 {
        self.init
    }

    /// Its cgroups.
    pub(crate) fn groups(&self) -> &Cgroups {
        &self.groups
    }

    /// Runs a script inside, as a process that the init has not started, and returns what it said.
    pub(crate) fn sh(&self, script: &str) -> String {
        let out = self.run_with(script, &[]);
        let said = String::from_utf8_lossy(&out.stdout).into_owned();
        let errors = String::from_utf8_lossy(&out.stderr);
        assert!(out.status.success(), "{script}: {said}{errors}");
        said
    }

    /// Starts a script inside that runs until the container is dropped.
    pub(crate) fn spawn(&mut self, script: &str) {
        let stdin = self.child.stdin.as_mut().expect("a pipe");
        writeln!(stdin, "( {script} ) &").expect("tell the init what to start");
    }

    fn run_with(&self, script: &str, args: &[&str]) -> Output {
        let init = self.init.to_string();
        let mut enter = vec!["nsenter", "-t", &init, "-m"];
        match self.namespaces {
            Namespaces::Own => enter.push("-p"),
            Namespaces::OwnTime => enter.extend(["-p", "-T"]),
            Namespaces::HostPid => {}
        }
        enter.extend(["sh", "-c"]);
        let command = format!("{}exec \"$@\"", self.groups.enter());
        Command::new("sh")
            .args(["-c", &command, "sh"])
            .args(enter)
            .args([script, "sh"])
            .args(args)
            .output()
            .expect("run inside the container")
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        // `unshare --kill-child` takes the init and all of its namespace along.
        for done in [self.child.kill(), self.child.wait().map(drop)] {
            if let Err(e) = done {
                eprintln!("end of a container: {e}");
            }
        }
    }
}

fn only_child(pid: i32) -> i32 {
    let path = format!("/proc/{pid}/task/{pid}/children");
    let children = fs::read_to_string(&path).expect("the children");
    children.split_ascii_whitespace().next().expect("one child").parse().expect("a pid")
}
