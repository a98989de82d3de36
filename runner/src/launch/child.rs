//! The container's first process: applies the steps in the new namespaces, then becomes pid 1.

use std::ffi::OsStr;
use std::os::fd::{AsFd, OwnedFd};

use nix::errno::Errno;
use nix::libc;
use nix::sched::{CloneFlags, CpuSet, sched_setaffinity, unshare};
use nix::sys::prctl;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
use nix::unistd::{Pid, sethostname, setsid};
use sys::mount::attr;
use sys::openat::{Confine, open_confined};

use crate::cgroup;
use crate::error::{Context, Error, Result};
use crate::launch::apparmor::OnExec;
use crate::launch::exec::{self, Streams};
use crate::launch::sync::{Channel, ToContainer, ToSupervisor};
use crate::launch::trace::Trace;
use crate::launch::{gate, init, parent};
use crate::rootfs::pivot::{Pivoted, pivot};
use crate::rootfs::special::TtyGroup;
use crate::rootfs::union::Union;
use crate::rootfs::{bundle, dev, mask, shim, special, union, volume};
use crate::spec::{Begin, Enter, First, Identity, Spec, Step, Version};

/// What the builder made for the steps.
#[derive(Debug)]
pub(super) struct Parts {
    /// The root, as it was prepared.
    pub(super) root: BaseRoot,
    /// The mount of the daemon for figures.
    pub(super) figures: Option<OwnedFd>,
    /// Volumes, as in the spec.
    pub(super) volumes: Vec<OwnedFd>,
    /// Devices, as in the spec.
    pub(super) devices: Vec<OwnedFd>,
    /// The program's streams, as far as the supervisor carries them.
    pub(super) streams: Vec<OwnedFd>,
    /// Where the first process begins.
    pub(super) born: Born,
    /// Mounts of the bundle, as in the spec, as far as they were opened.
    pub(super) mounts: Vec<Option<OwnedFd>>,
    /// Where somebody says that the program shall begin.
    pub(super) gate: Option<OwnedFd>,
    /// What is open until the first process is written down.
    pub(super) held: Option<OwnedFd>,
}

/// The root before it is attached.
#[derive(Debug)]
pub(super) enum BaseRoot {
    /// Merged.
    Union(Union),
    /// A copy of the mount of a bundle's directory.
    Directory(OwnedFd),
}

impl Parts {
    /// Returns those of a container that has a root and nothing else.
    pub(super) fn of(root: BaseRoot) -> Parts {
        Parts {
            root,
            figures: None,
            volumes: Vec::new(),
            devices: Vec::new(),
            streams: Vec::new(),
            born: Born::InCgroup,
            mounts: Vec::new(),
            gate: None,
            held: None,
        }
    }
}

/// Where the first process begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Born {
    /// In its cgroup of v2.
    InCgroup,
    /// In that of the builder.
    Outside,
}

/// Where the steps have come to.
struct Build<'a> {
    spec: &'a Spec,
    channel: &'a mut Channel,
    base: Option<BaseRoot>,
    mounts: Vec<Option<OwnedFd>>,
    figures: Option<OwnedFd>,
    volumes: Vec<OwnedFd>,
    devices: Vec<OwnedFd>,
    /// The merged root, once it is attached.
    root: Option<OwnedFd>,
    /// The program's end of the terminal.
    terminal: Option<OwnedFd>,
}

/// Runs the first process; doesn't return.
pub(super) fn main(channel: &mut Channel, spec: &Spec, parts: Parts) -> ! {
    let failed = match run(channel, spec, parts) {
        Ok(code) => std::process::exit(code),
        Err(e) => e,
    };
    let code = failed.exit() as i32;
    match channel.send(&ToSupervisor::Failed(failed)) {
        // With the supervisor gone there is nobody to be told.
        Ok(()) | Err(_) => std::process::exit(code),
    }
}

