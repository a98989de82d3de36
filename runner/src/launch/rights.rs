//! What the container's programs may do: capabilities and filters of system calls, given away in an order
//! in which each step still has the right to be made.

use std::os::fd::AsFd;

use nix::errno::Errno;
use nix::sys::prctl;
use sys::caps::Sets;

use crate::error::{Context, Error, Result};
use crate::launch::sync::{Channel, ToSupervisor};
use crate::launch::{answers, filter};
use crate::spec::{Capabilities, Rights, Sysinfo};

/// Numbers of capabilities that a kernel may know (they are held in 64 bits).
const LAST_CAPABILITY: u32 = 63;

/// Leaves the capabilities that are granted, and puts the program under its filters.
pub(super) fn give_away(channel: &mut Channel, rights: &Rights, uid: u32) -> Result<()> {
    if rights.no_new_privs {
        prctl::set_no_new_privs().step("forbid new rights")?;
        end(&rights.capabilities, uid).step("drop capabilities")?;
        return filter(channel, rights);
    }
    // Without no_new_privs, only who has rights may put itself under a filter.
    if rights.seccomp.is_some() || rights.sysinfo == Sysinfo::Container {
        raise(sys::process::CAP_SYS_ADMIN).step("filter system calls")?;
    }
    filter(channel, rights)?;
    end(&rights.capabilities, uid).step("drop capabilities")
}

/// Puts the program under its filters of system calls.
fn filter(channel: &mut Channel, rights: &Rights) -> Result<()> {
    if rights.sysinfo == Sysinfo::Container {
        let program = filter::notify(&answers::CALLS);
        match sys::seccomp::set_filter_with_listener(&program) {
            Ok(listener) => channel.send_fd(&ToSupervisor::Calls, listener.as_fd())?,
            // Inside another container that answers calls, ours can't.
            Err(Errno::EBUSY) => channel.send(&ToSupervisor::Weaker(
                "sysinfo(2) is answered by somebody else already, who shows other figures".into(),
            ))?,
            Err(e) => return Err(Error::new("take system calls over", e)),
        }
    }
    let Some(profile) = &rights.seccomp else { return Ok(()) };
    let program = filter::compile(profile);
    if profile.listener.is_none() {
        return sys::seccomp::set_filter_with_flags(&program, profile.flags)
            .step("filter system calls");
    }
    let listener = sys::seccomp::set_filter_with_flags_and_listener(&program, profile.flags)
        .step("filter system calls")?;
    channel.send_fd(&ToSupervisor::Calls, listener.as_fd())
}

/// Takes from all programs to come the capabilities that aren't granted.
pub(super) fn limit_bounding(granted: u64) -> nix::Result<()> {
    for cap in (0..=LAST_CAPABILITY).filter(|c| granted >> c & 1 == 0) {
        match sys::caps::drop_bounding(cap) {
            // The kernel knows fewer.
            Err(Errno::EINVAL) => break,
            r => r?,
        }
    }
    sys::caps::clear_ambient()
}

/// Lets capabilities survive a change of user: what comes after it may need them.
pub(super) fn keep_over_change_of_user() -> nix::Result<()> {
    prctl::set_keepcaps(true)
}

/// Leaves in effect what the program will have, and at hand what is needed to get there.
pub(super) fn begin(granted: &Capabilities) -> nix::Result<()> {
    let permitted = sys::caps::permitted()?;
    let effective = permitted & granted.effective;
    sys::caps::set_each(Sets { effective, permitted, inheritable: 0 })
}

/// Brings one capability into effect, if it is at hand.
fn raise(cap: u32) -> nix::Result<()> {
    let permitted = sys::caps::permitted()?;
    let effective = permitted & 1 << cap;
    sys::caps::set_each(Sets { effective, permitted, inheritable: 0 })
}

/// Leaves what is granted. What a user other than root would lose as it starts a program is given away
/// here.
fn end(granted: &Capabilities, uid: u32) -> nix::Result<()> {
    let had = sys::caps::permitted()?;
    let inheritable = had & granted.inheritable;
    let stays = if uid == 0 { had } else { had & granted.ambient };
    let (effective, permitted) = (stays & granted.effective, stays & granted.permitted);
    // The ambient set is a part of these two, and of the inheritable one.
    let ambient = granted.ambient & inheritable;
    let permitted = permitted | ambient;
    let effective = effective & permitted | ambient;
    sys::caps::set_each(Sets { effective, permitted, inheritable })?;
    for cap in (0..=LAST_CAPABILITY).filter(|c| ambient >> c & 1 == 1) {
        sys::caps::raise_ambient(cap)?;
    }
    Ok(())
}

/// Takes from the caller the capabilities that aren't granted, for good.
pub(super) fn limit(rights: &Rights) -> nix::Result<()> {
    sys::caps::set(sys::caps::permitted()? & rights.capabilities.permitted)?;
    if rights.no_new_privs { prctl::set_no_new_privs() } else { Ok(()) }
}
