//! Namespaces of a worker: mounts of its own, and where it isn't root, a user namespace.

use std::fs;
use std::io;
use std::process::Command;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::statvfs::{FsFlags, statvfs};
use nix::unistd::{Uid, User};

use crate::bed::protocol::{Job, Link, Said};
use crate::subject::Family;

/// Enters new namespaces, in which nothing that is mounted is seen outside.
///
/// # Preconditions
/// The process has one thread.
pub(crate) fn enter(job: &Job, link: &mut Link) -> io::Result<()> {
    let failed = |what: &str, e: nix::Error| io::Error::other(format!("{what}: {}", e.desc()));
    let is_engine = job.subject.kind.family() == Family::Engine;
    if is_engine && !Uid::effective().is_root() {
        // An engine enters namespaces itself, and another one around them would change what it does.
        return Ok(());
    }
    if job.subject.rootless && !is_engine {
        unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS)
            .map_err(|e| failed("no user namespace for this user", e))?;
        link.ask(&Said::Unshared)?;
    } else {
        unshare(CloneFlags::CLONE_NEWNS).map_err(|e| failed("mount namespace", e))?;
    }
    let none = None::<&str>;
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount(none, "/", none, private, none).map_err(|e| failed("make mounts private", e))
}

/// Makes the fixtures read-only for this worker: what a subject does to its lower layers (mergerfs
/// opens files of a read-only branch for writing) must not change what others start from.
pub(crate) fn protect(job: &Job) -> io::Result<()> {
    if job.subject.kind.family() == Family::Engine {
        return Ok(());
    }
    let dir = &job.home.join("fixture");
    let none = None::<&str>;
    mount(Some(dir), dir, none, MsFlags::MS_BIND, none)?;
    let again = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
    // In a user namespace the flags of the mount that it is a copy of must stay.
    let kept = statvfs(dir)?.flags();
    let keep = [
        (FsFlags::ST_NOSUID, MsFlags::MS_NOSUID),
        (FsFlags::ST_NODEV, MsFlags::MS_NODEV),
        (FsFlags::ST_NOEXEC, MsFlags::MS_NOEXEC),
        (FsFlags::ST_RELATIME, MsFlags::MS_RELATIME),
        (FsFlags::ST_NOATIME, MsFlags::MS_NOATIME),
    ];
    let kept = keep.into_iter().filter(|(f, _)| kept.contains(*f)).map(|(_, m)| m);
    Ok(mount(none, dir, none, again | kept.collect(), none)?)
}

/// Maps the ids of a worker that has entered a user namespace: root is `uid`, and after it come the
/// ids that /etc/subuid gives that user.
pub(crate) fn map_ids(pid: u32, uid: Uid, gid: u32) -> io::Result<()> {
    let user = User::from_uid(uid)?.map_or_else(|| uid.to_string(), |u| u.name);
    let subordinate = [("uid", "/etc/subuid"), ("gid", "/etc/subgid")]
        .map(|(what, file)| (what, subordinate(file, &user, uid)));
    let root = Uid::effective().is_root();
    for ((what, more), own) in subordinate.into_iter().zip([uid.as_raw(), gid]) {
        let mut map = vec![(0, own, 1)];
        map.extend(more.map(|(start, length)| (1, start, length)));
        if root {
            write_map(pid, what, &map)?;
        } else if map.len() == 1 || !by_helper(pid, what, &map) {
            if what == "gid" {
                fs::write(format!("/proc/{pid}/setgroups"), "deny")?;
            }
            write_map(pid, what, &map[..1])?;
        }
    }
    Ok(())
}

fn write_map(pid: u32, what: &str, map: &[(u32, u32, u32)]) -> io::Result<()> {
    let lines: String = map.iter().map(|(a, b, n)| format!("{a} {b} {n}\n")).collect();
    let path = format!("/proc/{pid}/{what}_map");
    fs::write(&path, lines).map_err(|e| io::Error::other(format!("{path}: {e}")))
}

/// Asks newuidmap or newgidmap, which may map subordinate ids for an ordinary user.
fn by_helper(pid: u32, what: &str, map: &[(u32, u32, u32)]) -> bool {
    let mut command = Command::new(format!("new{what}map"));
    command.arg(pid.to_string());
    for (inside, outside, length) in map {
        command.args([inside, outside, length].map(u32::to_string));
    }
    command.stderr(std::process::Stdio::null()).status().is_ok_and(|s| s.success())
}

/// Returns start and length of the first range of ids that a user may use, by subuid(5).
fn subordinate(file: &str, user: &str, uid: Uid) -> Option<(u32, u32)> {
    let text = fs::read_to_string(file).ok()?;
    let number = uid.to_string();
    text.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        if name != user && name != number {
            return None;
        }
        Some((fields.next()?.parse().ok()?, fields.next()?.trim().parse().ok()?))
    })
}
