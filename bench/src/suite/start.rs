//! From the command to the end of a container that does nothing.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::process::Command;

use serde_json::{Value, json};

use super::Block;
use super::fixture::Fixture;
use super::tree::{output, succeed};
use crate::bed::Bed;
use crate::subject::{Family, Kind, Subject};

pub(super) const BLOCKS: &[Block] = &[Block {
    suite: "start",
    name: "to the end",
    family: Family::Container,
    fixtures: &[Fixture::Rootfs],
    counted: false,
    needs: &[],
    extra: false,
    run,
}];

/// Starts of each turn.
const TIMES: u32 = 5;

fn run(bed: &mut Bed<'_>) -> io::Result<()> {
    let root = bed.fixture("rootfs");
    let subject = bed.job.subject.clone();
    let scratch = bed.scratch(&format!("b{}", std::process::id()))?;
    let stage = Stage { root, scratch };
    stage.prepare(&subject)?;
    bed.case("start /true, to its end").measure(|timer| {
        for n in 0..TIMES {
            let mut command = stage.command(&subject, n);
            timer.op(|| succeed(&mut command))?;
        }
        Ok(0)
    })?;
    // podman keeps mounts there, which end with this process's namespace; the run removes the rest.
    match fs::remove_dir_all(&stage.scratch) {
        Err(e) if e.kind() != io::ErrorKind::ResourceBusy => Err(e),
        _ => Ok(()),
    }
}

/// Where containers of one subject are.
struct Stage {
    root: PathBuf,
    scratch: PathBuf,
}

impl Stage {
    /// Makes what has to be there before a start: an OCI bundle.
    fn prepare(&self, subject: &Subject) -> io::Result<()> {
        fs::create_dir_all(&self.scratch)?;
        if !matches!(subject.kind, Kind::Runc | Kind::Crun) {
            return Ok(());
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
        let mut command = Command::new(&subject.program);
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
                let dir = |name: &str| self.scratch.join(name).display().to_string();
                command.args(["--root", &dir("s"), "--runroot", &dir("r")]);
                command.args(["run", "--rm", "--network", "none", "--rootfs"]);
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
