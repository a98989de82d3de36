//! podman and buildah with settings, storage and run directories of their own, so that nothing of the
//! machine's is used or left.

use std::fs;
use std::io;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::unistd::Uid;

use super::tree::{output, succeed};
use crate::bed::protocol::Ids;
use crate::subject::find::in_path;

/// What serves the roots of containers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Driver {
    /// The kernel's overlayfs.
    Kernel,
    /// Copies.
    Vfs,
    /// A program, mounted by the engine.
    Program(PathBuf),
}

/// An engine.
#[derive(Debug)]
pub(super) struct Engine {
    home: PathBuf,
    run: PathBuf,
    user: Option<Ids>,
}

/// Where run directories are: engines refuse names of more than 50 characters.
const RUN: &str = "/run/bench";

impl Engine {
    /// Lays out an engine in `home`, whose storage stays there until it is cleared; `user` is who
    /// runs it, where that is somebody else.
    pub(super) fn new(home: &Path, driver: &Driver, user: Option<Ids>) -> io::Result<Engine> {
        let run = match Uid::effective().is_root() {
            true => in_memory()?,
            false => home.join("run"),
        };
        let config = home.join(".config/containers");
        for dir in [&config, &home.join("tmp"), &run] {
            fs::create_dir_all(dir)?;
        }
        let engine = Engine { home: home.to_path_buf(), run, user };
        fs::write(config.join("storage.conf"), engine.storage(driver)?)?;
        fs::write(config.join("containers.conf"), containers())?;
        for dir in [home, &home.join(".config"), &config, &home.join("tmp"), &engine.run] {
            engine.give(dir)?;
        }
        // The engine's own work after a boot isn't part of what follows.
        if user.is_some() {
            succeed(engine.command("podman").arg("ps"))?;
        }
        Ok(engine)
    }

    /// Returns a command of the engine.
    pub(super) fn command(&self, program: &str) -> Command {
        let mut command = match self.user {
            None => Command::new(program),
            Some(user) => {
                let mut command = Command::new("setpriv");
                command.arg(format!("--reuid={}", user.uid)).arg(format!("--regid={}", user.gid));
                command.args(["--init-groups", "--inh-caps=-all", program]);
                command
            }
        };
        let config = self.home.join(".config/containers");
        command.env_clear().envs(std::env::var_os("PATH").map(|path| ("PATH", path)));
        command.env("HOME", &self.home).env("XDG_RUNTIME_DIR", &self.run).env("LC_ALL", "C");
        command.env("TMPDIR", self.home.join("tmp"));
        command.env("CONTAINERS_CONF", config.join("containers.conf"));
        if self.is_root() {
            command.env("CONTAINERS_STORAGE_CONF", config.join("storage.conf"));
        }
        command.current_dir(&self.home);
        command
    }

    /// Removes all images and containers, and the directory.
    pub(super) fn clear(self) -> io::Result<()> {
        succeed(self.command("podman").args(["rm", "-a", "-f"]))?;
        succeed(self.command("podman").args(["rmi", "-a", "-f"]))?;
        if !Uid::effective().is_root() {
            // Files of containers have owners that only exist in the user's namespace.
            let script = "umount -l \"$1/graph/overlay\"; rm -rf \"$1/graph\"";
            let mut remove = self.command("podman");
            remove.args(["unshare", "sh", "-c", script, "sh"]).arg(&self.home);
            succeed(&mut remove)?;
        }
        // Ends the process that keeps an ordinary user's namespaces.
        if !self.is_root() {
            succeed(self.command("podman").args(["system", "migrate"]))?;
        }
        unmount_below(&self.home)?;
        match fs::remove_dir_all(&self.home) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
            _ => Ok(()),
        }
    }

    fn is_root(&self) -> bool {
        self.user.is_none() && Uid::effective().is_root()
    }

    fn give(&self, path: &Path) -> io::Result<()> {
        let Some(user) = self.user else { return Ok(()) };
        chown(path, Some(user.uid), Some(user.gid))
    }

    fn storage(&self, driver: &Driver) -> io::Result<String> {
        let name = if *driver == Driver::Vfs { "vfs" } else { "overlay" };
        let mut text = format!(
            "[storage]\ndriver = \"{name}\"\ngraphroot = \"{}\"\nrunroot = \"{}\"\n",
            self.home.join("graph").display(),
            self.run.join("storage").display()
        );
        if let Driver::Program(program) = driver {
            // Where that user can execute it.
            let copy = self.home.join("mount-program");
            fs::copy(program, &copy)?;
            text.push_str(&format!(
                "[storage.options.overlay]\nmount_program = \"{}\"\n",
                copy.display()
            ));
        }
        Ok(text)
    }
}