fn run(channel: &mut Channel, spec: &Spec, parts: Parts) -> Result<i32> {
    parent::tie(channel)?;
    // The container must not get at our memory or our program through /proc.
    prctl::set_dumpable(false).step("hide the runner's memory")?;
    prctl::set_name(c"runner-init").step("name the first process")?;
    setsid().step("make a session")?;
    for cgroup in spec.cgroups.iter().filter(|_| spec.begin == Begin::Now) {
        if !(cgroup.version == Version::V2 && parts.born == Born::InCgroup) {
            cgroup::join(cgroup)?;
        }
    }
    let on_exec = OnExec::prepare(spec.process.more.apparmor.as_ref())?;
    let trace = Trace::new(spec.trace);
    bind_cpus(&spec.process.affinity)?;
    let mut build = Build {
        spec,
        channel,
        base: Some(parts.root),
        mounts: parts.mounts,
        figures: parts.figures,
        volumes: parts.volumes,
        devices: parts.devices,
        root: None,
        terminal: None,
    };
    for step in &spec.steps {
        build.apply(step)?;
        trace.done(step);
    }
    let streams = match build.terminal.take() {
        Some(terminal) => Streams::Terminal(terminal),
        None => Streams::of(parts.streams, spec.process.stdin),
    };
    drop(build);
    on_exec.apply()?;
    let (process, identity) = (&spec.process, &spec.identity);
    let never = match (parts.gate, process.first) {
        (None, First::Init) => return init::run(channel, spec, streams),
        (None, First::Program) => {
            exec::run(channel, process, identity, streams, &mut exec::at_once)?
        }
        (Some(socket), _) => {
            let mut held = parts.held;
            let mut wait =
                |channel: &mut Channel| gate::wait(channel, &socket, held.take(), &spec.hooks);
            exec::run(channel, process, identity, streams, &mut wait)?
        }
    };
    match never {}
}

impl Build<'_> {
    fn apply(&mut self, step: &Step) -> Result<()> {
        match step {
            Step::CgroupNamespace => {
                unshare(CloneFlags::CLONE_NEWCGROUP).step("create cgroup namespace")
            }
            Step::Hostname(name) => sethostname(name).step("set the host name"),
            Step::Domainname(name) => {
                sys::net::set_domain_name(name.as_bytes()).step("set the domain name")
            }
            Step::Keyring(name) => keyring(name),
            Step::Mount(n) => self.mount(*n),
            Step::Nodes => bundle::nodes(self.root()?, &self.spec.nodes, &self.spec.identity),
            Step::DevLinks => dev::links(self.root()?),
            Step::Sysctl(name, value) => bundle::sysctl(name, value),
            Step::OuterHooks => self.outer_hooks(),
            Step::InnerHooks => gate::inner_hooks(&self.spec.hooks),
            Step::Propagation(kind, tree) => bundle::propagate_root(*kind, *tree),
            Step::Loopback => loopback(),
            Step::Root => self.attach_root(),
            Step::Proc => special::proc(self.root()?),
            Step::Sys(access) => special::sys(self.root()?, *access),
            Step::Cgroups => {
                let at = OsStr::new("/sys/fs/cgroup");
                special::cgroups(self.root()?, &self.spec.hierarchies, at, attr::RDONLY)
            }
            Step::HostSys => special::host_sys(self.root()?),
            Step::Dev => dev::dev(self.root()?),
            Step::Devpts => special::devpts(self.root()?, tty_group(&self.spec.identity)),
            Step::Shm(size) => special::shm(self.root()?, *size),
            Step::Mqueue => special::mqueue(self.root()?),
            Step::Hide(path) => special::hide(self.root()?, path),
            Step::Volume(n) => self.volume(*n),
            Step::Tmpfs(tmpfs) => special::tmpfs(self.root()?, tmpfs),
            Step::Device(n) => self.device(*n),
            Step::Network => match self.channel.expect()? {
                (ToContainer::Network, _) => Ok(()),
                _ => Err(Error::new("wait for the network", "a message of another kind came")),
            },
            Step::Shim => self.bind_figures(),
            Step::Mask(path) => mask::mask(self.root()?, OsStr::new(path)),
            Step::ReadOnly(path) => mask::read_only(self.root()?, OsStr::new(path)),
            Step::Console => self.open_terminal(),
            Step::ReadOnlyRoot => sys::mount::mount_setattr(self.root()?, attr::RDONLY)
                .step("make the root read-only"),
            Step::Pivot(how) => self.pivot(*how),
        }
    }

    fn root(&self) -> Result<&OwnedFd> {
        self.root.as_ref().ok_or_else(|| Error::new("build the container", "it has no root yet"))
    }

    fn attach_root(&mut self) -> Result<()> {
        match self.base.take() {
            Some(BaseRoot::Union(union)) => self.root = Some(union::attach(union, self.spec)?),
            Some(BaseRoot::Directory(mount)) => {
                self.root = Some(bundle::attach_root(mount)?);
            }
            None => {}
        }
        Ok(())
    }

    fn mount(&mut self, n: usize) -> Result<()> {
        let opened = self.mounts.get_mut(n).and_then(Option::take);
        match self.spec.mounts.get(n) {
            Some(mount) => bundle::put(self.root()?, mount, opened, self.spec),
            None => Err(Error::new("attach mount", "there is no such mount")),
        }
    }

    /// Lets the supervisor run hooks, and waits for them.
    fn outer_hooks(&mut self) -> Result<()> {
        self.channel.send(&ToSupervisor::Hooks)?;
        match self.channel.expect()? {
            (ToContainer::Hooked, _) => Ok(()),
            _ => Err(Error::new("wait for hooks", "a message of another kind came")),
        }
    }

    fn volume(&mut self, n: usize) -> Result<()> {
        match (self.spec.volumes.get(n), self.volumes.get(n)) {
            (Some(volume), Some(mount)) => volume::put(self.root()?, volume, mount),
            _ => Err(Error::new("attach volume", "there is no such volume")),
        }
    }

    fn device(&mut self, n: usize) -> Result<()> {
        match (self.spec.devices.get(n), self.devices.get(n)) {
            (Some(device), Some(mount)) => dev::put(self.root()?, device, mount),
            _ => Err(Error::new("bind device", "there is no such device")),
        }
    }

    fn bind_figures(&mut self) -> Result<()> {
        match &self.figures {
            Some(mount) => shim::bind(self.root()?, mount, &self.spec.state),
            None => Ok(()),
        }
    }

    /// Opens a terminal of the container's own /dev/pts, and sends the other end to the supervisor.
    fn open_terminal(&mut self) -> Result<()> {
        let root = self.root()?;
        let (master, terminal) = open_pty(root)?;
        dev::bind_console(root, &terminal)?;
        self.channel.send_fd(&ToSupervisor::Terminal, master.as_fd())?;
        self.terminal = Some(terminal);
        Ok(())
    }

    fn pivot(&mut self, how: Enter) -> Result<()> {
        if pivot(self.root()?, how)? == Pivoted::Moved && how == Enter::Pivot {
            let text = "the host's root can't be left by pivot_root (an initramfs): chroot is used";
            self.channel.send(&ToSupervisor::Weaker(text.to_owned()))?;
        }
        Ok(())
    }
}

