//! A mount that is live when it is returned and gone when it is dropped, also after a panic.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, umount2};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::WaitStatus;
use nix::unistd::Pid;

use crate::process;
use crate::subject::{Layers, Subject};

/// How long a whole test may keep a mount before its daemon counts as dead-locked and is killed,
/// which turns a hung test into a failed one.
const DEADLOCK: Duration = Duration::from_secs(300);

/// A mounted [`Subject`].
#[derive(Debug)]
pub struct Mounted {
    point: PathBuf,
    daemon: Option<i32>,
    live: bool,
    // Dropping it ends the watchdog.
    _watchdog: Option<mpsc::Sender<()>>,
}

impl Mounted {
    /// Mounts and returns when the mount is live. Ours gets the options of `$PALIMPSEST_OPTIONS` too.
    ///
    /// # Errors
    /// What the kernel or the daemon said.
    pub fn new(subject: &Subject, layers: &Layers, point: &Path) -> Result<Mounted, String> {
        let daemon = match subject {
            Subject::Kernel(features) => {
                let data = layers.data(features.options());
                while_busy(|| mount_overlay(&data, point)).map_err(|e| e.desc().to_owned())?;
                None
            }
            Subject::Ours(_) | Subject::FuseOverlayfs => {
                let program = subject.program().expect("a FUSE subject has a program");
                let more = std::env::var("PALIMPSEST_OPTIONS").ok();
                let more = more.iter().filter(|_| matches!(subject, Subject::Ours(_)));
                let more: Vec<_> = more.map(String::as_str).collect();
                Some(start(&program, &layers.data(&more), point)?)
            }
        };
        let point = point.to_path_buf();
        Ok(Mounted { point, daemon, live: true, _watchdog: daemon.map(watch) })
    }

    /// Returns the mount point.
    pub fn point(&self) -> &Path {
        &self.point
    }

    /// Returns the daemon's pid, where a daemon serves the mount.
    pub fn daemon(&self) -> Option<i32> {
        self.daemon
    }

    /// Unmounts, waits for the daemon to end, and returns how it ended.
    ///
    /// # Panics
    /// The mount is in use, or the daemon doesn't end.
    pub fn unmount(mut self) -> Option<WaitStatus> {
        self.live = false;
        unmount_when_free(&self.point).unwrap_or_else(|e| {
            panic!("unmount {}: {}", self.point.display(), e.desc());
        });
        self.wait_for_daemon()
    }

    /// Sends the daemon a signal, waits for its end, and returns how it ended.
    ///
    /// # Panics
    /// There is no daemon, or it doesn't end.
    pub fn signal(mut self, signal: Signal) -> WaitStatus {
        let pid = self.daemon.expect("a daemon to signal");
        kill(Pid::from_raw(pid), signal).expect("signal the daemon");
        let status = self.wait_for_daemon().expect("the daemon's end");
        // What it left mounted is for the caller to look at, and for Scratch to clean up.
        self.live = false;
        status
    }

    /// Waits for the daemon to end after somebody else has unmounted.
    ///
    /// # Panics
    /// It doesn't end.
    pub fn ended(mut self) -> Option<WaitStatus> {
        self.live = false;
        self.wait_for_daemon()
    }

    fn wait_for_daemon(&mut self) -> Option<WaitStatus> {
        let pid = self.daemon.take()?;
        let status = process::reap(pid);
        assert!(status.is_some(), "the daemon of {} doesn't end", self.point.display());
        status
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        if self.live && umount2(&self.point, MntFlags::MNT_DETACH).is_err() {
            eprintln!("{} was not mounted any more", self.point.display());
        }
        let Some(pid) = self.daemon.take() else { return };
        // A lazily unmounted daemon lives as long as its mount is used; none is meant to.
        if kill(Pid::from_raw(pid), Signal::SIGTERM).is_ok() && process::reap(pid).is_none() {
            eprintln!("the daemon {pid} doesn't end by SIGTERM: it is killed");
            if kill(Pid::from_raw(pid), Signal::SIGKILL).is_ok() {
                process::reap(pid);
            }
        }
    }
}

/// Mounts the kernel's overlayfs.
///
/// # Errors
/// Those of mount(2).
pub fn mount_overlay(data: &str, point: &Path) -> Result<(), Errno> {
    nix::mount::mount(Some("overlay"), point, Some("overlay"), MsFlags::empty(), Some(data))
}

/// Starts a daemon as engines do: it detaches, and its success means that the mount is live.
fn start(program: &Path, options: &str, point: &Path) -> Result<i32, String> {
    process::adopt_orphans();
    let before = process::daemons_of(point);
    let out = process::run(Command::new(program).arg("-o").arg(options).arg(point));
    if !out.status.success() {
        let said = String::from_utf8_lossy(&out.stderr).into_owned();
        return Err(format!("{}: {said}", out.status));
    }
    let new = process::daemons_of(point).into_iter().find(|pid| !before.contains(pid));
    new.ok_or_else(|| "no daemon behind the mount".to_owned())
}

/// Kills the daemon of a test that hangs.
fn watch(pid: i32) -> mpsc::Sender<()> {
    let (done, watch) = mpsc::channel::<()>();
    std::thread::spawn(move || {
        if watch.recv_timeout(DEADLOCK) == Err(mpsc::RecvTimeoutError::Timeout) {
            eprintln!("daemon {pid} is killed: its test hangs");
            if let Err(e) = kill(Pid::from_raw(pid), Signal::SIGKILL) {
                eprintln!("kill {pid}: {e}");
            }
        }
    });
    done
}

/// Unmounts, as umount(8) does.
///
/// # Errors
/// Those of umount2(2); `EBUSY` only if it lasts.
pub fn unmount_when_free(point: &Path) -> Result<(), Errno> {
    while_busy(|| umount2(point, MntFlags::UMOUNT_NOFOLLOW))
}

/// Tries again while a mount is busy through no fault of the test: a process that another thread
/// starts holds copies of our descriptors between its fork and its exec, and a new mount namespace,
/// of whomever, holds a copy of our mount, and with it the upper layer, for as long as it lives.
fn while_busy(mut attempt: impl FnMut() -> Result<(), Errno>) -> Result<(), Errno> {
    let start = Instant::now();
    loop {
        match attempt() {
            Err(Errno::EBUSY) if start.elapsed() < process::PATIENCE => {
                std::thread::yield_now();
            }
            result => return result,
        }
    }
}
