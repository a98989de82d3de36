//! The container's own figures: the files of procfs-shim, bound over those of /proc and /sys.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::libc;
use procfs_shim::files::TABLE;
use sys::mount::attr;
use sys::openat::{Confine, open_at, open_confined};

use crate::error::{Context, Error, Result};
use crate::rootfs::daemon::{self, Daemon, Program, Waiting};
use crate::rootfs::path::attach;
use crate::rootfs::union::fuse_mount;
use crate::spec::{Shim, Spec};

/// Name of the daemon.
pub(crate) const NAME: &str = "procfs-shim";

/// Directory whose files are covered one by one: all else of /proc is the kernel's.
const FILES: &str = "proc/";
/// Directory that is covered as a whole, as it has an entry for each processor.
const PROCESSORS: &str = "sys/devices/system/cpu";
/// What may be done with a file that shows figures.
const ATTRIBUTES: u64 = attr::RDONLY | attr::NOSUID | attr::NODEV | attr::NOEXEC;

/// Mounts FUSE and starts the daemon, which waits for the pid of the container's first process.
pub(crate) fn prepare(spec: &Spec, shim: Shim) -> Result<(OwnedFd, Daemon, Waiting)> {
    let (device, mount) = fuse_mount(NAME, ATTRIBUTES)?;
    let mut args: Vec<OsString> = vec!["-f".into()];
    if let Some(bytes) = shim.declared_memory {
        args.extend(["--declared-memory".into(), bytes.to_string().into()]);
    }
    if let Some(m) = shim.declared_cpus {
        let cpus = format!("{}.{:03}", m / 1000, m % 1000);
        args.extend(["--declared-cpus".into(), cpus.into()]);
    }
    args.push(format!("/dev/fd/{}", device.as_raw_fd()).into());
    let (daemon, waiting) = daemon::start_waiting(Program::Shim, args, &device, spec.supervisor)?;
    Ok((mount, daemon, waiting))
}

/// Lets the daemon begin.
pub(crate) fn begin(waiting: Waiting, init: i32) -> Result<()> {
    waiting.go(&format!("--init-pid={init}"))
}

/// Binds each file that the daemon serves over the one of the same path in the container.
pub(crate) fn bind(root: &OwnedFd, mount: &OwnedFd, state: &OsStr) -> Result<()> {
    // A mount can be copied only where it is attached. Nothing below this place is looked up any more, and
    // it goes with the host's root.
    let at = Path::new(state).join("scratch");
    let place =
        open_at(nix::fcntl::AT_FDCWD, at.as_os_str(), libc::O_PATH, 0).step_at("open", &at)?;
    attach(mount, &place, at.as_os_str())?;
    // Its first answer waits until the daemon is ready, or has given up.
    sys::openat::open_at(mount, OsStr::new("proc"), libc::O_PATH, 0).map_err(|e| {
        Error::new("read the figures", e)
            .hint("procfs-shim ended before it was ready; it says why above")
    })?;
    let files = TABLE.iter().map(|row| row.path).filter(|path| path.starts_with(FILES));
    files.chain([PROCESSORS]).try_for_each(|file| cover(root, mount, OsStr::new(file)))
}

fn cover(root: &OwnedFd, mount: &OwnedFd, file: &OsStr) -> Result<()> {
    let target = match open_confined(root, file, libc::O_PATH, 0, Confine::InRoot) {
        Ok(fd) => fd,
        // The kernel doesn't have this file: there is nothing to correct.
        Err(Errno::ENOENT | Errno::ENOTDIR) => return Ok(()),
        Err(e) => return Err(Error::new("open in the container", e).at(file)),
    };
    let source = match open_confined(mount, file, libc::O_PATH, 0, Confine::BeneathNoSymlinks) {
        Ok(fd) => fd,
        // As on machines whose processors sysfs doesn't list.
        Err(Errno::ENOENT) => return Ok(()),
        Err(e) => return Err(Error::new("open figures", e).at(file)),
    };
    let bind = sys::mount::clone_mount(&source).step_at("bind figures", file)?;
    attach(&bind, &target, file)
}
