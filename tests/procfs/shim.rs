//! The daemon under test: started, waited for without sleeping, and gone at the end.

use std::ffi::OsStr;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::Duration;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// The program, built from this tree.
pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_procfs-shim-under-test");

/// How long a test may use a daemon: far more than any needs.
const PATIENCE: Duration = Duration::from_secs(300);

/// A running daemon and its mount.
#[derive(Debug)]
pub(crate) struct Shim {
    child: Child,
    _watchdog: Watchdog,
    dir: tempfile::TempDir,
}

/// A directory whose mounts are seen in mount namespaces that were made before them.
#[derive(Debug)]
pub(crate) struct SharedDir(tempfile::TempDir);

impl SharedDir {
    /// Makes one.
    pub(crate) fn new() -> SharedDir {
        let dir = SharedDir(directory());
        let none = None::<&str>;
        mount(Some("none"), dir.path(), Some("tmpfs"), MsFlags::empty(), none).expect("a tmpfs");
        mount(none, dir.path(), none, MsFlags::MS_SHARED, none).expect("make it shared");
        dir
    }

    /// Its path.
    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for SharedDir {
    fn drop(&mut self) {
        if let Err(e) = umount2(self.path(), MntFlags::MNT_DETACH) {
            eprintln!("unmount {}: {e}", self.path().display());
        }
    }
}

/// Ends a daemon that is used for too long, and its connection: readers that wait for an answer get an
/// error, so that a test that hangs fails instead.
#[derive(Debug)]
struct Watchdog(#[allow(dead_code)] Sender<()>);

impl Watchdog {
    fn new(daemon: i32, mount: &Path, patience: Duration) -> Watchdog {
        let (alive, is_over) = channel();
        let (mount, test) = (mount.to_path_buf(), std::thread::current().name().map(str::to_owned));
        std::thread::spawn(move || {
            if is_over.recv_timeout(patience) != Err(RecvTimeoutError::Timeout) {
                return;
            }
            eprintln!("{}: hangs: its daemon is ended", test.unwrap_or_default());
            if let Err(e) = kill(Pid::from_raw(daemon), Signal::SIGKILL) {
                eprintln!("kill the daemon {daemon}: {e}");
            }
            // With this flag, it ends the connection, whoever holds it.
            if let Err(e) = umount2(&mount, MntFlags::MNT_FORCE) {
                eprintln!("end the connection of {}: {e}", mount.display());
            }
        });
        Watchdog(alive)
    }
}

fn directory() -> tempfile::TempDir {
    tempfile::Builder::new().prefix("shim-test-").tempdir().expect("a directory")
}

impl Shim {
    /// Starts it with these arguments before the mount point; returns when the mount is live.
    pub(crate) fn start<A: AsRef<OsStr>>(args: &[A]) -> Shim {
        Shim::start_at(directory(), args, PATIENCE)
    }

    /// Starts it for a test that lasts.
    pub(crate) fn start_for<A: AsRef<OsStr>>(lasts: Duration, args: &[A]) -> Shim {
        Shim::start_at(directory(), args, PATIENCE + 2 * lasts)
    }

    /// Starts it below a shared directory.
    pub(crate) fn start_in<A: AsRef<OsStr>>(shared: &SharedDir, args: &[A]) -> Shim {
        let dir = tempfile::tempdir_in(shared.path()).expect("a directory");
        Shim::start_at(dir, args, PATIENCE)
    }

    fn start_at<A: AsRef<OsStr>>(dir: tempfile::TempDir, args: &[A], patience: Duration) -> Shim {
        // The pipe of its standard output becomes the descriptor to announce on: made so, no other
        // test that starts a process at the same moment passes it on.
        let mut child = Command::new("sh")
            .args(["-c", "exec \"$0\" --ready-fd 3 \"$@\" 3>&1 >/dev/null", PROGRAM])
            .args(args)
            .arg(dir.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("start the daemon");
        let pid = i32::try_from(child.id()).expect("a pid");
        let watchdog = Watchdog::new(pid, dir.path(), patience);
        let mut byte = [0; 1];
        let live = child.stdout.as_mut().expect("a pipe").read(&mut byte).expect("read it") == 1;
        let shim = Shim { child, _watchdog: watchdog, dir };
        if !live {
            panic!("the daemon did not start: {}", shim.end());
        }
        shim
    }

    /// Where it is mounted.
    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    /// The number of the process that holds the mount.
    pub(crate) fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).expect("a pid")
    }

    /// Waits until it has ended by itself.
    pub(crate) fn wait_for_its_end(mut self) -> std::process::ExitStatus {
        self.child.wait().expect("wait for the daemon")
    }

    /// A file of the mount.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Reads a file of the mount as this process.
    pub(crate) fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.file(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
    }

    /// Ends it and returns what it wrote to standard error.
    pub(crate) fn end(mut self) -> String {
        self.unmount();
        let mut said = String::new();
        if let Some(mut stderr) = self.child.stderr.take() {
            stderr.read_to_string(&mut said).expect("read what the daemon said");
        }
        said
    }

    fn unmount(&mut self) {
        // Lazily: a container that is still there has its files bound. It may be unmounted already.
        if let Err(e) = umount2(self.dir.path(), MntFlags::MNT_DETACH) {
            eprintln!("unmount {}: {e}", self.dir.path().display());
        }
        for done in [self.child.kill(), self.child.wait().map(drop)] {
            if let Err(e) = done {
                eprintln!("end of the daemon: {e}");
            }
        }
    }
}

impl Drop for Shim {
    fn drop(&mut self) {
        self.unmount();
    }
}
