//! The supervisor until the container is built: clones the builder, writes id maps, sends the spec.

use std::convert::Infallible;
use std::ffi::{CStr, CString, OsStr};
use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::libc;
use nix::sys::prctl;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::waitpid;
use nix::unistd::{Pid, execveat};
use sys::mount::attr;
use sys::process::{Fork, clone_flags};

use crate::error::{Context, Error, Exit, Result, best_effort, say};
use crate::identity;
use crate::launch::BUILDER;
use crate::launch::supervise::{End, Watched};
use crate::launch::sync::{Channel, ToContainer, ToSupervisor};
use crate::launch::trace::Trace;
use crate::spec::{Base, Identity, Spec, Upper};

/// Starts the builder and watches the container to its end.
pub(super) fn run(spec: &Spec, watched: Watched<'_>, early: Option<Builder>) -> Result<End> {
    let trace = Trace::new(spec.trace);
    trace.done("plan, state and cgroups");
    let (mut channel, pid) = match early {
        Some(builder) => builder.take()?,
        None => start(&spec.identity)?,
    };
    let mut watched = watched.begin(pid);
    let sent = introduce(&mut channel, pid, spec, &mut watched);
    trace.done("start the builder");
    let upper = match &spec.root {
        Base::Layers(root) => &root.upper,
        Base::Directory { .. } => &Upper::Scratch,
    };
    watched.until_the_end(channel, upper, sent)
}

/// A builder that waits for its work: `execve(2)` takes longer than all that the supervisor does meanwhile.
#[derive(Debug)]
pub(crate) struct Builder(Option<(Channel, i32)>);

impl Builder {
    /// Starts one for a container of these users.
    pub(super) fn start(identity: &Identity) -> Result<Builder> {
        start(identity).map(|both| Builder(Some(both)))
    }

    fn take(mut self) -> Result<(Channel, i32)> {
        self.0.take().ok_or_else(|| Error::new("start the builder", "it was taken already"))
    }
}

impl Drop for Builder {
    /// Ends one that got no work.
    fn drop(&mut self) {
        let Some((_channel, pid)) = self.0.take() else { return };
        // It is our child and was not waited for: the number is still its.
        match kill(Pid::from_raw(pid), Signal::SIGKILL) {
            Ok(()) | Err(_) => {}
        }
        best_effort("wait for the builder", waitpid(Pid::from_raw(pid), None));
    }
}

/// Starts this program again as the builder, in new namespaces; returns how to talk to it.
fn start(identity: &Identity) -> Result<(Channel, i32)> {
    let users = match identity {
        Identity::Mapped(_) => clone_flags::NEWUSER,
        Identity::Host => 0,
    };
    let flags = clone_flags::NEWNS | users;
    let refused = |e| match identity {
        Identity::Mapped(_) => identity::refused(e),
        Identity::Host => Error::new("create mount namespace", e),
    };
    fork(flags, Work::Build, refused, |channel| {
        if let Identity::Mapped(maps) = identity {
            let (ToContainer::Mapped, _) = channel.expect()? else {
                return Err(Error::new("wait for id maps", "another message came"));
            };
            identity::become_root(maps)?;
        }
        sealed_self()
    })
}

/// Starts this program again to enter a container, whose first process is `first`.
pub(super) fn start_to_enter(first: i32) -> Result<(Channel, i32)> {
    let failed = |e| Error::new("start a process", e);
    fork(0, Work::Enter, failed, |_| {
        // Where it is this very program, as a mount that nobody can write to, it need not be copied.
        let theirs = open_path(OsStr::new(&format!("/proc/{first}/exe")));
        let ours = open_path(OsStr::new("/proc/self/exe"))?;
        match theirs {
            Ok(theirs) if same(&theirs, &ours) && is_read_only(&theirs) => Ok(theirs),
            Ok(_) | Err(_) => sealed_copy(),
        }
    })
}

/// What this program does when it is started again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Work {
    /// It builds a container.
    Build,
    /// It enters one.
    Enter,
}

