//! Opens `/dev/fuse` and mounts: `mount(2)` with privilege or in a user namespace, else through the
//! setuid helper `fusermount3`; and unmounts only what it mounted itself.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io::{IoSliceMut, Read};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::cmsg_space;
use nix::errno::Errno;
use nix::mount::MsFlags;
use nix::sys::socket::{
    AddressFamily, ControlMessageOwned, MsgFlags, SockFlag, SockType, recvmsg, socketpair,
};

/// Where the file system is to be seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MountPoint {
    /// A directory.
    Path(PathBuf),
    /// An inherited descriptor of `/dev/fuse` that somebody has mounted already (`/dev/fd/N`).
    Mounted(RawFd),
}

impl MountPoint {
    /// Reads what a caller wrote: `/dev/fd/N` is a mounted descriptor, as libfuse has it.
    pub fn parse(arg: &OsStr) -> MountPoint {
        let fd = arg.as_bytes().strip_prefix(b"/dev/fd/");
        match fd.and_then(|n| std::str::from_utf8(n).ok()).and_then(|n| n.parse().ok()) {
            Some(fd) => MountPoint::Mounted(fd),
            None => MountPoint::Path(PathBuf::from(arg)),
        }
    }
}

/// What to mount and how.
#[derive(Clone, Debug)]
pub struct MountRequest {
    /// First field of /proc/mounts.
    pub source: OsString,
    /// Second part of the type: `fuse.SUBTYPE`.
    pub subtype: String,
    /// Where.
    pub at: MountPoint,
    /// Let other users than the mounter use it.
    pub allow_other: bool,
    /// Let the kernel check permissions by mode, owner and ACL.
    pub default_permissions: bool,
    /// Generic mount flags by name: `ro`, `nosuid`, `nodev`, `noexec`, `noatime`, … ([`flag`]).
    pub flags: Vec<String>,
}

/// Returns what a generic mount option means: the flag and whether it is set or cleared. `None` for
/// names that are no generic option.
pub fn flag(name: &str) -> Option<(MsFlags, bool)> {
    Some(match name {
        "ro" => (MsFlags::MS_RDONLY, true),
        "rw" => (MsFlags::MS_RDONLY, false),
        "nosuid" => (MsFlags::MS_NOSUID, true),
        "suid" => (MsFlags::MS_NOSUID, false),
        "nodev" => (MsFlags::MS_NODEV, true),
        "dev" => (MsFlags::MS_NODEV, false),
        "noexec" => (MsFlags::MS_NOEXEC, true),
        "exec" => (MsFlags::MS_NOEXEC, false),
        "sync" => (MsFlags::MS_SYNCHRONOUS, true),
        "async" => (MsFlags::MS_SYNCHRONOUS, false),
        "dirsync" => (MsFlags::MS_DIRSYNC, true),
        "noatime" => (MsFlags::MS_NOATIME, true),
        "atime" => (MsFlags::MS_NOATIME, false),
        "nodiratime" => (MsFlags::MS_NODIRATIME, true),
        "diratime" => (MsFlags::MS_NODIRATIME, false),
        "relatime" => (MsFlags::MS_RELATIME, true),
        "norelatime" => (MsFlags::MS_RELATIME, false),
        "strictatime" => (MsFlags::MS_STRICTATIME, true),
        "lazytime" => (MsFlags::MS_LAZYTIME, true),
        _ => return None,
    })
}

/// Why a mount failed, in words for a person: step and path, then the cause and what to do.
#[derive(Debug)]
pub enum MountError {
    /// `/dev/fuse` can't be opened.
    Device(Errno),
    /// The mount point can't be used.
    MountPoint(PathBuf, Errno),
    /// An inherited descriptor can't be used.
    Descriptor(RawFd, Errno),
    /// `mount(2)` failed.
    Mount(PathBuf, Errno),
    /// The helper `fusermount3` can't be started.
    NoHelper(PathBuf, std::io::Error),
    /// The helper refused; holds what it said.
    Helper(PathBuf, String),
}

