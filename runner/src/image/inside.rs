//! Runs work on images as root of the container's user namespace: layers have files of all its users.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

use nix::sys::signal::Signal;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;
use sys::process::{Fork, clone_flags};

use crate::error::{Context, Error, Result, say};
use crate::identity::{become_root, decide, refused, write_maps};
use crate::image::unpack::{Owners, Rules};
use crate::spec::{Identity, MapWriter, Maps};

/// Bytes that the files of a layer may have, unless more is allowed.
pub(crate) const SIZE_MAX: u64 = 64 << 30;

/// Runs `work` with the rules that hold for this user, in a process of its own where a user namespace
/// is needed, and returns its exit code.
///
/// # Preconditions
/// The process has one thread.
pub(crate) fn inside(size_max: u64, work: impl FnOnce(Rules) -> Result<u8>) -> Result<u8> {
    // That only root exists is worth a word only where something becomes root's.
    let (identity, _) = decide();
    match &identity {
        Identity::Host => {
            let privileged = !crate::store::in_user_namespace();
            work(Rules { owners: Owners::Mapped, privileged, size_max })
        }
        Identity::Mapped(maps) => {
            let owners = match maps.writer {
                MapWriter::Ourselves => Owners::RootOnly,
                MapWriter::Helpers => Owners::Mapped,
            };
            as_root_of(maps, || work(Rules { owners, privileged: false, size_max }))
        }
    }
}

/// Runs `work` as root of a new user namespace with these maps, in a process of its own, and returns
/// its exit code.
///
/// # Preconditions
/// The process has one thread.
pub(crate) fn as_root_of(maps: &Maps, work: impl FnOnce() -> Result<u8>) -> Result<u8> {
    let (mut ours, mut theirs) = UnixStream::pair().step("make a socket pair")?;
    match sys::process::clone(clone_flags::NEWUSER).map_err(refused)? {
        Fork::Child => {
            drop(ours);
            let mut go = [0u8; 1];
            let done = nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)
                .step("tie the helper process to the command")
                .and_then(|()| theirs.read_exact(&mut go).step("wait for id maps"))
                .and_then(|()| become_root(maps))
                // A change of user takes the tie away.
                .and_then(|()| {
                    nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)
                        .step("tie the helper process to the command")
                })
                .and_then(|()| work());
            let code = match done {
                Ok(code) => code,
                Err(e) => {
                    say(&e);
                    e.exit() as u8
                }
            };
            std::process::exit(i32::from(code))
        }
        Fork::Parent(pid) => {
            drop(theirs);
            let mapped = write_maps(pid, maps)
                .and_then(|()| ours.write_all(&[0]).step("start the helper process"));
            drop(ours);
            let status = waitpid(Pid::from_raw(pid), None).step("wait for the helper process")?;
            mapped?;
            match status {
                WaitStatus::Exited(_, code) => Ok(code as u8),
                _ => Err(Error::new(
                    "work as the container's root",
                    format!("the helper process ended by {status:?}"),
                )),
            }
        }
    }
}
