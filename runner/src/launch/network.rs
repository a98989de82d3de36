//! The container's way to other machines: pasta(1), which translates between its network namespace and
//! the host's sockets, and needs no privilege for it.

use std::convert::Infallible;
use std::ffi::CString;
use std::fs;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::prctl;
use nix::sys::signal::{Signal, kill};
use nix::sys::stat::Mode;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{
    Pid, dup2_stderr, dup2_stdin, dup2_stdout, execvp, getpid, getppid, mkfifo, setsid,
};
use sys::process::Fork;

use crate::error::{Context, Error, Exit, Result, best_effort};
use crate::launch::mapped;
use crate::spec::{Net, Port, Protocol, Spec};

/// How long the translator may take to begin.
const PATIENCE: Duration = Duration::from_secs(10);

/// The translator of one container.
pub(super) struct Network {
    state: PathBuf,
    ports: Vec<Port>,
    is_mapped: bool,
    process: Option<i32>,
}

impl Network {
    /// Returns the translator that a container is to have.
    pub(super) fn planned(spec: &Spec) -> Option<Network> {
        (spec.net == Net::Pasta).then(|| Network {
            state: PathBuf::from(&spec.state),
            ports: spec.ports.clone(),
            is_mapped: mapped(spec),
            process: None,
        })
    }

    /// Starts it for the container whose first process is `first`, and waits until it is ready.
    pub(super) fn begin(&mut self, first: i32) -> Result<()> {
        let fifo = self.state.join("pasta.ready");
        remove(&fifo);
        mkfifo(&fifo, Mode::from_bits_truncate(0o600)).step_at("create", &fifo)?;
        // Open at both ends, it waits for nobody.
        let mut ready = fs::File::options()
            .read(true)
            .write(true)
            .custom_flags(libc::O_NONBLOCK)
            .open(&fifo)
            .step_at("open", &fifo)?;
        let said = self.state.join("pasta.log");
        let log = fs::File::create(&said).step_at("create", &said)?;
        // By descriptors: the first process hides what is below its directory of /proc, and pasta gives
        // its rights away before it looks there.
        let namespaces = Namespaces::open(first, self.is_mapped)?;
        let args = arguments(&namespaces, &fifo, &self.ports);
        let pid = start(args, &log)?;
        self.process = Some(pid);
        drop(namespaces);
        let since = Instant::now();
        loop {
            if let Some(code) = ended(pid).step("wait for pasta")? {
                self.process = None;
                let said = fs::read_to_string(&said).unwrap_or_default();
                let own = |l: &&str| !l.contains("to syslog");
                let said = said.lines().filter(own).collect::<Vec<_>>().join("; ");
                if code == i32::from(Exit::NotFound as u8) && said.is_empty() {
                    return Err(Error::new("start", Errno::ENOENT)
                        .at("pasta")
                        .hint("install the package `passt`, or use --net host or --net none"));
                }
                let error = Error::new("pasta", format!("it ended with status {code}: {said}"));
                return Err(
                    match fs::File::options().read(true).write(true).open("/dev/net/tun") {
                        Ok(_) => error,
                        Err(_) => error
                            .hint("it needs /dev/net/tun: as root, run `chmod 666 /dev/net/tun`"),
                    },
                );
            }
            let mut fds = [PollFd::new(ready.as_fd(), PollFlags::POLLIN)];
            if matches!(poll(&mut fds, PollTimeout::from(50u8)), Ok(1..)) {
                break;
            }
            if since.elapsed() > PATIENCE {
                return Err(Error::new("pasta", "it did not get ready in time"));
            }
        }
        let mut number = [0u8; 32];
        best_effort("read what pasta says", ready.read(&mut number));
        remove(&fifo);
        Ok(())
    }

    /// Ends it.
    pub(super) fn end(mut self) {
        if let Some(pid) = self.process.take().map(Pid::from_raw) {
            best_effort("end pasta", kill(pid, Signal::SIGKILL));
            best_effort("wait for pasta", waitpid(pid, None));
        }
        remove(&self.state.join("pasta.log"));
        remove(&self.state.join("pasta.ready"));
    }
}

fn remove(path: &Path) {
    match fs::remove_file(path) {
        // It goes with the container at the latest.
        Ok(()) | Err(_) => {}
    }
}