impl fmt::Display for MountError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            MountError::Device(e @ (Errno::ENOENT | Errno::ENODEV | Errno::ENXIO)) => write!(
                f,
                "open /dev/fuse: {}: load the module with `modprobe fuse`, or give the container the device (`--device /dev/fuse`)",
                e.desc()
            ),
            MountError::Device(e @ (Errno::EACCES | Errno::EPERM)) => write!(
                f,
                "open /dev/fuse: {}: this user may not open the device; its mode should be 0666 (`chmod 666 /dev/fuse` as root)",
                e.desc()
            ),
            MountError::Device(e) => write!(f, "open /dev/fuse: {}", e.desc()),
            MountError::MountPoint(p, Errno::ENOENT) => {
                write!(f, "mount point {}: no such directory: create it first", p.display())
            }
            MountError::MountPoint(p, Errno::ENOTDIR) => {
                write!(
                    f,
                    "mount point {}: not a directory: give an existing directory",
                    p.display()
                )
            }
            MountError::MountPoint(p, e) => write!(f, "mount point {}: {}", p.display(), e.desc()),
            MountError::Descriptor(n, e) => write!(
                f,
                "mount point /dev/fd/{n}: {}: it must be an inherited descriptor of /dev/fuse that is mounted",
                e.desc()
            ),
            MountError::Mount(p, e) => write!(f, "mount on {}: {}", p.display(), e.desc()),
            MountError::NoHelper(p, e) => write!(
                f,
                "mount on {}: not permitted, and the helper fusermount3 can't be started ({e}): install the package fuse3, or run as root or in a user namespace",
                p.display()
            ),
            MountError::Helper(p, said) => {
                write!(f, "mount on {}: fusermount3 refused: {}", p.display(), said.trim())
            }
        }
    }
}

impl std::error::Error for MountError {}

/// A mounted file system: the descriptor, and what is needed to unmount this mount and no other.
///
/// Dropping it closes the descriptor and unmounts nothing: after an unmount from outside, the path
/// may be somebody else's mount already.
#[derive(Debug)]
pub struct Mount {
    fd: OwnedFd,
    at: Option<Place>,
}

/// Where a mount is: its path and its identity in /proc/self/mountinfo.
#[derive(Clone, Debug)]
pub struct Place {
    path: PathBuf,
    id: u64,
}

impl Mount {
    /// Mounts as asked.
    ///
    /// # Errors
    /// Each [`MountError`]; nothing is left mounted then.
    pub fn new(request: &MountRequest) -> Result<Mount, MountError> {
        let path = match &request.at {
            MountPoint::Mounted(n) => {
                let fd =
                    sys::process::inherited_fd(*n).map_err(|e| MountError::Descriptor(*n, e))?;
                return Ok(Mount { fd, at: None });
            }
            MountPoint::Path(p) => directory(p)?,
        };
        let fd = match open_device() {
            Ok(fd) => match mount_directly(request, &path, &fd) {
                Ok(()) => fd,
                Err(Errno::EPERM) => mount_by_helper(request, &path)?,
                Err(e) => return Err(MountError::Mount(path, e)),
            },
            // The helper opens the device with root's rights.
            Err(Errno::EACCES | Errno::EPERM) if !nix::unistd::geteuid().is_root() => {
                mount_by_helper(request, &path).map_err(|e| {
                    if let MountError::NoHelper(..) = e {
                        MountError::Device(Errno::EACCES)
                    } else {
                        e
                    }
                })?
            }
            Err(e) => return Err(MountError::Device(e)),
        };
        let id = top_mount(&path).unwrap_or(0);
        Ok(Mount { fd, at: Some(Place { path, id }) })
    }

    /// Takes the descriptor for serving; the place stays for unmounting.
    pub fn into_parts(self) -> (OwnedFd, Option<Place>) {
        (self.fd, self.at)
    }
}

impl Place {
    /// Returns the mount point.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the place of a mount of ours by its identity, without looking at the mount, which may
    /// have nobody to answer; `None` if it is gone.
    pub fn again(id: u64) -> Option<Place> {
        let info = std::fs::read("/proc/self/mountinfo").ok()?;
        let path = info.split(|&b| b == b'\n').find_map(|line| {
            let mut fields = line.split(|&b| b == b' ');
            let theirs: u64 = std::str::from_utf8(fields.next()?).ok()?.parse().ok()?;
            if theirs == id { unescape_octal(fields.nth(3)?).into() } else { None }
        })?;
        Some(Place { path: OsString::from_vec(path).into(), id })
    }