/// Starts this program again, from what `seal` returns; returns how to talk to it.
pub(super) fn fork(
    flags: u64,
    work: Work,
    refused: impl Fn(nix::errno::Errno) -> Error,
    seal: impl FnOnce(&mut Channel) -> Result<OwnedFd>,
) -> Result<(Channel, i32)> {
    let (ours, mut theirs) = Channel::pair()?;
    match sys::process::clone(flags).map_err(refused)? {
        Fork::Child => {
            drop(ours);
            let kind = if work == Work::Enter { &[c"enter"][..] } else { &[] };
            let failed = tie(&theirs)
                .and_then(|()| seal(&mut theirs))
                .and_then(|exe| start_builder(&theirs, &exe, kind));
            let error = match failed {
                Ok(never) => match never {},
                Err(e) => e,
            };
            if theirs.send(&ToSupervisor::Failed(error)).is_err() {
                say("the runner has ended");
            }
            std::process::exit(Exit::Ours as i32)
        }
        Fork::Parent(pid) => Ok((ours, pid)),
    }
}

/// Ties this process to the runner at the other end, which is its parent: it is killed with it.
///
/// # Errors
/// The runner has ended already.
pub(super) fn tie(channel: &Channel) -> Result<()> {
    prctl::set_pdeathsig(Signal::SIGKILL).step("tie the container to the runner")?;
    // It may have ended before the line above; its files are closed before its children are told.
    match channel.is_closed()? {
        true => Err(Error::new("build the container", "the runner has ended")),
        false => Ok(()),
    }
}

/// Gives the builder its users and its work.
fn introduce(
    channel: &mut Channel,
    pid: i32,
    spec: &Spec,
    watched: &mut Watched<'_>,
) -> Result<()> {
    if let Identity::Mapped(maps) = &spec.identity {
        identity::write_maps(pid, maps)?;
        channel.send(&ToContainer::Mapped)?;
    }
    let theirs = watched.prepare_streams(spec.streams)?;
    channel.send_fds(spec, &theirs)
}

/// Becomes this program again, from a place that nobody in the container can write to.
fn start_builder(channel: &Channel, exe: &OwnedFd, kind: &[&CStr]) -> Result<Infallible> {
    sys::process::keep_on_exec(channel.fd()?).step("hand over the socket")?;
    let fd = CString::new(channel.fd()?.as_raw_fd().to_string()).step("start the builder")?;
    let name = CString::new(BUILDER).step("start the builder")?;
    let env = [
        c"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        // For the daemons (mallopt(3)): one thread of each does nearly all of the work, so it needs no
        // arenas; and what is larger than a request's data is a buffer, of which only the pages that were
        // used should be there.
        c"MALLOC_ARENA_MAX=1",
        c"MALLOC_MMAP_THRESHOLD_=1048577",
    ];
    let flags = nix::fcntl::AtFlags::AT_EMPTY_PATH;
    let mut args: Vec<&CStr> = vec![&name, &fd];
    args.extend(kind);
    execveat(exe, c"", &args, &env, flags).step("start the builder")
}

/// Whether two descriptors are of one file.
fn same(a: &OwnedFd, b: &OwnedFd) -> bool {
    let identity = |fd: &OwnedFd| sys::stat::stat_fd(fd).map(|s| (s.dev, s.ino));
    matches!((identity(a), identity(b)), (Ok(a), Ok(b)) if a == b)
}

/// Whether the mount of a file can't be written to.
fn is_read_only(fd: &OwnedFd) -> bool {
    nix::sys::statvfs::fstatvfs(fd)
        .is_ok_and(|s| s.flags().contains(nix::sys::statvfs::FsFlags::ST_RDONLY))
}

/// Returns our program in a form that a container that gets hold of it through /proc can't write to
/// (CVE-2019-5736): by way of a read-only mount that is attached nowhere, or else as a copy in
/// memory.
pub(super) fn sealed_self() -> Result<OwnedFd> {
    let exe = open_path(OsStr::new("/proc/self/exe"))?;
    // The descriptor leads into the mount namespace that we have just left, where no mount can be
    // copied from; so the name is looked up again, and has to lead to the same file.
    let name = std::fs::read_link("/proc/self/exe").step("find this program")?;
    match open_path(name.as_os_str()) {
        Ok(here) if same(&here, &exe) => {
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
