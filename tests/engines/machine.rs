//! A machine for an engine: storage of its own, and boots that leave nothing.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use support::privilege::{Missing, Unprivileged, installed};
use support::subject::KernelFeatures;
use support::{Scratch, Subject};

/// How long a boot may last, in seconds, before it counts as hung and is killed.
const PATIENCE: &str = "280";

/// What serves the containers' roots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Driver {
    /// Our daemon, as `mount_program`.
    Ours,
    /// The packaged fuse-overlayfs, as `mount_program`.
    FuseOverlayfs,
    /// The kernel's overlayfs, mounted by the engine itself.
    Kernel,
}

/// Who runs the engine.
#[derive(Clone, Debug)]
pub(crate) enum Who {
    Root,
    User(Unprivileged),
}

/// Storage, configuration and home of an engine. What it has in /run lasts for one boot.
#[derive(Debug)]
pub(crate) struct Machine {
    scratch: Scratch,
    who: Who,
}

/// Returns our daemon, built with this package.
pub(crate) fn ours() -> Subject {
    Subject::ours(env!("CARGO_BIN_EXE_unionfs-under-test"))
}

/// Says what is missing for the packaged engines and a mount of ours.
pub(crate) fn engines() -> Result<(), Missing> {
    ours().usable()?;
    for program in ["podman", "buildah", "runc", "busybox", "fuse-overlayfs"] {
        installed(program)?;
    }
    Subject::Kernel(KernelFeatures::Default).usable()
}

/// Says what is missing for the same as an unprivileged user, and returns that user.
pub(crate) fn rootless() -> Result<Who, Missing> {
    engines()?;
    installed("newuidmap")?;
    Unprivileged::find().map(Who::User)
}

impl Machine {
    /// Lays out a machine with `base.tar` to import, whose engines use this driver.
    pub(crate) fn new(driver: Driver, who: &Who) -> Machine {
        let scratch = Scratch::in_memory();
        let dir = scratch.path().to_path_buf();
        for name in ["home/.config/containers", "out"] {
            scratch.dir(name);
        }
        let program = match driver {
            Driver::Ours => {
                // Where any user can execute it.
                let copy = dir.join("unionfs");
                support::process::copy_program(&ours().program().expect("a program"), &copy);
                Some(copy)
            }
            Driver::FuseOverlayfs => support::process::program("fuse-overlayfs"),
            Driver::Kernel => None,
        };
        let config = dir.join("home/.config/containers");
        write(&config.join("storage.conf"), &storage(&dir, program.as_deref(), who));
        write(&config.join("containers.conf"), CONTAINERS);
        for (name, text) in SCRIPTS {
            write(&dir.join(name), text);
        }
        support::process::shell(&dir, "bash -eu base.sh && rm base.sh");
        if let Who::User(user) = who {
            user.own(&dir);
        }
        Machine { scratch, who: who.clone() }
    }

    /// Returns a path below the machine's directory, which scripts know as `$D`.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.scratch.path().join(name)
    }

    /// Boots, runs a script, and returns what it said on standard output.
    ///
    /// # Panics
    /// It fails, or a process or a mount is left at its end.
    pub(crate) fn boot(&self, script: &str) -> String {
        self.run(script, false)
    }

    /// Boots, runs a script, and kills every process at its end, as a machine that stops does.
    pub(crate) fn boot_and_crash(&self, script: &str) -> String {
        self.run(script, true)
    }

    fn run(&self, script: &str, crash: bool) -> String {
        write(&self.path("script"), script);
        let user = match &self.who {
            Who::Root => String::new(),
            Who::User(user) => user.uid().to_string(),
        };
        let out = in_namespaces(&["-p", "--fork", "--kill-child", "--mount-proc"])
            .args(["bash", "-c", BOOT, "boot"])
            .args([self.scratch.path(), Path::new(&user), &self.path("script")])
            .arg(crash.to_string())
            .stdin(Stdio::null())
            .output()
            .expect("start a machine");
        said(&out)
    }

    /// Asserts that the storage holds no layer.
    pub(crate) fn assert_empty(&self) {
        let storage = self.path("graph");
        let mut left = Vec::new();
        for below in ["overlay", "overlay/l"] {
            let dir = storage.join(below);
            let entries = std::fs::read_dir(&dir).unwrap_or_else(|e| panic!("{dir:?}: {e}"));
            left.extend(entries.map(|e| e.expect("an entry").path()));
        }
        let expected = ["l", ".has-mount-program"].map(|n| storage.join("overlay").join(n));
        left.retain(|path| !expected.contains(path));
        assert!(left.is_empty(), "the storage still has {left:?}");
    }
}

/// Returns a command that runs what is appended in a mount namespace of its own, and further ones,
/// and is killed with all its descendants where they hang.
pub(crate) fn in_namespaces(further: &[&str]) -> Command {
    let mut command = Command::new("timeout");
    command.args(["-k", "5", PATIENCE, "unshare", "-m", "--propagation", "private"]).args(further);
    command
}

/// Returns standard output of a script.
///
/// # Panics
/// It failed.
pub(crate) fn said(out: &Output) -> String {
    let (stdout, stderr) =
        (String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    assert!(out.status.success(), "{}\n{stdout}\n{stderr}", out.status);
    stdout.into_owned()
}

const BOOT: &str = include_str!("scripts/boot.sh");

const SCRIPTS: [(&str, &str); 2] = [
    ("base.sh", include_str!("scripts/base.sh")),
    ("changes.sh", include_str!("scripts/changes.sh")),
];

/// podman's own limits are more than root may set on some machines, and systemd isn't everywhere.
const CONTAINERS: &str = r#"
[containers]
default_ulimits = ["nofile=1024:1024", "nproc=4096:4096"]
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
lock_type = "file"
runtime = "runc"
"#;

fn storage(dir: &Path, program: Option<&Path>, who: &Who) -> String {
    let run = match who {
        Who::Root => "/run/containers/storage",
        Who::User(_) => "/run/engine/containers",
    };
    let mut text = format!(
        "[storage]\ndriver = \"overlay\"\ngraphroot = \"{}\"\nrunroot = \"{run}\"\n",
        dir.join("graph").display()
    );
    if let Some(program) = program {
        text.push_str(&format!(
            "[storage.options.overlay]\nmount_program = \"{}\"\n",
            program.display()
        ));
    }
    text
}

fn write(path: &Path, text: &str) {
    std::fs::write(path, text).unwrap_or_else(|e| panic!("write {}: {e}", path.display()));
}
