//! The step into the container's root, after which nothing of the host's is in reach.

use std::os::fd::OwnedFd;

use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::unistd::{chdir, chroot, fchdir, pivot_root};

use crate::error::{Context, Error, Result};
use crate::spec::Enter;

/// How the root was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pivoted {
    /// By pivot_root(2); the host's root is unmounted.
    Cleanly,
    /// By moving the mount over `/` and chroot(2), as the host's root is an initramfs.
    Moved,
}

/// Makes `root`, which must be a mount point, the root of the caller's mount namespace.
pub(crate) fn pivot(root: &OwnedFd, how: Enter) -> Result<Pivoted> {
    fchdir(root).step("enter the new root")?;
    if how == Enter::Move {
        return moved();
    }
    // The old root ends up mounted over the new one, under the same path, where we stand ...
    match pivot_root(".", ".") {
        Ok(()) => {}
        // ... but the kernel's first root can't be moved.
        Err(Errno::EINVAL) => return moved(),
        Err(e) => return Err(Error::new("change the root", e)),
    }
    // ... so that this lets go of it, without a place in the new root to park it at.
    umount2(".", MntFlags::MNT_DETACH).step("unmount the host's root")?;
    chdir("/").step("enter the new root")?;
    Ok(Pivoted::Cleanly)
}

fn moved() -> Result<Pivoted> {
    match mount(Some("."), "/", None::<&str>, MsFlags::MS_MOVE, None::<&str>) {
        // A bundle's root is there already.
        Ok(()) | Err(Errno::ELOOP | Errno::EINVAL | Errno::EBUSY) => {}
        Err(e) => return Err(Error::new("move the new root over the old one", e)),
    }
    chroot(".").step("change the root")?;
    chdir("/").step("enter the new root")?;
    Ok(Pivoted::Moved)
}