/// Starts the translator as a child that ends with us; returns its pid.
fn start(args: Vec<String>, log: &fs::File) -> Result<i32> {
    let argv = std::iter::once("pasta".to_owned()).chain(args);
    let argv: Vec<CString> =
        argv.map(|a| CString::new(a).step("start pasta")).collect::<Result<_>>()?;
    let supervisor = getpid();
    match sys::process::fork().step("start pasta")? {
        Fork::Parent(pid) => Ok(pid),
        Fork::Child => {
            let code = match become_pasta(&argv, log, supervisor) {
                Ok(never) => match never {},
                Err(Errno::ENOENT) => Exit::NotFound,
                Err(_) => Exit::CannotRun,
            };
            std::process::exit(code as i32)
        }
    }
}

fn become_pasta(argv: &[CString], log: &fs::File, supervisor: Pid) -> nix::Result<Infallible> {
    prctl::set_pdeathsig(Signal::SIGKILL)?;
    // It may have ended before the line above.
    if getppid() != supervisor {
        return Err(Errno::ESRCH);
    }
    setsid()?;
    let null = fs::File::options().read(true).write(true).open("/dev/null");
    let null = null.map_err(|_| Errno::ENODEV)?;
    dup2_stdin(&null)?;
    dup2_stdout(&null)?;
    dup2_stderr(log)?;
    sys::process::reset_signals()?;
    let name = argv.first().ok_or(Errno::EINVAL)?;
    execvp(name, argv)
}

/// Returns the status of a child that has ended.
fn ended(pid: i32) -> nix::Result<Option<i32>> {
    Ok(match waitpid(Pid::from_raw(pid), Some(WaitPidFlag::WNOHANG))? {
        WaitStatus::Exited(_, code) => Some(code),
        WaitStatus::Signaled(_, signal, _) => Some(128 + signal as i32),
        _ => None,
    })
}

/// The namespaces that it enters, open for it to inherit.
struct Namespaces {
    network: OwnedFd,
    user: Option<OwnedFd>,
}

impl Namespaces {
    fn open(first: i32, is_mapped: bool) -> Result<Namespaces> {
        let open = |kind: &str| {
            let path = format!("/proc/{first}/ns/{kind}");
            let fd: OwnedFd = fs::File::open(&path).step_at("open", &path)?.into();
            sys::process::keep_on_exec(&fd).step("hand over a namespace")?;
            Ok(fd)
        };
        let user = is_mapped.then(|| open("user")).transpose()?;
        Ok(Namespaces { network: open("net")?, user })
    }
}

fn arguments(namespaces: &Namespaces, ready: &Path, ports: &[Port]) -> Vec<String> {
    let own = |s: &str| s.to_owned();
    let mut all = vec![own("--foreground"), own("--quiet"), own("--config-net")];
    all.extend([own("--no-map-gw"), own("--pid"), ready.display().to_string()]);
    // What the container listens on is the host's only where it was asked for, and the other way round.
    for option in ["-T", "-U"] {
        all.extend([own(option), own("none")]);
    }
    for (option, protocol) in [("-t", Protocol::Tcp), ("-u", Protocol::Udp)] {
        let mut none = true;
        for p in ports.iter().filter(|p| p.protocol == protocol) {
            none = false;
            let address =
                if p.address.is_empty() { String::new() } else { format!("{}/", p.address) };
            all.extend([own(option), format!("{address}{}:{}", p.host, p.container)]);
        }
        if none {
            all.extend([own(option), own("none")]);
        }
    }
    match &namespaces.user {
        Some(user) => all.extend([own("--userns"), sys::openat::proc_path(user)]),
        // Root's containers share its user namespace, and pasta its rights to enter another network.
        None => all.extend([own("--netns-only"), own("--runas"), own("0:0")]),
    }
    all.extend([own("--netns"), sys::openat::proc_path(&namespaces.network)]);
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_named_with_their_protocol() {
        let port = |protocol, address: &str| Port {
            address: address.into(),
            host: 8080,
            container: 80,
            protocol,
        };
        let null = || fs::File::open("/dev/null").unwrap().into();
        let namespaces = Namespaces { network: null(), user: Some(null()) };
        let all = arguments(&namespaces, Path::new("/r"), &[port(Protocol::Tcp, "127.0.0.1")]);
        let text = all.join(" ");
        assert!(text.contains("-t 127.0.0.1/8080:80 -u none"), "{text}");
        assert!(text.contains("--userns /proc/self/fd/"), "{text}");
    }
}
