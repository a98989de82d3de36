//! The container's way to other machines: pasta(1), which translates between its network namespace and
//! the host's sockets, and needs no privilege for it.

use std::fs;
use std::io::Read;
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

use crate::error::{Context, Error, Result, best_effort};
use crate::launch::mapped;
use crate::spec::{Net, Port, Protocol, Spec};

/// How long the translator may take to begin.
const PATIENCE: Duration = Duration::from_secs(10);

/// The translator of one container.
pub(super) struct Network {
    state: PathBuf,
    ports: Vec<Port>,
    is_mapped: bool,
    process: Option<Child>,
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
        let child = Command::new("pasta")
            .args(arguments(first, self.is_mapped, &fifo, &self.ports))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .map_err(|e| {
                Error::new("start", e).at("pasta").hint_if(
                    nix::errno::Errno::ENOENT,
                    "install the package `passt`, or use --net host or --net none",
                )
            })?;
        let child = self.process.insert(child);
        let since = Instant::now();
        loop {
            if let Some(status) = child.try_wait().step("wait for pasta")? {
                let said = fs::read_to_string(&said).unwrap_or_default();
                let said = said.trim().replace('\n', "; ");
                return Err(Error::new("pasta", format!("it ended with {status}: {said}"))
                    .hint("it needs /dev/net/tun, which everybody must be able to open"));
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
        if let Some(child) = &mut self.process {
            best_effort("end pasta", child.kill());
            best_effort("wait for pasta", child.wait());
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

fn arguments(first: i32, is_mapped: bool, ready: &Path, ports: &[Port]) -> Vec<String> {
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
    match is_mapped {
        true => all.extend([own("--userns"), format!("/proc/{first}/ns/user")]),
        // Root's containers share its user namespace, and pasta its rights to enter another network.
        false => all.extend([own("--netns-only"), own("--runas"), own("0:0")]),
    }
    all.extend([own("--netns"), format!("/proc/{first}/ns/net")]);
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
        let all = arguments(7, true, Path::new("/r"), &[port(Protocol::Tcp, "127.0.0.1")]);
        let text = all.join(" ");
        assert!(text.contains("-t 127.0.0.1/8080:80 -u none"), "{text}");
        assert!(text.ends_with("--userns /proc/7/ns/user --netns /proc/7/ns/net"), "{text}");
    }
}
