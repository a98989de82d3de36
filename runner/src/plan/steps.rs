//! Decides what the container's first process does, and in which order.

use std::ffi::OsString;
use std::path::Path;

use sys::mount::attr;

use crate::spec::{
    Access, Driver, Enter, Figures, Identity, Net, OwnCgroups, Request, Step, Terminal, Tmpfs,
};

/// Paths that nobody may read: they tell of the host, or let it be harmed (the list of podman).
const MASKED: [&str; 13] = [
    "/proc/acpi",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/dev/block",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
    "/sys/fs/selinux",
];

/// Paths of /proc that nobody may write to (the OCI defaults).
const READ_ONLY: [&str; 6] =
    ["/proc/asound", "/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// Returns the steps. What a later step resolves paths through must be there before it, and what
/// covers must come after what it covers.
pub(super) fn decide(
    request: &Request,
    identity: &Identity,
    hidden: Option<OsString>,
    layers: &[OsString],
) -> Vec<Step> {
    let security = &request.security;
    let mut steps = vec![Step::CgroupNamespace, Step::Hostname(request.hostname.clone())];
    let own_network = request.network.net.is_own();
    if own_network {
        steps.push(Step::Loopback);
    }
    steps.extend([Step::Root, Step::Proc]);
    // Only the owner of the network namespace may mount a sysfs of it.
    if own_network || *identity == Identity::Host {
        let access = if security.privileged { Access::ReadWrite } else { Access::ReadOnly };
        steps.push(Step::Sys(access));
        if request.cgroups == OwnCgroups::Enabled {
            steps.push(Step::Cgroups);
        }
    } else {
        steps.push(Step::HostSys);
    }
    steps.extend([Step::Dev, Step::Devpts, Step::Shm(request.shm_size), Step::Mqueue]);
    steps.extend(hidden.map(Step::Hide));
    steps.extend(in_memory(request, layers));
    steps.extend((0..request.volumes.len()).map(Step::Volume));
    steps.extend((0..request.devices.len()).map(Step::Device));
    if request.figures == Figures::Container {
        steps.push(Step::Shim);
    }
    let open = |p: &str| {
        security.privileged
            || security.unmask.iter().any(|u| u == "ALL" || u.trim_end_matches('/') == p)
    };
    steps.extend(MASKED.iter().filter(|p| !open(p)).map(|p| Step::Mask((*p).to_owned())));
    steps.extend(READ_ONLY.iter().filter(|p| !open(p)).map(|p| Step::ReadOnly((*p).to_owned())));
    steps.extend(security.mask.iter().map(|p| Step::Mask(p.clone())));
    if request.process.terminal == Terminal::New {
        steps.push(Step::Console);
    }
    if request.root_access == Access::ReadOnly && request.driver != Driver::None {
        steps.push(Step::ReadOnlyRoot);
    }
    if request.network.net == Net::Pasta {
        steps.push(Step::Network);
    }
    steps.push(Step::Pivot(Enter::Pivot));
    steps
}

/// Returns the file systems in memory: those asked for, and with a read-only root those that programs
/// can't do without; where nothing can be made for them, as far as the root has the place.
fn in_memory(request: &Request, layers: &[OsString]) -> Vec<Step> {
    let has_place = |target: &str| {
        let below = target.trim_start_matches('/');
        request.driver != Driver::None || layers.iter().any(|l| Path::new(l).join(below).is_dir())
    };
    let mut all = request.tmpfs.clone();
    if request.root_access == Access::ReadOnly {
        for target in ["/run", "/tmp", "/var/tmp"] {
            let covered = all.iter().any(|t| t.target == target)
                || request.volumes.iter().any(|v| v.target == target);
            if !covered && has_place(target) {
                let mode = if target == "/run" { "0755" } else { "1777" };
                all.push(Tmpfs {
                    target: target.into(),
                    options: vec![("mode".to_owned(), mode.to_owned())],
                    attributes: attr::NOSUID | attr::NODEV,
                });
            }
        }
    }
    all.into_iter().map(Step::Tmpfs).collect()
}
