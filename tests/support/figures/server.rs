//! What shows figures: the kernel itself, the shim, and Debian's lxcfs.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::mount::{MntFlags, umount2};

use crate::process::PATIENCE;

/// A program that serves files for /proc, mounted. Dropping it unmounts and ends it.
#[derive(Debug)]
pub struct Server {
    child: Child,
    dir: tempfile::TempDir,
    pidfile: PathBuf,
}

impl Server {
    /// Starts the shim.
    pub fn shim(program: &Path) -> Server {
        Server::start(program, &["-f"])
    }

    /// Starts lxcfs with all that its users can turn on.
    pub fn lxcfs(program: &Path) -> Server {
        Server::start(program, &["-f", "-l", "--enable-cfs", "--enable-pidfd"])
    }

    fn start(program: &Path, args: &[&str]) -> Server {
        let dir = tempfile::Builder::new().prefix("figures-").tempdir().expect("a directory");
        let pidfile = dir.path().with_extension("pid");
        let child = Command::new(program)
            .args(args)
            .arg("-p")
            .arg(&pidfile)
            .arg(dir.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|e| panic!("start {}: {e}", program.display()));
        let mut server = Server { child, dir, pidfile };
        server.wait_until_live(program);
        server
    }

    /// lxcfs tells nobody when it is mounted.
    fn wait_until_live(&mut self, program: &Path) {
        let began = Instant::now();
        while std::fs::read(self.dir.path().join("proc/meminfo")).is_err() {
            let ended = self.child.try_wait().expect("ask for the server");
            let name = program.display();
            assert!(ended.is_none(), "{name} has ended: {ended:?}");
            assert!(began.elapsed() < PATIENCE, "{name} is not mounted");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// The number of the process that was started.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Err(e) = umount2(self.dir.path(), MntFlags::MNT_DETACH) {
            eprintln!("unmount {}: {e}", self.dir.path().display());
        }
        for done in [self.child.kill(), self.child.wait().map(drop)] {
            if let Err(e) = done {
                eprintln!("end of a server: {e}");
            }
        }
        if self.pidfile.exists()
            && let Err(e) = std::fs::remove_file(&self.pidfile)
        {
            eprintln!("remove {}: {e}", self.pidfile.display());
        }
    }
}
