//! From the command to the end of a container that does nothing.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::mount::{MsFlags, mount};
use nix::unistd::Uid;
use serde_json::{Value, json};

use super::Block;
use super::fixture::Fixture;
use super::podman::{Driver, Engine, unmount_below};
use super::tree::{output, succeed};
use crate::bed::Bed;
use crate::subject::{Family, Kind, Subject};

pub(super) const BLOCKS: &[Block] = &[Block {
    suite: "start",
    name: "to the end",
    family: Family::Container,
    kinds: &[Kind::Unshare, Kind::Bwrap, Kind::Runc, Kind::Crun, Kind::Podman, Kind::Runner],
    fixtures: &[Fixture::Rootfs],
    counted: false,
    needs: &[],
    extra: false,
    run,
}];

/// Starts of each turn.
const TIMES: u32 = 3;

fn run(bed: &mut Bed<'_>) -> io::Result<()> {
    let root = bed.fixture("rootfs");
    let subject = bed.job.subject.clone();
    let scratch = bed.scratch(&format!("b{}", std::process::id()))?;
    let engine = match subject.kind {
        Kind::Podman => Some(Engine::new(&scratch, &Driver::Kernel, None)?),
        _ => None,
    };
    let cgroup = bed.job.stage_name();
    let stage = Stage { root, scratch, engine, cgroup };
    stage.prepare(&subject)?;
    bed.case("start /true, to its end").measure(|timer| {
        for n in 0..TIMES {
            let mut command = stage.command(&subject, n);
            timer.op(|| succeed(&mut command))?;
        }
        Ok(0)
    })?;
    unmount_below(&stage.scratch)?;
    fs::remove_dir_all(&stage.scratch)
}

/// Where containers of one subject are.
struct Stage {
    root: PathBuf,
    scratch: PathBuf,
    engine: Option<Engine>,
    cgroup: String,
}

impl Stage {
    /// Makes what has to be there before a start: an OCI bundle.
    fn prepare(&self, subject: &Subject) -> io::Result<()> {
        fs::create_dir_all(&self.scratch)?;
        if !matches!(subject.kind, Kind::Runc | Kind::Crun) {
            return Ok(());
        }
        if subject.kind == Kind::Crun && Uid::effective().is_root() {
            hide_hybrid(&self.scratch)?;
        }
        output(Command::new(&subject.program).arg("spec").current_dir(&self.scratch))?;
        let path = self.scratch.join("config.json");
        let mut config: Value = serde_json::from_str(&fs::read_to_string(&path)?)?;
        config["process"]["terminal"] = json!(false);
        config["process"]["args"] = json!(["/true"]);
        config["root"] = json!({ "path": self.root, "readonly": true });
        // Which an unprivileged machine may not set.
        if let Some(process) = config["process"].as_object_mut() {
            process.remove("rlimits");
        }
        fs::write(path, config.to_string())
    }

    /// Returns the command of one start.
    fn command(&self, subject: &Subject, n: u32) -> Command {
        let mut command = match &self.engine {
            Some(engine) => engine.command(&subject.program.to_string_lossy()),
            None => Command::new(&subject.program),
        };
        let name = format!("bench-{}-{n}", std::process::id());
        match subject.kind {
            Kind::Unshare => {
                command.args(["--mount", "--pid", "--fork", "--uts", "--ipc", "--net", "chroot"]);
                command.arg(&self.root).arg("/true");
            }
            Kind::Bwrap => {
                command.args(["--unshare-all", "--ro-bind"]).arg(&self.root).arg("/");
                command.args(["--proc", "/proc", "--dev", "/dev", "/true"]);
            }
            Kind::Runc | Kind::Crun => {
                command.arg("--root").arg(self.scratch.join("state"));
                command.arg("run").arg("--bundle").arg(&self.scratch).arg(name);
            }
            Kind::Podman => {
                command.args(["run", "--rm", "--network=none", "--rootfs"]);
                command.arg(format!("--cgroup-parent=/{}", self.cgroup));
                command.arg(format!("{}:O", self.root.display())).arg("/true");
            }
            _ => {
                command.args(["run", "--rootfs"]).arg(&self.root).args(["--", "/true"]);
            }
        }
        command.current_dir(&self.scratch);
        command
    }
}

/// Hides from crun that a cgroup version 2 stands beside version 1: with controllers in both it refuses
/// to start. Only this worker sees it so.
fn hide_hybrid(scratch: &Path) -> io::Result<()> {
    let controllers = Path::new("/sys/fs/cgroup/unified/cgroup.controllers");
    if !controllers.exists() {
        return Ok(());
    }
    let empty = scratch.join("controllers");
    fs::write(&empty, "")?;
    let none = None::<&str>;
    Ok(mount(Some(&empty), controllers, none, MsFlags::MS_BIND, none)?)
}
