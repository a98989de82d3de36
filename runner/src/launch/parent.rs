//! The supervisor until the container is built: clones the builder, writes id maps, sends the spec.

use std::ffi::{CString, OsStr};
use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::libc;
use nix::unistd::execveat;
use sys::mount::attr;
use sys::process::{Fork, clone_flags};

use crate::cgroup::Cgroups;
use crate::error::{Context, Exit, Result, say};
use crate::identity;
use crate::launch::sync::{Channel, ToContainer, ToSupervisor};
use crate::launch::trace::Trace;
use crate::launch::{BUILDER, Strict, mapped, supervise};
use crate::spec::{Identity, Spec};

/// Starts the builder and watches the container to its end.
pub(super) fn run(spec: &Spec, cgroups: &Cgroups, strict: Strict) -> Result<u8> {
    let trace = Trace::new(spec.trace);
    trace.done("plan, state and cgroups");
    let (mut ours, theirs) = Channel::pair()?;
    let flags = clone_flags::NEWNS | if mapped(spec) { clone_flags::NEWUSER } else { 0 };
    let forked = sys::process::clone(flags).map_err(|e| match spec.identity {
        Identity::Mapped(_) => identity::refused(e),
        Identity::Host => crate::error::Error::new("create mount namespace", e),
    })?;
    match forked {
        Fork::Child => {
            drop(ours);
            become_builder(theirs, &spec.identity)
        }
        Fork::Parent(pid) => {
            drop(theirs);
            let watched = supervise::Watched::new(pid, spec.process.stdin, strict, trace);
            let sent = introduce(&mut ours, pid, spec);
            trace.done("start the builder");
            watched.until_the_end(ours, spec, cgroups, sent)
        }
    }
}

/// Gives the builder its users and its work.
fn introduce(channel: &mut Channel, pid: i32, spec: &Spec) -> Result<()> {
    if let Identity::Mapped(maps) = &spec.identity {
        identity::write_maps(pid, maps)?;
        channel.send(&ToContainer::Mapped)?;
    }
    channel.send(spec)
}

/// Becomes root of the new user namespace and starts this program again, from a place that nobody
/// in the container can write to.
fn become_builder(mut channel: Channel, identity: &Identity) -> ! {
    let error = match start_builder(&mut channel, identity) {
        Ok(never) => match never {},
        Err(e) => e,
    };
    if channel.send(&ToSupervisor::Failed(error)).is_err() {
        say("the runner has ended");
    }
    std::process::exit(Exit::Ours as i32)
}

fn start_builder(channel: &mut Channel, identity: &Identity) -> Result<std::convert::Infallible> {
    if let Identity::Mapped(maps) = identity {
        let ToContainer::Mapped = channel.expect()?;
        identity::become_root(maps)?;
    }
    let exe = sealed_self()?;
    sys::process::keep_on_exec(channel.fd()?).step("hand over the socket")?;
    let fd = CString::new(channel.fd()?.as_raw_fd().to_string()).step("start the builder")?;
    let name = CString::new(BUILDER).step("start the builder")?;
    let env = [c"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"];
    let flags = nix::fcntl::AtFlags::AT_EMPTY_PATH;
    execveat(&exe, c"", &[name, fd], &env, flags).step("start the builder")
}

/// Returns our program in a form that a container that gets hold of it through /proc can't write to
/// (CVE-2019-5736): by way of a read-only mount that is attached nowhere, or else as a copy in
/// memory.
fn sealed_self() -> Result<OwnedFd> {
    let exe = open_path(OsStr::new("/proc/self/exe"))?;
    // The descriptor leads into the mount namespace that we have just left, where no mount can be
    // copied from; so the name is looked up again, and has to lead to the same file.
    let name = std::fs::read_link("/proc/self/exe").step("find this program")?;
    let stat = |fd: &OwnedFd| sys::stat::stat_fd(fd).map(|s| (s.dev, s.ino));
    match open_path(name.as_os_str()) {
        Ok(here) if stat(&here) == stat(&exe) => {
            let sealed = sys::mount::clone_mount(&here).step("seal this program")?;
            sys::mount::mount_setattr(&sealed, attr::RDONLY).step("seal this program")?;
            Ok(sealed)
        }
        // The program was replaced or removed since it was started.
        Ok(_) | Err(_) => sealed_copy(),
    }
}

fn open_path(path: &OsStr) -> Result<OwnedFd> {
    sys::openat::open_at(nix::fcntl::AT_FDCWD, path, libc::O_PATH, 0).step_at("open", path)
}

/// Copies our program into memory and forbids all changes.
fn sealed_copy() -> Result<OwnedFd> {
    use nix::fcntl::{FcntlArg, SealFlag, fcntl};
    use nix::sys::memfd::{MFdFlags, memfd_create};
    let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
    let mut copy = File::from(memfd_create(BUILDER, flags).step("seal this program")?);
    let mut exe = File::open("/proc/self/exe").step_at("open", "/proc/self/exe")?;
    std::io::copy(&mut exe, &mut copy).step("seal this program")?;
    let seals = SealFlag::F_SEAL_SEAL
        | SealFlag::F_SEAL_SHRINK
        | SealFlag::F_SEAL_GROW
        | SealFlag::F_SEAL_WRITE;
    fcntl(&copy, FcntlArg::F_ADD_SEALS(seals)).step("seal this program")?;
    Ok(copy.into())
}
