//! The builder: root of the container's user namespace, in a mount namespace that still shows the
//! host. It makes what needs that view, starts the daemons and the container's first process, ends.

use std::ffi::OsString;
use std::fs;
use std::os::fd::OwnedFd;
use std::process::ExitCode;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::time::{ClockId, clock_gettime};
use sys::process::{Fork, clone_flags};

use crate::error::{Context, Error, Exit, Result, say};
use crate::launch::child::{self, BaseRoot, Born, Parts};
use crate::launch::sync::{Channel, ToSupervisor};
use crate::launch::trace::Trace;
use crate::launch::{enter, parent};
use crate::rootfs::daemon::Daemon;
use crate::rootfs::{bundle, dev, shim, union, volume};
use crate::spec::{Base, Clocks, Root, Spec, Version};

/// Runs the builder.
pub(super) fn main(args: &[OsString]) -> ExitCode {
    let socket = args.get(1).and_then(|a| a.to_str()).and_then(|a| a.parse().ok());
    let Some(Ok(mut channel)) = socket.map(Channel::inherited) else {
        say("this name is for the runner's own use: try `runner --help`");
        return ExitCode::from(Exit::Ours as u8);
    };
    let work = if args.len() > 2 { enter::main } else { build };
    // A change of user may have taken away what was set before this program was started again.
    let failed = match parent::tie(&channel).and_then(|()| work(&mut channel)) {
        Ok(()) => return ExitCode::SUCCESS,
        Err(e) => e,
    };
    match channel.send(&ToSupervisor::Failed(failed)) {
        Ok(()) => ExitCode::from(Exit::Ours as u8),
        // Nobody is left to be told.
        Err(_) => ExitCode::FAILURE,
    }
}

fn build(channel: &mut Channel) -> Result<()> {
    let (spec, carried): (Spec, _) = channel.expect()?;
    match &spec.root {
        Base::Layers(root) => build_layers(channel, &spec, root, carried),
        Base::Directory { held, .. } => {
            let held = held.map(sys::process::inherited_fd).transpose();
            build_bundle(channel, &spec, carried, held.step("take over what is held")?)
        }
    }
}

/// Builds a container whose root is a bundle's directory. `held` is open until this process ends.
fn build_bundle(
    channel: &mut Channel,
    spec: &Spec,
    carried: Vec<OwnedFd>,
    held: Option<OwnedFd>,
) -> Result<()> {
    let root = BaseRoot::Directory(bundle::root(spec)?);
    let mounts = spec.mounts.iter().map(bundle::open).collect::<Result<Vec<_>>>()?;
    set_clocks(&spec.clocks)?;
    match sys::process::clone(spec.namespaces | clone_flags::PARENT).step("create namespaces")? {
        Fork::Child => {
            let gate = carried.into_iter().next();
            let parts = Parts { mounts, gate, held, ..Parts::of(root) };
            child::main(channel, spec, parts)
        }
        Fork::Parent(pid) => channel.send(&ToSupervisor::First { pid }),
    }
}

/// Builds a container whose root is merged of layers.
fn build_layers(
    channel: &mut Channel,
    spec: &Spec,
    root: &Root,
    streams: Vec<OwnedFd>,
) -> Result<()> {
    let trace = Trace::new(spec.trace);
    // Unmounts of the host reach us, so that we keep nothing busy; ours don't reach the host.
    let slave = MsFlags::MS_REC | MsFlags::MS_SLAVE;
    mount(None::<&str>, "/", None::<&str>, slave, None::<&str>)
        .step("detach from the host's mounts")?;
    trace.done("builder: begin");
    let (union, daemon) = union::prepare(spec, root)?;
    announce(channel, daemon)?;
    trace.done("builder: merged root");
    let (figures, waiting) = match spec.shim {
        Some(told) => {
            let (mount, daemon, waiting) = shim::prepare(spec, told)?;
            announce(channel, Some(daemon))?;
            (Some(mount), Some(waiting))
        }
        None => (None, None),
    };
    let volumes = spec.volumes.iter().map(volume::open).collect::<Result<Vec<_>>>()?;
    let devices = spec.devices.iter().map(dev::open).collect::<Result<Vec<_>>>()?;
    trace.done("builder: daemons and volumes");
    set_clocks(&spec.clocks)?;
    let (forked, born) = start_first(spec, spec.namespaces | clone_flags::PARENT)?;
    match forked {
        Fork::Child => {
            let root = BaseRoot::Union(union);
            let parts = Parts { figures, volumes, devices, streams, born, ..Parts::of(root) };
            // The builder's end of this pipe would keep the daemon waiting.
            drop(waiting);
            child::main(channel, spec, parts)
        }
        Fork::Parent(pid) => {
            if let Some(waiting) = waiting {
                shim::begin(waiting, pid)?;
            }
            channel.send(&ToSupervisor::First { pid })?;
            trace.done("builder: end");
            Ok(())
        }
    }
}

/// Starts the first process, in its cgroup of v2 if it has one and the kernel can.
fn start_first(spec: &Spec, flags: u64) -> Result<(Fork, Born)> {
    let v2 = spec.cgroups.iter().find(|c| c.version == Version::V2);
    if let Some(cgroup) = v2 {
        let dir = fs::File::open(&cgroup.path).step_at("open cgroup", &cgroup.path)?;
        if let Ok(forked) = sys::process::clone_into_cgroup(flags, &dir) {
            return Ok((forked, Born::InCgroup));
        }
    }
    let forked = sys::process::clone(flags).step("create namespaces")?;
    Ok((forked, Born::Outside))
}

fn announce(channel: &mut Channel, daemon: Option<Daemon>) -> Result<()> {
    match daemon {
        Some(d) => channel.send(&ToSupervisor::Daemon { name: d.name.to_owned(), pid: d.pid }),
        None => Ok(()),
    }
}

/// Makes a time namespace for the children to come, if they are to have one. Where its clocks begin at
/// zero, the machine has just been started: its uptime, and the age of processes, are the container's own.
fn set_clocks(clocks: &Clocks) -> Result<()> {
    if *clocks == Clocks::Inherited {
        return Ok(());
    }
    let flags = CloneFlags::from_bits_retain(clone_flags::NEWTIME as i32);
    unshare(flags).step("create time namespace")?;
    let mut offsets = String::new();
    for (name, clock) in
        [("monotonic", ClockId::CLOCK_MONOTONIC), ("boottime", ClockId::CLOCK_BOOTTIME)]
    {
        if let Clocks::Offset { monotonic, boottime } = clocks {
            let (seconds, nanoseconds) = if name == "monotonic" { monotonic } else { boottime };
            offsets.push_str(&format!("{name} {seconds} {nanoseconds}\n"));
            continue;
        }
        let now = clock_gettime(clock).step("read the clock")?;
        // Whole seconds are taken away one more than there are, nanoseconds are then given back:
        // the kernel wants them positive, and the sum not before zero, which now is.
        let (mut seconds, mut nanoseconds) = (-now.tv_sec(), -now.tv_nsec());
        if nanoseconds < 0 {
            seconds -= 1;
            nanoseconds += 1_000_000_000;
        }
        offsets.push_str(&format!("{name} {seconds} {nanoseconds}\n"));
    }
    let path = "/proc/self/timens_offsets";
    fs::write(path, offsets).map_err(|e| Error::new("write", e).at(path))
}
