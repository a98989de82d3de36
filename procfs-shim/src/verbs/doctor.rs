//! `procfs-shim doctor`: what the machine has, and what follows for the files.

use std::path::Path;
use std::process::ExitCode;

use clap::Args;
use serde_json::{Value, json};

use crate::cgroup::{Controller, Hierarchy, Tree, Version};
use crate::error::StartError;

/// Arguments.
#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Something that was looked at.
#[derive(Debug)]
struct Finding {
    what: &'static str,
    is_fine: bool,
    found: String,
    /// What happens as it is so; what to do, where it isn't fine.
    so: &'static str,
}

/// Prints what is found; exit code 1 where something is missing.
///
/// # Errors
/// /proc can't be read.
pub fn doctor(args: &DoctorArgs) -> Result<ExitCode, StartError> {
    let tree = super::hierarchy()?;
    let mut findings: Vec<Finding> =
        Controller::ALL.into_iter().map(|c| controller(&tree, c)).collect();
    findings.extend([pressure(&tree), device(), resend()]);
    let text = match args.json {
        true => format!("{:#}\n", findings.iter().map(in_json).collect::<Value>()),
        false => findings.iter().map(in_words).collect(),
    };
    super::print(&text)?;
    let is_fine = findings.iter().all(|f| f.is_fine);
    Ok(if is_fine { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn in_json(f: &Finding) -> Value {
    json!({"what": f.what, "fine": f.is_fine, "found": f.found, "so": f.so})
}

fn in_words(f: &Finding) -> String {
    let mark = if f.is_fine { "ok     " } else { "MISSING" };
    format!("{mark} {}: {}: {}\n", f.what, f.found, f.so)
}

fn controller(tree: &Hierarchy, controller: Controller) -> Finding {
    let what = controller.name();
    let Some(found) = tree.tree(controller) else {
        let so = match controller {
            Controller::Memory => {
                "meminfo and swaps are the machine's: enable it (kernel parameter cgroup_enable=memory)"
            }
            Controller::Cpu => {
                "quotas are not seen: each processor of the cpuset is shown as whole"
            }
            Controller::CpuTime => "stat and idle time are sums over the container's processes",
            Controller::Cpuset => "each processor that is on is shown",
            Controller::Io => "diskstats is the machine's",
        };
        return Finding { what, is_fine: false, found: "no mounted hierarchy has it".into(), so };
    };
    let counts_nothing = controller == Controller::Io && !counts_devices(found);
    let so = match controller {
        Controller::Io if counts_nothing => {
            "diskstats is empty: since Linux 6.10 v1 counts a device only after a limit was set for it once, in any cgroup: make a blkio cgroup, write 'MAJOR:MINOR 1099511627776' to its blkio.throttle.read_bps_device, and remove it again; or let BFQ schedule the device"
        }
        Controller::Memory => "meminfo and swaps show its limits and use",
        Controller::Cpu => "cpuinfo, stat and online count quotas",
        Controller::CpuTime => "stat and uptime show the time used",
        Controller::Cpuset => "cpuinfo, stat and online show the allowed processors",
        Controller::Io => "diskstats shows its use of devices",
    };
    let version = match found.version() {
        Version::V1 => "v1",
        Version::V2 => "v2",
    };
    Finding {
        what,
        is_fine: !counts_nothing,
        found: format!("cgroup {version} at {}", found.path().display()),
        so,
    }
}

/// Whether the use of devices is counted: v1's root has seen something, or nobody has used any.
fn counts_devices(tree: &Tree) -> bool {
    if tree.version() == Version::V2 {
        return true;
    }
    let read = |name: &str| std::fs::read_to_string(tree.path().join(name)).unwrap_or_default();
    let last = |text: &str| text.split_ascii_whitespace().last().is_some_and(|n| n != "0");
    let names = ["blkio.throttle.io_serviced_recursive", "blkio.bfq.io_serviced_recursive"];
    let is_used = |line: &str| line.split_ascii_whitespace().nth(3).is_some_and(|n| n != "0");
    let used = std::fs::read_to_string("/proc/diskstats").unwrap_or_default();
    names.iter().any(|name| last(&read(name))) || !used.lines().any(is_used)
}

fn pressure(tree: &Hierarchy) -> Finding {
    let is_on = Path::new("/proc/pressure").exists();
    let (is_fine, found, so) = match tree.unified() {
        Some(tree) if is_on => (
            true,
            format!("cgroup v2 at {}", tree.path().display()),
            "pressure files are the container's",
        ),
        Some(_) => (
            true,
            "the kernel doesn't measure it".into(),
            "there are no pressure files, here as on the machine (kernel parameter psi=1)",
        ),
        None => (
            false,
            "no unified hierarchy is mounted".into(),
            "pressure is the machine's: mount one (`mount -t cgroup2 none DIR`)",
        ),
    };
    Finding { what: "pressure", is_fine, found, so }
}

fn device() -> Finding {
    let opened = std::fs::File::options().read(true).write(true).open("/dev/fuse");
    let (is_fine, found, so) = match opened {
        Ok(_) => (true, "can be opened".to_owned(), "the files can be served"),
        Err(e) => (false, e.to_string(), "nothing can be served: `modprobe fuse`, mode 0666"),
    };
    Finding { what: "/dev/fuse", is_fine, found, so }
}

fn resend() -> Finding {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let release = release.trim();
    let mut numbers = release.split(['.', '-']).map(|n| n.parse::<u32>().unwrap_or(0));
    let is_fine = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) >= (6, 9);
    let so = match is_fine {
        true => "a worker that is killed is replaced, and its unanswered reads come again",
        false => {
            "a worker that is killed is replaced, but a read that it had begun hangs: Linux 6.9 has the cure"
        }
    };
    Finding { what: "resend", is_fine, found: format!("Linux {release}"), so }
}