    /// Returns the mount's identity; 0 where it isn't known.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Unmounts this mount if it is still the topmost at its path; lazily where it is in use.
    ///
    /// # Errors
    /// What `umount2(2)` or the helper answered.
    pub fn unmount(&self) -> Result<(), MountError> {
        if self.id == 0 || top_mount(&self.path) != Some(self.id) {
            return Ok(());
        }
        let path = self.path.as_os_str();
        let failed = |e| MountError::Mount(self.path.clone(), e);
        match sys::mount::umount(path, libc_umount::NOFOLLOW) {
            Ok(()) => Ok(()),
            Err(Errno::EBUSY) => {
                sys::mount::umount(path, libc_umount::NOFOLLOW | libc_umount::DETACH)
                    .map_err(failed)
            }
            Err(Errno::EPERM) => unmount_by_helper(&self.path),
            Err(e) => Err(failed(e)),
        }
    }
}

/// Flags of `umount2(2)`, from its man page.
mod libc_umount {
    pub(super) const DETACH: i32 = 2;
    pub(super) const NOFOLLOW: i32 = 8;
}

fn directory(path: &Path) -> Result<PathBuf, MountError> {
    let fail = |e: std::io::Error| {
        MountError::MountPoint(path.to_path_buf(), Errno::from_raw(e.raw_os_error().unwrap_or(0)))
    };
    let path = path.canonicalize().map_err(fail)?;
    if !path.metadata().map_err(fail)?.is_dir() {
        return Err(MountError::MountPoint(path, Errno::ENOTDIR));
    }
    Ok(path)
}

fn open_device() -> nix::Result<OwnedFd> {
    use nix::fcntl::{OFlag, open};
    open("/dev/fuse", OFlag::O_RDWR | OFlag::O_CLOEXEC, nix::sys::stat::Mode::empty())
}

fn mount_directly(request: &MountRequest, path: &Path, fd: &OwnedFd) -> nix::Result<()> {
    let mut flags = MsFlags::empty();
    for (bit, on) in request.flags.iter().filter_map(|f| flag(f)) {
        flags.set(bit, on);
    }
    let mut data = format!(
        "fd={},rootmode=40000,user_id={},group_id={}",
        fd.as_raw_fd(),
        nix::unistd::geteuid(),
        nix::unistd::getegid()
    );
    if request.default_permissions {
        data.push_str(",default_permissions");
    }
    if request.allow_other {
        data.push_str(",allow_other");
    }
    let kind = format!("fuse.{}", request.subtype);
    let source = request.source.as_os_str();
    nix::mount::mount(Some(source), path, Some(kind.as_str()), flags, Some(data.as_str()))
}

/// Lets `fusermount3` mount, and receives the descriptor from it over a socket, which it gets as
/// its standard input (`_FUSE_COMMFD=0`).
fn mount_by_helper(request: &MountRequest, path: &Path) -> Result<OwnedFd, MountError> {
    let io = |e: Errno| MountError::Mount(path.to_path_buf(), e);
    let (ours, theirs) =
        socketpair(AddressFamily::Unix, SockType::Stream, None, SockFlag::SOCK_CLOEXEC)
            .map_err(io)?;
    let mut options = OsString::from(format!("subtype={},fsname=", request.subtype));
    options.push(escape_comma(&request.source));
    for f in &request.flags {
        options.push(",");
        options.push(f);
    }
    if request.default_permissions {
        options.push(",default_permissions");
    }
    if request.allow_other {
        options.push(",allow_other");
    }
    let mut child = Command::new("fusermount3")
        .arg("-o")
        .arg(options)
        .arg("--")
        .arg(path)
        .env("_FUSE_COMMFD", "0")
        .stdin(Stdio::from(theirs))
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|e| MountError::NoHelper(path.to_path_buf(), e))?;
    let received = receive_fd(&ours);
    let mut said = String::new();
    if let Some(mut err) = child.stderr.take()
        && let Err(e) = err.read_to_string(&mut said)
    {
        said = e.to_string();
    }
    let status = child.wait().map_err(|e| MountError::NoHelper(path.to_path_buf(), e))?;
    match received.map_err(io)? {
        Some(fd) if status.success() => Ok(fd),
        _ => Err(MountError::Helper(path.to_path_buf(), said)),
    }
}

