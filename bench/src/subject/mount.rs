//! Mounts of file systems: live when they are returned, gone when they are dropped.

use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use super::{Kind, Subject};

/// How long a daemon may take to end after its mount is gone.
const PATIENCE: Duration = Duration::from_secs(10);

/// Directories of one mount.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    /// Lower layers, topmost first; relative to the working directory where that keeps options short.
    pub(crate) lowers: Vec<PathBuf>,
    /// Upper layer.
    pub(crate) upper: PathBuf,
    /// Work directory.
    pub(crate) work: PathBuf,
    /// Mount point.
    pub(crate) point: PathBuf,
    /// Where to write what the daemon says, which then stays in the foreground.
    pub(crate) log: Option<PathBuf>,
}

/// A live mount.
#[derive(Debug)]
pub(crate) struct Mounted {
    /// Where.
    pub(crate) point: PathBuf,
    /// The process that serves it, if one does.
    pub(crate) daemon: Option<i32>,
    is_mount: bool,
    /// Whether the daemon ends by itself, and soon, when its mount is gone.
    ends: bool,
}

/// Mounts layers. A bare subject is the mount point itself, which then has what shall be seen.
pub(crate) fn mount_on(subject: &Subject, place: &Place) -> io::Result<Mounted> {
    let point = place.point.clone();
    match subject.kind {
        Kind::Bare => return Ok(Mounted { point, daemon: None, is_mount: false, ends: true }),
        Kind::Bind => {
            let none = None::<&str>;
            mount(Some(&point), &point, none, MsFlags::MS_BIND, none)?;
        }
        Kind::Overlay => mount_overlay(subject, place)?,
        Kind::FuseOverlay => {
            let data = data(place, &subject.options);
            let mut command = Command::new(&subject.program);
            match &place.log {
                Some(log) => {
                    command.args(["-f", "-o"]).arg(data).arg(&point);
                    stay(command.stderr(fs::File::create(log)?), &point)?;
                }
                None => start(command.arg("-o").arg(data).arg(&point))?,
            }
        }
        Kind::UnionfsFuse => {
            let branches = branches(place);
            let options = with(&subject.options, "cow");
            start(Command::new(&subject.program).args(["-o", &options, &branches]).arg(&point))?;
        }
        Kind::Mergerfs => {
            let branches = branches(place);
            // The first branch that fits, so that the upper shadows what is below.
            let options =
                with(&subject.options, "func.getattr=ff,category.search=ff,category.create=ff");
            start(Command::new(&subject.program).args(["-o", &options, &branches]).arg(&point))?;
        }
        _ => return Err(io::Error::other("no file system")),
    }
    let mut mounted = Mounted { point, daemon: None, is_mount: true, ends: true };
    if subject.kind.has_daemon() {
        mounted.daemon = daemon_of(&mounted.point);
        if mounted.daemon.is_none() {
            return Err(io::Error::other("the daemon is gone as soon as it has mounted"));
        }
    }
    Ok(mounted)
}

/// Starts a shim on a mount point.
pub(crate) fn mount_shim_on(subject: &Subject, point: &Path) -> io::Result<Mounted> {
    let mut command = Command::new(&subject.program);
    if subject.kind == Kind::Lxcfs {
        // As distributions start it, but for the average load, which it keeps by a thread.
        command.arg("--enable-loadavg");
        command.arg(format!("--pidfile={}", point.with_file_name("pid").display()));
    }
    command.arg(point);
    match subject.kind {
        Kind::Lxcfs => stay(command.stderr(Stdio::null()), point)?,
        _ => start(&mut command)?,
    }
    // lxcfs waits for its thread of the average load, which sleeps for seconds.
    let ends = subject.kind != Kind::Lxcfs;
    let mut mounted = Mounted { point: point.to_path_buf(), daemon: None, is_mount: true, ends };
    mounted.daemon = daemon_of(point);
    match mounted.daemon {
        Some(_) => Ok(mounted),
        None => Err(io::Error::other("the daemon is gone as soon as it has mounted")),
    }
}

fn with(options: &str, more: &str) -> String {
    if options.is_empty() { more.to_owned() } else { format!("{more},{options}") }
}

fn data(place: &Place, options: &str) -> String {
    let lowers: Vec<_> = place.lowers.iter().map(|l| l.display().to_string()).collect();
    let data = format!(
        "lowerdir={},upperdir={},workdir={}",
        lowers.join(":"),
        place.upper.display(),
        place.work.display()
    );
    with(options, &data)
}

