//! Limits of bundles (`linux.resources` of the OCI runtime specification) as files of cgroups.

use std::path::Path;

use oci_spec::runtime::{
    LinuxBlockIo, LinuxCpu, LinuxDeviceCgroup, LinuxDeviceType, LinuxMemory, LinuxResources,
    LinuxThrottleDevice,
};

use crate::cgroup::place::Placed;
use crate::cgroup::v2::weight;
use crate::cgroup::{device_program, write};
use crate::error::{Error, Result};
use crate::spec::Version;

/// A value to write.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Setting {
    /// Where it is asked for, for people.
    property: String,
    /// Controller that has the file.
    controller: &'static str,
    /// File.
    file: String,
    /// Value.
    value: String,
    /// Whether a kernel that lacks the file is no error.
    optional: bool,
}

/// When settings are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum When {
    /// Before the container has processes: all but the number of processes, which ours count as.
    Before,
    /// When it has been built: the rest.
    Built,
    /// While it lives: all but devices.
    Changed,
}

/// Devices that every container may use, beyond those that a bundle names: null, zero, full, random,
/// urandom, tty, console, ptmx and terminals; and any may be made.
const USUAL_DEVICES: [&str; 11] = [
    "c *:* m",
    "b *:* m",
    "c 1:3 rwm",
    "c 1:5 rwm",
    "c 1:7 rwm",
    "c 1:8 rwm",
    "c 1:9 rwm",
    "c 5:0 rwm",
    "c 5:1 rwm",
    "c 5:2 rwm",
    "c 136:* rwm",
];

/// Writes limits; `refused` says why a hierarchy has no cgroup.
///
/// # Errors
/// A limit that no cgroup can hold, or that the kernel refuses.
pub(crate) fn apply(
    resources: &LinuxResources,
    placed: &[Placed],
    refused: &[(Vec<String>, String)],
    when: When,
) -> Result<Vec<String>> {
    let mut warnings = Vec::new();
    let is_now = |s: &Setting| match when {
        When::Before => s.controller != "pids",
        When::Built => s.controller == "pids",
        When::Changed => true,
    };
    let v2_only = !placed.iter().any(|p| p.version == Version::V1 && !is_named(p));
    let version = if v2_only { Version::V2 } else { Version::V1 };
    for setting in settings(resources, version).into_iter().filter(is_now) {
        warnings.extend(apply_one(&setting, placed, refused, version)?);
    }
    if when == When::Before {
        for (key, value) in resources.unified().iter().flatten() {
            unified(key, value, placed)?;
        }
        devices(resources, placed, refused)?;
    }
    Ok(warnings)
}

fn is_named(placed: &Placed) -> bool {
    placed.controllers.iter().all(|c| c.starts_with("name="))
}

fn apply_one(
    setting: &Setting,
    placed: &[Placed],
    refused: &[(Vec<String>, String)],
    version: Version,
) -> Result<Option<String>> {
    let holds = |p: &&Placed| {
        p.version == version
            && (version == Version::V2 || p.controllers.iter().any(|c| c == setting.controller))
    };
    let property = format!("linux.resources.{}", setting.property);
    let Some(group) = placed.iter().find(holds) else {
        let why = refused.iter().find(|(c, _)| c.iter().any(|c| c == setting.controller));
        let why = why.or(refused.first()).map_or("the host has no such controller", |(_, why)| why);
        return Err(Error::new(property, why));
    };
    match write_in_order(group, setting) {
        Ok(()) => Ok(None),
        Err(e) if setting.optional && e.kind() == std::io::ErrorKind::NotFound => {
            Ok(Some(format!("{property} is not enforced: the kernel has no {}", setting.file)))
        }
        Err(e) => Err(Error::new(format!("{property}: write {}", setting.value), e)
            .at(group.path.join(&setting.file))),
    }
}

/// Writes a value. Memory may never be above memory and swap together, nor a quota have a period that is
/// too short for it: where the kernel refuses the one first, the other goes before.
fn write_in_order(group: &Placed, setting: &Setting) -> std::io::Result<()> {
    let dir = group.path.as_path();
    let first = write(dir, &setting.file, &setting.value);
    if first.is_ok() || setting.file != "memory.limit_in_bytes" {
        return first;
    }
    let both = Path::new("memory.memsw.limit_in_bytes");
    match write(dir, &both.to_string_lossy(), "-1") {
        Ok(()) => write(dir, &setting.file, &setting.value),
        Err(_) => first,
    }
}

