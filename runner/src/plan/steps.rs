//! Decides what the container's first process does, and in which order.

use std::ffi::OsString;

use crate::plan::Request;
use crate::spec::{Access, Identity, Net, Step, Terminal};

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
    hostname: &str,
    volumes: usize,
    hidden: Option<OsString>,
) -> Vec<Step> {
    let mut steps = vec![Step::CgroupNamespace, Step::Hostname(hostname.to_owned())];
    if request.net == Net::None {
        steps.push(Step::Loopback);
    }
    steps.extend([Step::Root, Step::Proc]);
    // Only the owner of the network namespace may mount a sysfs of it.
    let owns_network = request.net == Net::None || *identity == Identity::Host;
    if owns_network {
        steps.extend([Step::Sys, Step::Cgroups]);
    } else {
        steps.push(Step::HostSys);
    }
    steps.extend([Step::Dev, Step::Devpts, Step::Shm, Step::Mqueue]);
    steps.extend(hidden.map(Step::Hide));
    steps.extend((0..volumes).map(Step::Volume));
    steps.push(Step::Shim);
    steps.extend(MASKED.iter().map(|p| Step::Mask((*p).to_owned())));
    steps.extend(READ_ONLY.iter().map(|p| Step::ReadOnly((*p).to_owned())));
    if request.process.terminal == Terminal::New {
        steps.push(Step::Console);
    }
    if request.root_access == Access::ReadOnly {
        steps.push(Step::ReadOnlyRoot);
    }
    steps.push(Step::Pivot);
    steps
}