/// Opens a new terminal of the container's /dev/pts: our end and the program's.
pub(super) fn open_pty(root: &OwnedFd) -> Result<(OwnedFd, OwnedFd)> {
    let path = OsStr::new("dev/pts/ptmx");
    let flags = libc::O_RDWR | libc::O_NOCTTY;
    let master = open_confined(root, path, flags, 0, Confine::InRoot)
        .step_at("open in the container", path)?;
    // A container that is entered again may have put something else there.
    let stat = sys::stat::stat_fd(&master).step_at("stat", path)?;
    if stat.kind() != libc::S_IFCHR || stat.rdev != libc::makedev(5, 2) {
        return Err(Error::new("open in the container", "it is no terminal").at(path));
    }
    sys::tty::unlock(&master).step("unlock the terminal")?;
    let terminal = sys::tty::peer(&master).step("open the terminal")?;
    Ok((master, terminal))
}

/// Gives the container a session keyring of its own; a kernel without keyrings, or a container around this
/// one that forbids them, has none to leak.
fn keyring(name: &str) -> Result<()> {
    let name = std::ffi::CString::new(name).step("join a keyring")?;
    match sys::keyring::join_session(&name) {
        Ok(()) | Err(Errno::ENOSYS | Errno::EPERM) => Ok(()),
        Err(e) => Err(Error::new("join a keyring", e).hint("see --no-new-keyring")),
    }
}

fn loopback() -> Result<()> {
    let socket = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)
        .step("make a socket")?;
    sys::net::loopback_up(&socket).step("bring up the loopback interface")
}

/// Binds the container to some CPUs where no cpuset could.
pub(super) fn bind_cpus(cpus: &[usize]) -> Result<()> {
    if cpus.is_empty() {
        return Ok(());
    }
    let mut set = CpuSet::new();
    cpus.iter().try_for_each(|&cpu| set.set(cpu)).step("choose CPUs")?;
    sched_setaffinity(Pid::from_raw(0), &set).step("bind to CPUs")
}

/// Whether group 5, which owns terminals, exists in the container.
fn tty_group(identity: &Identity) -> TtyGroup {
    match identity {
        Identity::Host => TtyGroup::Mapped,
        Identity::Mapped(maps) => {
            let has = |r: &crate::spec::Range| r.inside <= 5 && 5 - r.inside < r.count;
            if maps.gids.iter().any(has) { TtyGroup::Mapped } else { TtyGroup::Unmapped }
        }
    }
}

/// The code of a program that a signal ended, as shells have it.
pub(super) fn signal_code(signal: i32) -> i32 {
    128 + signal
}