fn settings(resources: &LinuxResources, version: Version) -> Vec<Setting> {
    let mut all = Settings { all: Vec::new(), version };
    if let Some(memory) = resources.memory() {
        all.memory(memory);
    }
    if let Some(cpu) = resources.cpu() {
        all.cpu(cpu);
    }
    if let Some(pids) = resources.pids() {
        let limit = pids.limit();
        let value = if limit > 0 { limit.to_string() } else { "max".to_owned() };
        all.add("pids.limit", "pids", ("pids.max", "pids.max"), value);
    }
    if let Some(io) = resources.block_io() {
        all.io(io);
    }
    for limit in resources.hugepage_limits().iter().flatten() {
        let size = limit.page_size();
        let (v1, v2) = (format!("hugetlb.{size}.limit_in_bytes"), format!("hugetlb.{size}.max"));
        let value = if limit.limit() < 0 { "max".to_owned() } else { limit.limit().to_string() };
        all.add("hugepageLimits", "hugetlb", (&v1, &v2), value);
    }
    if let Some(network) = resources.network() {
        if let Some(class) = network.class_id() {
            all.add("network.classID", "net_cls", ("net_cls.classid", ""), class.to_string());
        }
        for priority in network.priorities().iter().flatten() {
            let value = priority.to_string();
            all.add("network.priorities", "net_prio", ("net_prio.ifpriomap", ""), value);
        }
    }
    for (device, limit) in resources.rdma().iter().flatten() {
        let part =
            |name: &str, n: Option<u32>| n.map(|n| format!(" {name}={n}")).unwrap_or_default();
        let value = format!(
            "{device}{}{}",
            part("hca_handle", limit.hca_handles()),
            part("hca_object", limit.hca_objects())
        );
        all.add("rdma", "rdma", ("rdma.max", "rdma.max"), value);
    }
    all.all
}

/// Settings of one version, as they are collected.
struct Settings {
    all: Vec<Setting>,
    version: Version,
}

impl Settings {
    /// Adds one, whose file has a name in each version; an empty name: there is none.
    fn add(
        &mut self,
        property: &str,
        controller: &'static str,
        files: (&str, &str),
        value: String,
    ) {
        let file = if self.version == Version::V1 { files.0 } else { files.1 };
        let (property, file) = (property.to_owned(), file.to_owned());
        self.all.push(Setting { property, controller, file, value, optional: false });
    }

    /// Lets the last one be missing.
    fn optionally(&mut self) {
        if let Some(last) = self.all.last_mut() {
            last.optional = true;
        }
    }

    fn memory(&mut self, memory: &LinuxMemory) {
        let v1 = self.version == Version::V1;
        let no_limit = if v1 { "-1" } else { "max" };
        let value = |n: i64| if n < 0 { no_limit.to_owned() } else { n.to_string() };
        // 0 is what tools write that have nothing to say.
        if let Some(limit) = memory.limit().filter(|n| *n != 0) {
            let files = ("memory.limit_in_bytes", "memory.max");
            self.add("memory.limit", "memory", files, value(limit));
        }
        if let Some(both) = memory.swap().filter(|n| *n != 0) {
            // v2 has a limit of swap alone.
            let n = match (v1, both > 0, memory.limit()) {
                (false, true, Some(limit)) => (both - limit.max(0)).max(0),
                _ => both,
            };
            let files = ("memory.memsw.limit_in_bytes", "memory.swap.max");
            self.add("memory.swap", "memory", files, value(n));
            self.optionally();
        }
        if let Some(n) = memory.reservation().filter(|n| *n != 0) {
            let files = ("memory.soft_limit_in_bytes", "memory.low");
            self.add("memory.reservation", "memory", files, value(n));
        }
        if let Some(n) = memory.kernel_tcp().filter(|n| *n != 0) {
            let files = ("memory.kmem.tcp.limit_in_bytes", "");
            self.add("memory.kernelTCP", "memory", files, value(n));
        }
        if let Some(n) = memory.swappiness() {
            self.add("memory.swappiness", "memory", ("memory.swappiness", ""), n.to_string());
        }
        if memory.disable_oom_killer() == Some(true) {
            self.add("memory.disableOOMKiller", "memory", ("memory.oom_control", ""), "1".into());
        }
    }