/// Settings that work where limits can't be raised and nothing manages cgroups.
fn containers() -> String {
    let mut text = String::from(
        "[containers]\ndefault_ulimits = [\"nofile=1024:1024\", \"nproc=4096:4096\"]\n[engine]\n\
         cgroup_manager = \"cgroupfs\"\nevents_logger = \"file\"\nlock_type = \"file\"\n",
    );
    if in_path("runc").is_some() {
        text.push_str("runtime = \"runc\"\n");
    }
    text
}

/// Gives this worker a /run and a /dev/shm of its own.
fn in_memory() -> io::Result<PathBuf> {
    let run = PathBuf::from(RUN);
    if !run.exists() {
        for (point, mode) in [("/run", "mode=755"), ("/dev/shm", "mode=1777")] {
            mount(Some("tmpfs"), point, Some("tmpfs"), MsFlags::empty(), Some(mode))?;
        }
    }
    fs::create_dir_all(&run)?;
    Ok(run)
}

/// Takes away what an engine has mounted.
pub(super) fn unmount_below(dir: &Path) -> io::Result<()> {
    let text = fs::read_to_string("/proc/self/mounts")?;
    let points = text.lines().filter_map(|line| line.split(' ').nth(1)).map(Path::new);
    let mut below: Vec<_> = points.filter(|point| point.starts_with(dir)).collect();
    below.reverse();
    for point in below {
        umount2(point, MntFlags::MNT_DETACH)?;
    }
    Ok(())
}

/// Makes the root of a container that has busybox, and `files` small files in `/tree`; packs it.
pub(super) fn make_image(dir: &Path, files: u32) -> io::Result<()> {
    let root = dir.join(format!("root-{files}"));
    for name in ["bin", "etc", "proc", "sys", "dev", "tmp"] {
        fs::create_dir_all(root.join(name))?;
    }
    let busybox = in_path("busybox").ok_or_else(|| io::Error::other("busybox is not installed"))?;
    fs::copy(&busybox, root.join("bin/busybox"))?;
    for applet in String::from_utf8_lossy(&output(Command::new(&busybox).arg("--list"))?).lines() {
        if applet != "busybox" {
            std::os::unix::fs::symlink("busybox", root.join("bin").join(applet))?;
        }
    }
    fs::write(root.join("etc/passwd"), "root:x:0:0:root:/:/bin/sh\n")?;
    fs::write(root.join("etc/group"), "root:x:0:\n")?;
    small_files(&root.join("tree"), files)?;
    let mut command = Command::new("tar");
    command.args(["--numeric-owner", "--owner=0", "--group=0", "--sort=name", "-cf"]);
    command.arg(image(dir, files)).arg("-C").arg(&root).arg(".");
    succeed(&mut command)?;
    fs::remove_dir_all(root)
}

/// Returns the archive of an image with so many files.
pub(super) fn image(dir: &Path, files: u32) -> PathBuf {
    dir.join(format!("image-{files}.tar"))
}

/// Makes files with their number in it, in a hundred directories.
pub(super) fn small_files(dir: &Path, files: u32) -> io::Result<()> {
    for n in 0..100 {
        fs::create_dir_all(dir.join(n.to_string()))?;
    }
    (0..files).try_for_each(|n| fs::write(dir.join(format!("{}/{n}", n % 100)), format!("{n}\n")))
}
