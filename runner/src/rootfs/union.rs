//! The merged root: unionfs over a FUSE descriptor, or the kernel's overlay.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use nix::errno::Errno;
use nix::libc;
use nix::mount::{MsFlags, mount};
use sys::mount::attr;
use sys::openat::{Confine, open_at, open_confined};

use crate::error::{Context, Error, Result};
use crate::rootfs::daemon::{self, Daemon, Program};
use crate::rootfs::path::attach as attach_mount;
use crate::rootfs::{Opt, init_layer, new_mount};
use crate::spec::{Base, Driver, Root, Scratch, Spec, Upper};

/// The merged root before it is attached.
#[derive(Debug)]
pub(crate) enum Union {
    /// A FUSE mount, attached nowhere yet.
    Fuse(OwnedFd),
    /// Options of overlayfs.
    Kernel(OsString),
    /// No union: a read-only copy of the mount of the only layer, attached nowhere yet.
    None(OwnedFd),
}

/// Fills the init layer, and starts the daemon if there is to be one.
///
/// # Preconditions
/// The caller is root of the container's user namespace and sees the host's files.
pub(crate) fn prepare(spec: &Spec, root: &Root) -> Result<(Union, Option<Daemon>)> {
    let scratch = Path::new(&spec.state).join("scratch");
    if root.scratch == Scratch::Memory {
        let (kind, flags) = (Some("tmpfs"), MsFlags::MS_NODEV);
        mount(kind, &scratch, kind, flags, Some("mode=0700"))
            .step_at("mount tmpfs on", &scratch)?;
    }
    if root.driver == Driver::None {
        return Ok((Union::None(only_layer(root, &scratch)?), None));
    }
    let make = |name: &str| {
        let dir = scratch.join(name);
        fs::create_dir(&dir).step_at("create directory", &dir).map(|()| dir)
    };
    let init = make("init")?;
    init_layer::fill(&init, root)?;
    let mut options = OsString::from("lowerdir=");
    options.push(escape(init.as_os_str()));
    for layer in &root.layers {
        options.push(":");
        options.push(escape(layer));
    }
    let (upper, work) = match &root.upper {
        Upper::Kept { upper, work } => (upper.clone(), work.clone()),
        Upper::Scratch => (make("upper")?.into_os_string(), make("work")?.into_os_string()),
    };
    let top = root.layers.first().map_or(Path::new("/"), Path::new);
    init_layer::top_like(Path::new(&upper), top)?;
    options.push(",upperdir=");
    options.push(escape(&upper));
    options.push(",workdir=");
    options.push(escape(&work));
    if root.driver == Driver::Kernel {
        if root.userxattr {
            options.push(",userxattr");
        }
        return Ok((Union::Kernel(options), None));
    }
    fuse(spec, root, options)
}

/// Makes the files of the init layer, and a copy of the mount of the only layer, of which nothing can be
/// changed.
fn only_layer(root: &Root, scratch: &Path) -> Result<OwnedFd> {
    for (path, content) in &root.files {
        let file = scratch.join(init_file(path));
        fs::write(&file, content).step_at("write", &file)?;
        let mode = fs::Permissions::from_mode(0o644);
        fs::set_permissions(&file, mode).step_at("set the mode of", &file)?;
    }
    let layer = root.layers.first().map_or(OsStr::new("/"), OsString::as_os_str);
    let dir = open_path(layer)?;
    let mount = sys::mount::clone_mount(&dir).map_err(|e| {
        Error::new("bind the root directory", e).at(layer).hint_if(
            Errno::EINVAL,
            "without root, what is mounted below it can't be left out: use another driver",
        )
    })?;
    sys::mount::mount_setattr(&mount, attr::RDONLY | attr::NODEV)
        .step_at("make read-only", layer)?;
    Ok(mount)
}

