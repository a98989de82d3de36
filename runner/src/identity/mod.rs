//! Whose users a container has: the ranges of /etc/subuid and /etc/subgid, and who writes the maps.

mod subid;

use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};

use nix::errno::Errno;
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{Gid, Pid, Uid, getegid, geteuid, setgroups, setresgid, setresuid};
use sys::process::{Fork, clone_flags};

use crate::error::{Context, Error, Result, say};
use crate::spec::{Identity, MapWriter, Maps, Range};

/// How a new user namespace is refused, and what a person can do about it.
const NO_USERNS: &str = "this host doesn't let users make user namespaces: as root, set \
    kernel.unprivileged_userns_clone=1, user.max_user_namespaces above 0 or \
    kernel.apparmor_restrict_unprivileged_userns=0 (whichever exists), or run it as root";

/// Decides whose users a container of this user has; the second value is a warning.
pub(crate) fn decide() -> (Identity, Option<String>) {
    if geteuid().is_root() && sys::process::has_capability(sys::process::CAP_SYS_ADMIN) {
        return (Identity::Host, None);
    }
    let (uid, gid) = (geteuid().as_raw(), getegid().as_raw());
    let one = |outside| Range { inside: 0, outside, count: 1 };
    match subid::ranges(uid) {
        Ok((uids, gids)) => {
            let all = |own, sub: Vec<Range>| std::iter::once(one(own)).chain(sub).collect();
            let maps =
                Maps { uids: all(uid, uids), gids: all(gid, gids), writer: MapWriter::Helpers };
            (Identity::Mapped(maps), None)
        }
        Err(why) => {
            let maps =
                Maps { uids: vec![one(uid)], gids: vec![one(gid)], writer: MapWriter::Ourselves };
            (Identity::Mapped(maps), Some(format!("only root exists in the container: {why}")))
        }
    }
}

/// Returns the error for a user namespace that can't be made.
pub(crate) fn refused(e: Errno) -> Error {
    let error = Error::new("create user namespace", e);
    match e {
        Errno::EPERM | Errno::ENOSPC | Errno::EUSERS | Errno::EACCES => error.hint(NO_USERNS),
        _ => error,
    }
}

/// Writes the id maps of the user namespace that the process `pid` is in.
pub(crate) fn write_maps(pid: i32, maps: &Maps) -> Result<()> {
    match maps.writer {
        MapWriter::Ourselves => {
            // Without a helper the kernel wants groups frozen first (CVE-2014-8989).
            let proc = |file: &str| format!("/proc/{pid}/{file}");
            let write = |file: &str, text: String| {
                let path = proc(file);
                fs::write(&path, text)
                    .map_err(|e| Error::new("write", e).at(&path).hint_if(Errno::EPERM, NO_USERNS))
            };
            write("setgroups", "deny".to_owned())?;
            write("uid_map", lines(&maps.uids))?;
            write("gid_map", lines(&maps.gids))
        }
        MapWriter::Privileged => {
            for (file, ranges) in [("uid_map", &maps.uids), ("gid_map", &maps.gids)] {
                let path = format!("/proc/{pid}/{file}");
                fs::write(&path, lines(ranges)).step_at("write", &path)?;
            }
            Ok(())
        }
        MapWriter::Helpers => {
            helper("newuidmap", pid, &maps.uids, "/etc/subuid")?;
            helper("newgidmap", pid, &maps.gids, "/etc/subgid")
        }
    }
}

fn lines(ranges: &[Range]) -> String {
    ranges.iter().map(|r| format!("{} {} {}\n", r.inside, r.outside, r.count)).collect()
}

fn helper(program: &str, pid: i32, ranges: &[Range], file: &str) -> Result<()> {
    let mut command = Command::new(program);
    command.arg(pid.to_string()).stdin(Stdio::null());
    for r in ranges {
        command.args([r.inside.to_string(), r.outside.to_string(), r.count.to_string()]);
    }
    let out = command.output().step_at("start", program)?;
    if out.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&out.stderr).trim().replace('\n', "; ");
    Err(Error::new(program, said).hint(format!("check {file}, and that {program} is setuid root")))
}

/// Becomes root of the user namespace that the caller is in, after its maps were written.
pub(crate) fn become_root(maps: &Maps) -> Result<()> {
    if maps.writer != MapWriter::Ourselves {
        setgroups(&[]).step("drop groups")?;
    }
    let (root, rootg) = (Uid::from_raw(0), Gid::from_raw(0));
    setresgid(rootg, rootg, rootg).step("become group 0 of the container")?;
    setresuid(root, root, root).step("become user 0 of the container")
}

/// Runs `work` as root of a new user namespace with these maps, in a process of its own, which ends its
/// work also where the command is killed.
///
/// # Preconditions
/// The process has one thread.
pub(crate) fn in_namespace(maps: &Maps, work: impl FnOnce() -> Result<()>) -> Result<()> {
    match in_child(maps, || Ok(()), || work().map(|()| 0))? {
        WaitStatus::Exited(_, 0) => Ok(()),
        _ => Err(Error::new("work as the container's root", "it failed, as said above")),
    }
}

/// Runs `work` in such a process, which is killed with the command, and returns its exit code.
///
/// # Preconditions
/// The process has one thread.
pub(crate) fn as_root_of(maps: &Maps, work: impl FnOnce() -> Result<u8>) -> Result<u8> {
    // A change of user takes the tie away, so it is made before and after it.
    let tie = || set_pdeathsig(Signal::SIGKILL).step("tie the helper process to the command");
    match in_child(maps, tie, || tie().and_then(|()| work()))? {
        WaitStatus::Exited(_, code) => Ok(code as u8),
        status => Err(Error::new(
            "work as the container's root",
            format!("the helper process ended by {status:?}"),
        )),
    }
}

/// Does `first` in a new process in a new user namespace, and `work` as soon as it is root there;
/// returns how the process ended.
fn in_child(
    maps: &Maps,
    first: impl FnOnce() -> Result<()>,
    work: impl FnOnce() -> Result<u8>,
) -> Result<WaitStatus> {
    let (mut ours, mut theirs) = UnixStream::pair().step("make a socket pair")?;
    match sys::process::clone(clone_flags::NEWUSER).map_err(refused)? {
        Fork::Child => {
            drop(ours);
            let mut go = [0u8; 1];
            let done = first()
                .and_then(|()| theirs.read_exact(&mut go).step("wait for id maps"))
                .and_then(|()| become_root(maps))
                .and_then(|()| work());
            let code = done.unwrap_or_else(|e| {
                say(&e);
                e.exit() as u8
            });
            std::process::exit(i32::from(code))
        }
        Fork::Parent(pid) => {
            drop(theirs);
            let mapped = write_maps(pid, maps)
                .and_then(|()| ours.write_all(&[0]).step("start the helper process"));
            drop(ours);
            let status = waitpid(Pid::from_raw(pid), None).step("wait for the helper process")?;
            mapped.map(|()| status)
        }
    }
}