    fn cpu(&mut self, cpu: &LinuxCpu) {
        if let Some(shares) = cpu.shares().filter(|n| *n != 0) {
            let n = if self.version == Version::V1 { shares } else { weight(shares) };
            self.add("cpu.shares", "cpu", ("cpu.shares", "cpu.weight"), n.to_string());
        }
        if self.version == Version::V1 {
            if let Some(period) = cpu.period().filter(|n| *n != 0) {
                self.add("cpu.period", "cpu", ("cpu.cfs_period_us", ""), period.to_string());
            }
            if let Some(quota) = cpu.quota().filter(|n| *n != 0) {
                self.add("cpu.quota", "cpu", ("cpu.cfs_quota_us", ""), quota.to_string());
            }
        } else if cpu.quota().is_some() || cpu.period().is_some() {
            let quota = cpu.quota().filter(|n| *n > 0).map_or("max".to_owned(), |n| n.to_string());
            let period = cpu.period().filter(|n| *n != 0).unwrap_or(100_000);
            self.add("cpu.quota", "cpu", ("", "cpu.max"), format!("{quota} {period}"));
        }
        if let Some(n) = cpu.burst() {
            self.add("cpu.burst", "cpu", ("cpu.cfs_burst_us", "cpu.max.burst"), n.to_string());
        }
        if let Some(n) = cpu.realtime_period().filter(|n| *n != 0) {
            self.add("cpu.realtimePeriod", "cpu", ("cpu.rt_period_us", ""), n.to_string());
        }
        if let Some(n) = cpu.realtime_runtime().filter(|n| *n != 0) {
            self.add("cpu.realtimeRuntime", "cpu", ("cpu.rt_runtime_us", ""), n.to_string());
        }
        if let Some(n) = cpu.idle() {
            self.add("cpu.idle", "cpu", ("cpu.idle", "cpu.idle"), n.to_string());
        }
        if let Some(list) = cpu.cpus().as_ref().filter(|l| !l.is_empty()) {
            self.add("cpu.cpus", "cpuset", ("cpuset.cpus", "cpuset.cpus"), list.clone());
        }
        if let Some(list) = cpu.mems().as_ref().filter(|l| !l.is_empty()) {
            self.add("cpu.mems", "cpuset", ("cpuset.mems", "cpuset.mems"), list.clone());
        }
    }

    fn io(&mut self, io: &LinuxBlockIo) {
        let controller = if self.version == Version::V1 { "blkio" } else { "io" };
        if let Some(n) = io.weight().filter(|n| *n != 0) {
            self.add("blockIO.weight", controller, ("blkio.weight", "io.weight"), n.to_string());
            self.rename_to_bfq();
        }
        if let Some(n) = io.leaf_weight().filter(|n| *n != 0) {
            self.add("blockIO.leafWeight", controller, ("blkio.leaf_weight", ""), n.to_string());
        }
        for device in io.weight_device().iter().flatten() {
            let numbers = format!("{}:{}", device.major(), device.minor());
            if let Some(n) = device.weight() {
                let files = ("blkio.weight_device", "io.weight");
                self.add("blockIO.weightDevice", controller, files, format!("{numbers} {n}"));
            }
            if let Some(n) = device.leaf_weight() {
                let files = ("blkio.leaf_weight_device", "");
                self.add("blockIO.weightDevice", controller, files, format!("{numbers} {n}"));
            }
        }
        let rates: [(&str, &str, &str, &Option<Vec<LinuxThrottleDevice>>); 4] = [
            ("throttleReadBpsDevice", "read_bps", "rbps", io.throttle_read_bps_device()),
            ("throttleWriteBpsDevice", "write_bps", "wbps", io.throttle_write_bps_device()),
            ("throttleReadIOPSDevice", "read_iops", "riops", io.throttle_read_iops_device()),
            ("throttleWriteIOPSDevice", "write_iops", "wiops", io.throttle_write_iops_device()),
        ];
        for (property, v1, v2, devices) in rates {
            for device in devices.iter().flatten() {
                let numbers = format!("{}:{}", device.major(), device.minor());
                let value = match self.version {
                    Version::V1 => format!("{numbers} {}", device.rate()),
                    Version::V2 => format!("{numbers} {v2}={}", device.rate()),
                };
                let file = format!("blkio.throttle.{v1}_device");
                self.add(&format!("blockIO.{property}"), controller, (&file, "io.max"), value);
            }
        }
    }