/// Returns the name that a file of the init layer has where nothing is merged.
fn init_file(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// Covers the root's own files with those of the init layer. What it lacks can't be made.
fn cover_files(mount: &OwnedFd, spec: &Spec) -> Result<()> {
    let Base::Layers(root) = &spec.root else { return Ok(()) };
    let scratch = Path::new(&spec.state).join("scratch");
    for (path, _) in &root.files {
        let path = OsStr::new(path);
        let target = match open_confined(mount, path, libc::O_PATH, 0, Confine::InRoot) {
            Ok(fd) => fd,
            Err(Errno::ENOENT | Errno::ENOTDIR) => continue,
            Err(e) => return Err(Error::new("open in the container", e).at(path)),
        };
        let file = scratch.join(init_file(&path.to_string_lossy()));
        let file = open_at(nix::fcntl::AT_FDCWD, file.as_os_str(), libc::O_PATH, 0)
            .step_at("open", &file)?;
        let bind = sys::mount::clone_mount(&file).step_at("bind", path)?;
        let attributes = attr::RDONLY | attr::NOSUID | attr::NODEV | attr::NOEXEC;
        sys::mount::mount_setattr(&bind, attributes).step_at("make read-only", path)?;
        attach_mount(&bind, &target, path)?;
    }
    Ok(())
}

/// Mounts FUSE and starts the daemon that answers.
fn fuse(spec: &Spec, root: &Root, mut options: OsString) -> Result<(Union, Option<Daemon>)> {
    if root.unmapped_root {
        options.push(",unmapped_root");
    }
    let (device, mount) = fuse_mount("unionfs", attr::NODEV)?;
    let at = format!("/dev/fd/{}", device.as_raw_fd());
    let args = vec!["-f".into(), "-o".into(), options, at.into()];
    let daemon = daemon::start(Program::Unionfs, args, &device, spec.supervisor)?;
    Ok((Union::Fuse(mount), Some(daemon)))
}

/// Opens /dev/fuse, and makes a mount of it that is attached nowhere yet.
pub(crate) fn fuse_mount(name: &str, attributes: u64) -> Result<(OwnedFd, OwnedFd)> {
    let path = "/dev/fuse";
    let device = open_at(nix::fcntl::AT_FDCWD, OsStr::new(path), libc::O_RDWR, 0).map_err(|e| {
        let modprobe = "load the module with `modprobe fuse`, or give this container the device";
        let denied = "as root, run `chmod 666 /dev/fuse`";
        Error::new("open", e)
            .at(path)
            .hint_if(Errno::ENOENT, modprobe)
            .hint_if(Errno::ENODEV, modprobe)
            .hint_if(Errno::ENXIO, modprobe)
            .hint_if(Errno::EACCES, denied)
            .hint_if(Errno::EPERM, denied)
    })?;
    let fd = device.as_raw_fd().to_string();
    let options = [
        Opt::Value(c"source", name),
        Opt::Value(c"subtype", name),
        Opt::Value(c"fd", &fd),
        Opt::Value(c"rootmode", "40000"),
        Opt::Value(c"user_id", "0"),
        Opt::Value(c"group_id", "0"),
        Opt::Flag(c"default_permissions"),
        Opt::Flag(c"allow_other"),
    ];
    let mount = new_mount(c"fuse", &options, attributes)?;
    Ok((device, mount))
}

/// Attaches the merged root at the state directory's `root`, in the mount namespace of the caller,
/// and returns a descriptor of its top.
pub(crate) fn attach(union: Union, spec: &Spec) -> Result<OwnedFd> {
    let at = Path::new(&spec.state).join("root");
    match union {
        Union::Fuse(mount) => {
            let target = open_path(at.as_os_str())?;
            sys::mount::move_mount(&mount, &target).step_at("attach the root at", &at)?;
            // The first request waits until the daemon has shaken hands, or has given up.
            match nix::sys::stat::fstat(&mount) {
                Ok(_) => Ok(mount),
                Err(e) => Err(Error::new("merged root", e)
                    .hint("unionfs ended before the root was ready; it says why above")),
            }
        }
        Union::None(mount) => {
            let target = open_path(at.as_os_str())?;
            sys::mount::move_mount(&mount, &target).step_at("attach the root at", &at)?;
            cover_files(&mount, spec)?;
            Ok(mount)
        }
        Union::Kernel(options) => {
            let options = options.as_os_str();
            mount(Some("overlay"), &at, Some("overlay"), MsFlags::MS_NODEV, Some(options))
                .map_err(|e| {
                    Error::new("mount overlay", e)
                        .hint("the kernel can't merge these layers (without root, not those with mounts below): use --driver unionfs")
                })?;
            open_path(at.as_os_str())
        }
    }
}

fn open_path(path: &OsStr) -> Result<OwnedFd> {
    open_at(nix::fcntl::AT_FDCWD, path, libc::O_PATH | libc::O_DIRECTORY, 0).step_at("open", path)
}

/// Protects the characters that end a value in the options of overlayfs.
fn escape(path: &OsStr) -> OsString {
    let mut out = Vec::with_capacity(path.len());
    for &b in path.as_bytes() {
        if matches!(b, b':' | b',' | b'\\') {
            out.push(b'\\');
        }
        out.push(b);
    }
    OsString::from_vec(out)
}

/// Returns the layer, if any, in which the root has something at this path.
pub(crate) fn topmost(root: &Root, below: &Path) -> Option<std::path::PathBuf> {
    let found = |layer: &OsString| {
        let path = Path::new(layer).join(below);
        path.symlink_metadata().is_ok().then_some(path)
    };
    root.layers.iter().find_map(found)
}