fn branches(place: &Place) -> String {
    let lowers: Vec<_> = place.lowers.iter().map(|l| format!("{}=RO", l.display())).collect();
    format!("{}=RW:{}", place.upper.display(), lowers.join(":"))
}

fn mount_overlay(subject: &Subject, place: &Place) -> io::Result<()> {
    // Without privileges, marks go where the user may write them.
    let data = match subject.rootless {
        true => data(place, &with(&subject.options, "userxattr")),
        false => data(place, &subject.options),
    };
    let kind = Some("overlay");
    let done = mount(kind, &place.point, kind, MsFlags::empty(), Some(data.as_str()));
    done.map_err(|e| io::Error::other(format!("mount overlay: {}", e.desc())))
}

fn start(command: &mut Command) -> io::Result<()> {
    let program = command.get_program().to_string_lossy().into_owned();
    let log = tempfile::tempfile()?;
    let status = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log.try_clone()?)
        .status()
        .map_err(|e| io::Error::other(format!("{program}: {e}")))?;
    if status.success() {
        return Ok(());
    }
    let mut said = vec![0; 4096];
    let read = std::os::unix::fs::FileExt::read_at(&log, &mut said, 0)?;
    let said = String::from_utf8_lossy(&said[..read]).trim().replace('\n', "; ");
    Err(io::Error::other(format!("{program}: {status}: {said}")))
}

/// Starts a daemon that doesn't detach, and waits until it has mounted. Its standard error is the
/// caller's choice.
fn stay(command: &mut Command, point: &Path) -> io::Result<()> {
    let program = command.get_program().to_string_lossy().into_owned();
    let below = fs::metadata(point)?.dev();
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn()?;
    let start = Instant::now();
    while fs::metadata(point)?.dev() == below {
        if let Some(status) = child.try_wait()? {
            return Err(io::Error::other(format!("{program}: {status}")));
        }
        if start.elapsed() > PATIENCE {
            child.kill()?;
            child.wait()?;
            return Err(io::Error::other(format!("{program}: no mount after {PATIENCE:?}")));
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    Ok(())
}

/// Returns the process whose last argument is the mount point.
fn daemon_of(point: &Path) -> Option<i32> {
    let own = std::process::id() as i32;
    fs::read_dir("/proc").ok()?.flatten().find_map(|entry| {
        let pid = entry.file_name().to_str()?.parse().ok()?;
        let args = fs::read(entry.path().join("cmdline")).ok()?;
        let args = args.strip_suffix(b"\0").unwrap_or(&args);
        let last = args.rsplit(|&b| b == 0).next() == Some(point.as_os_str().as_bytes());
        (last && pid != own).then_some(pid)
    })
}

impl Drop for Mounted {
    fn drop(&mut self) {
        if !self.is_mount {
            return;
        }
        let start = Instant::now();
        let mut done = umount2(&self.point, MntFlags::UMOUNT_NOFOLLOW);
        while done == Err(Errno::EBUSY) && start.elapsed() < PATIENCE {
            std::thread::sleep(Duration::from_millis(2));
            done = umount2(&self.point, MntFlags::UMOUNT_NOFOLLOW);
        }
        if done.is_err() {
            done = umount2(&self.point, MntFlags::MNT_DETACH);
        }
        if let Err(e) = done {
            eprintln!("bench: unmount {}: {}", self.point.display(), e.desc());
        }
        match self.daemon.map(Pid::from_raw) {
            Some(pid) if self.ends => wait_for(pid),
            Some(pid) => end(pid),
            None => {}
        }
    }
}

/// Waits for a daemon that has lost its mount; it is this process's child by adoption.
fn wait_for(pid: Pid) {
    let start = Instant::now();
    while start.elapsed() < PATIENCE {
        match waitpid(pid, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::StillAlive) => std::thread::sleep(Duration::from_millis(1)),
            Ok(_) | Err(Errno::ECHILD) => return,
            Err(_) => break,
        }
    }
    eprintln!("bench: the daemon {pid} doesn't end after its mount is gone: it is killed");
    end(pid);
}

/// Kills a daemon.
fn end(pid: Pid) {
    if kill(pid, Signal::SIGKILL).is_ok()
        && let Err(e) = waitpid(pid, None)
    {
        eprintln!("bench: wait for {pid}: {}", e.desc());
    }
}