    /// Which file a weight has depends on the scheduler.
    fn rename_to_bfq(&mut self) {
        let has_bfq = |dir: &str| Path::new(dir).join("blkio.bfq.weight").exists();
        if let Some(last) = self.all.last_mut().filter(|_| has_bfq("/sys/fs/cgroup/blkio")) {
            last.file = "blkio.bfq.weight".to_owned();
        }
    }
}

/// Writes a file of v2 by its own name.
fn unified(key: &str, value: &str, placed: &[Placed]) -> Result<()> {
    let property = format!("linux.resources.unified: {key}");
    if key.contains('/') || key.starts_with('.') {
        return Err(Error::new(property, "it is no name of a file"));
    }
    let Some(group) = placed.iter().find(|p| p.version == Version::V2) else {
        return Err(Error::new(property, "the host has no cgroup of v2, or none is ours to write"));
    };
    value
        .lines()
        .try_for_each(|line| write(&group.path, key, line))
        .map_err(|e| Error::new(property, e).at(group.path.join(key)))
}

/// Limits which devices may be used.
fn devices(
    resources: &LinuxResources,
    placed: &[Placed],
    refused: &[(Vec<String>, String)],
) -> Result<()> {
    let Some(rules) = resources.devices().as_ref().filter(|rules| !rules.is_empty()) else {
        return Ok(());
    };
    let v1 = placed.iter().find(|p| p.controllers.iter().any(|c| c == "devices"));
    if let Some(group) = v1 {
        return devices_v1(rules, group);
    }
    // Without root no device can be made, and those of the host are open to whom they were open before.
    if !sys::process::is_in_first_user_namespace() || !nix::unistd::geteuid().is_root() {
        return Ok(());
    }
    match placed.iter().find(|p| p.version == Version::V2) {
        Some(group) => device_program::attach(rules, &group.path),
        None => {
            let why = refused.first().map_or("the host has no cgroups", |(_, why)| why.as_str());
            Err(Error::new("linux.resources.devices", why))
        }
    }
}

fn devices_v1(rules: &[LinuxDeviceCgroup], group: &Placed) -> Result<()> {
    let set = |file: &str, rule: &str| {
        write(&group.path, file, rule).map_err(|e| {
            Error::new(format!("linux.resources.devices: write `{rule}`"), e)
                .at(group.path.join(file))
        })
    };
    let denies_all = |r: &LinuxDeviceCgroup| !r.allow() && is_all(r);
    for rule in rules {
        let file = if rule.allow() { "devices.allow" } else { "devices.deny" };
        set(file, &device_rule(rule))?;
    }
    match rules.iter().any(denies_all) {
        true => USUAL_DEVICES.iter().try_for_each(|rule| set("devices.allow", rule)),
        false => Ok(()),
    }
}

/// Whether a rule is about all devices.
pub(super) fn is_all(rule: &LinuxDeviceCgroup) -> bool {
    let any_kind = matches!(rule.typ(), None | Some(LinuxDeviceType::A));
    any_kind && rule.major().is_none_or(|n| n < 0) && rule.minor().is_none_or(|n| n < 0)
}

/// Returns a rule as v1 has it.
fn device_rule(rule: &LinuxDeviceCgroup) -> String {
    if is_all(rule) {
        return "a".to_owned();
    }
    let kind = match rule.typ() {
        Some(LinuxDeviceType::B) => "b",
        Some(LinuxDeviceType::C | LinuxDeviceType::U) => "c",
        _ => "a",
    };
    let number = |n: Option<i64>| n.filter(|n| *n >= 0).map_or("*".to_owned(), |n| n.to_string());
    let access = rule.access().as_deref().unwrap_or("rwm");
    format!("{kind} {}:{} {access}", number(rule.major()), number(rule.minor()))
}

/// Returns the usual devices as rules.
pub(super) fn usual_devices() -> Vec<(char, Option<u32>, Option<u32>, &'static str)> {
    let parse = |rule: &'static str| {
        let mut words = rule.split(' ');
        let kind = words.next()?.chars().next()?;
        let (major, minor) = words.next()?.split_once(':')?;
        Some((kind, major.parse().ok(), minor.parse().ok(), words.next()?))
    };
    USUAL_DEVICES.into_iter().filter_map(parse).collect()
}
