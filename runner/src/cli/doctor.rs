//! `runner doctor`: what this host offers to containers, what it lacks, and what then happens.

use std::fmt;
use std::fs;
use std::path::Path;

use nix::sys::utsname::uname;

use crate::cgroup::{self, Hierarchies, Limit};
use crate::cli::print;
use crate::error::{Context, Result};
use crate::identity;
use crate::spec::{Identity, Limits, MapWriter};
use crate::store::Store;

/// First kernel with all that is relied on: `mount_setattr(2)`.
const OLDEST_KERNEL: (u32, u32) = (5, 12);

/// How good something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Level {
    /// As it should be.
    Fine,
    /// Something is weaker.
    Weaker,
    /// No container can be started.
    Missing,
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Level::Fine => "ok     ",
            Level::Weaker => "weaker ",
            Level::Missing => "MISSING",
        })
    }
}

/// One line of the report.
struct Finding {
    level: Level,
    subject: &'static str,
    text: String,
}

fn finding(level: Level, subject: &'static str, text: impl Into<String>) -> Finding {
    Finding { level, subject, text: text.into() }
}

/// Prints one line a subject; the code is 1 if no container can be started.
pub(super) fn doctor(state: Option<&Path>) -> Result<u8> {
    let (identity, warning) = identity::decide();
    let mut all = vec![kernel(), fuse(), users(&identity, warning), proc(&identity)];
    all.extend(limits());
    all.extend([time(), overlay(&identity), root(), store(state)]);
    let line = |f: &Finding| format!("{} {:14} {}\n", f.level, f.subject, f.text);
    print(&all.iter().map(line).collect::<String>())?;
    Ok(u8::from(all.iter().any(|f| f.level == Level::Missing)))
}

fn kernel() -> Finding {
    let release = uname().map_or_else(|_| String::new(), |u| u.release().to_string_lossy().into());
    let (major, minor) = OLDEST_KERNEL;
    match version(&release) {
        Some(v) if v >= OLDEST_KERNEL => finding(Level::Fine, "kernel", release),
        _ => {
            finding(Level::Missing, "kernel", format!("{release}: Linux {major}.{minor} is needed"))
        }
    }
}

/// Reads the first two numbers of a release.
fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

fn fuse() -> Finding {
    match fs::File::options().read(true).write(true).open("/dev/fuse") {
        Ok(_) => finding(Level::Fine, "/dev/fuse", "can be opened"),
        Err(e) if e.kind() == std::io::ErrorKind::PermissionDenied => finding(
            Level::Missing,
            "/dev/fuse",
            "this user may not open it: as root, run `chmod 666 /dev/fuse`",
        ),
        Err(e) => {
            let text = format!(
                "{e}: load the module with `modprobe fuse`, or give this container the device"
            );
            finding(Level::Missing, "/dev/fuse", text)
        }
    }
}

fn users(identity: &Identity, warning: Option<String>) -> Finding {
    let maps = match identity {
        Identity::Host => return finding(Level::Fine, "users", "the host's, as root starts them"),
        Identity::Mapped(maps) => maps,
    };
    if let Err(e) = identity::in_namespace(maps, || Ok(())) {
        return finding(Level::Missing, "users", e.to_string());
    }
    let count: u64 = maps.uids.iter().map(|r| u64::from(r.count)).sum();
    match maps.writer {
        MapWriter::Helpers | MapWriter::Privileged => {
            finding(Level::Fine, "users", format!("{count} in a user namespace"))
        }
        MapWriter::Ourselves => finding(Level::Weaker, "users", warning.unwrap_or_default()),
    }
}

/// In a user namespace, /proc can be mounted only where the host's is wholly visible.
fn proc(identity: &Identity) -> Finding {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let covered = mounts
        .lines()
        .filter_map(|l| l.split(' ').nth(4))
        .find(|at| at.starts_with("/proc/") && *at != "/proc/sys/fs/binfmt_misc");
    match (identity, covered) {
        (Identity::Mapped(_), Some(at)) => finding(
            Level::Missing,
            "/proc",
            format!(
                "{at} is covered, so that the kernel refuses a new /proc: uncover it, or start it as root"
            ),
        ),
        _ => finding(Level::Fine, "/proc", "can be mounted anew"),
    }
}

/// Asks what would become of each limit.
fn limits() -> Vec<Finding> {
    let asked =
        Limits { memory: Some(1 << 28), cpus: Some(1000), pids: Some(100), ..Limits::default() };
    let decision = cgroup::decide(&Hierarchies::detect(), "doctor", &asked);
    let why = |limit| decision.missing.iter().find(|(l, _)| *l == limit).map(|(_, why)| why);
    let one = |subject, limit, lost: &str| match why(limit) {
        None => finding(Level::Fine, subject, "enforced"),
        Some(why) => finding(Level::Weaker, subject, format!("{lost}: {why}")),
    };
    vec![
        one("--memory", Limit::Memory, "shown, but not enforced"),
        one("--cpus", Limit::CpuQuota, "kept by CPU affinity only"),
        one("nproc", Limit::CpuSet, "told by CPU affinity instead of a cpuset"),
        one("--pids-limit", Limit::Pids, "not enforced"),
    ]
}

fn time() -> Finding {
    match Path::new("/proc/self/ns/time_for_children").exists() {
        true => finding(Level::Fine, "time", "the container's uptime is its own"),
        false => {
            finding(Level::Missing, "time", "this kernel has no time namespaces (CONFIG_TIME_NS)")
        }
    }
}

fn overlay(identity: &Identity) -> Finding {
    let known = fs::read_to_string("/proc/filesystems").unwrap_or_default();
    let there = known.lines().any(|l| l.split_whitespace().last() == Some("overlay"));
    match (there, identity) {
        (true, Identity::Host) => finding(Level::Fine, "overlay", "--driver kernel works"),
        (true, Identity::Mapped(_)) => finding(
            Level::Fine,
            "overlay",
            "--driver kernel works on layers below which nothing is mounted",
        ),
        (false, _) => finding(
            Level::Weaker,
            "overlay",
            "--driver kernel does not work, which --driver unionfs doesn't need",
        ),
    }
}

fn root() -> Finding {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    // The kernel's first root, which pivot_root(2) can't leave, has this type whatever holds it.
    match mounts.lines().any(|l| l.contains(" / / ") && l.contains(" - rootfs ")) {
        true => finding(
            Level::Weaker,
            "pivot_root",
            "the host's root is an initramfs: the root is moved and chroot is used",
        ),
        false => finding(Level::Fine, "pivot_root", "the host's root can be left"),
    }
}

fn store(state: Option<&Path>) -> Finding {
    let usable = Store::choose(state).and_then(|s| {
        let dir = s.dir().to_path_buf();
        // The nearest directory that exists tells whether the rest can be made.
        let there = dir.ancestors().find(|d| d.exists()).unwrap_or(Path::new("/"));
        nix::unistd::access(there, nix::unistd::AccessFlags::W_OK)
            .step_at("state directory", &dir)
            .map(|()| dir)
    });
    match usable {
        Ok(dir) => finding(Level::Fine, "state", dir.display().to_string()),
        Err(e) => finding(Level::Missing, "state", format!("{e}: give another one by --state")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_are_compared_by_their_first_two_numbers() {
        assert_eq!(version("6.18.44-fc"), Some((6, 18)));
        assert!(version("5.4.0-1-amd64") < Some(OLDEST_KERNEL));
        assert_eq!(version("x"), None);
    }
}