fn escape_comma(source: &OsStr) -> OsString {
    let mut out = Vec::with_capacity(source.len());
    for &b in source.as_bytes() {
        if b == b',' || b == b'\\' {
            out.push(b'\\');
        }
        out.push(b);
    }
    OsString::from_vec(out)
}

/// Receives one descriptor, or `None` where the other end closed without sending one.
fn receive_fd(socket: &OwnedFd) -> nix::Result<Option<OwnedFd>> {
    let mut byte = [0u8; 1];
    let mut iov = [IoSliceMut::new(&mut byte)];
    let mut space = cmsg_space!(RawFd);
    let message =
        recvmsg::<()>(socket.as_raw_fd(), &mut iov, Some(&mut space), MsgFlags::MSG_CMSG_CLOEXEC)?;
    for c in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(fds) = c
            && let Some(fd) = fds.first()
        {
            return Ok(Some(sys::process::inherited_fd(*fd)?));
        }
    }
    Ok(None)
}

fn unmount_by_helper(path: &Path) -> Result<(), MountError> {
    let out = Command::new("fusermount3")
        .args(["-u", "-z", "--"])
        .arg(path)
        .stdin(Stdio::null())
        .output()
        .map_err(|e| MountError::NoHelper(path.to_path_buf(), e))?;
    if out.status.success() {
        return Ok(());
    }
    Err(MountError::Helper(path.to_path_buf(), String::from_utf8_lossy(&out.stderr).into()))
}

/// Returns the identity of the topmost mount at `path` by /proc/self/mountinfo (proc(5)).
fn top_mount(path: &Path) -> Option<u64> {
    let info = std::fs::read("/proc/self/mountinfo").ok()?;
    info.split(|&b| b == b'\n').rev().find_map(|line| {
        let mut fields = line.split(|&b| b == b' ');
        let id = fields.next()?;
        let at = unescape_octal(fields.nth(3)?);
        if at != path.as_os_str().as_bytes() {
            return None;
        }
        std::str::from_utf8(id).ok()?.parse().ok()
    })
}

/// Undoes the `\040` notation of mountinfo for space, tab, newline and backslash.
fn unescape_octal(field: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&b, tail)) = rest.split_first() {
        let code = tail.get(..3).and_then(|d| std::str::from_utf8(d).ok());
        match code.and_then(|d| u8::from_str_radix(d, 8).ok()) {
            Some(byte) if b == b'\\' => {
                out.push(byte);
                rest = tail.get(3..).unwrap_or_default();
            }
            _ => {
                out.push(b);
                rest = tail;
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dev_fd_is_a_mounted_descriptor() {
        assert_eq!(MountPoint::parse(OsStr::new("/dev/fd/7")), MountPoint::Mounted(7));
        let other = MountPoint::parse(OsStr::new("/dev/fd/7/x"));
        assert_eq!(other, MountPoint::Path("/dev/fd/7/x".into()));
    }

    #[test]
    fn mountinfo_names_are_unescaped() {
        assert_eq!(unescape_octal(br"/a\040b\134c"), br"/a b\c");
        assert_eq!(unescape_octal(br"/plain"), br"/plain");
    }

    #[test]
    fn the_root_is_a_mount() {
        assert!(top_mount(Path::new("/")).is_some());
        assert_eq!(top_mount(Path::new("/no/such/mount")), None);
    }

    #[test]
    fn a_mount_is_found_by_its_identity() {
        let root = top_mount(Path::new("/")).unwrap();
        assert_eq!(Place::again(root).unwrap().path(), Path::new("/"));
        assert!(Place::again(u64::MAX).is_none());
    }
}
