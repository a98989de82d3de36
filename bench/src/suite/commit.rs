//! What a commit of a few changes takes, against the size of the image.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::Block;
use super::fixture::Fixture;
use super::podman::{Driver, Engine, image, unmount_below};
use super::tree::{output, succeed};
use crate::bed::Bed;
use crate::subject::{Family, Kind};

pub(super) const BLOCKS: &[Block] = &[Block {
    suite: "commit",
    name: "against image size",
    family: Family::Container,
    kinds: &[Kind::Runner, Kind::Podman, Kind::Buildah],
    fixtures: &[Fixture::Images],
    counted: false,
    needs: &["busybox", "tar"],
    extra: false,
    run,
}];

/// Files that are changed.
const CHANGED: u32 = 10;

fn run(bed: &mut Bed<'_>) -> io::Result<()> {
    let kind = bed.job.subject.kind;
    // Images are imported once, and stay as they are from round to round.
    let home = bed.job.home.join("kept").join(&bed.job.subject.name);
    fs::create_dir_all(&home)?;
    let parent = bed.job.stage_name();
    let program = bed.job.subject.program.clone();
    let engine = match kind {
        Kind::Runner => None,
        _ => Some(Engine::new(&home, &Driver::Kernel, None)?),
    };
    let committer = Committer { kind, home: home.clone(), program, engine, parent };
    for files in bed.job.scale.images.clone() {
        let archive = image(&bed.fixture("images"), files);
        committer.import(files, &archive)?;
        committer.change(files)?;
        let curve = format!("commit of {CHANGED} changed files");
        bed.case(&format!("{curve}, image of {files}"))
            .settled()
            .at(&curve, "files of the image", f64::from(files))
            .measure(|_| succeed(&mut committer.commit()).map(|()| 0))?;
        committer.forget()?;
    }
    unmount_below(&home)
}

/// Who commits: our runner, podman or buildah.
struct Committer {
    kind: Kind,
    home: PathBuf,
    program: PathBuf,
    engine: Option<Engine>,
    parent: String,
}

impl Committer {
    fn command(&self) -> Command {
        match &self.engine {
            Some(engine) => engine.command(&self.program.to_string_lossy()),
            None => {
                let mut command = Command::new(&self.program);
                command.arg("--state").arg(self.home.join("state"));
                command
            }
        }
    }

    fn done(&self, args: &[&str]) -> io::Result<()> {
        succeed(self.command().args(args))
    }

    /// Imports the image, if an earlier round hasn't.
    fn import(&self, files: u32, archive: &Path) -> io::Result<()> {
        let mark = self.home.join(format!("imported-{files}"));
        if mark.exists() {
            return Ok(());
        }
        let (name, archive) = (format!("localhost/image-{files}"), archive.to_string_lossy());
        match self.kind {
            // buildah has no import: a container from nothing is filled and committed.
            Kind::Buildah => {
                let made = output(self.command().args(["from", "--name=base", "scratch"]))?;
                let container = String::from_utf8_lossy(&made).trim().to_owned();
                self.done(&["add", "-q", &container, &archive, "/"])?;
                self.done(&["commit", "-q", &container, &name])?;
                self.done(&["rm", &container])?;
            }
            _ => self.done(&["import", "-q", &archive, &name])?,
        }
        fs::write(mark, "")
    }

    /// Makes a container of the image that has changed some files.
    fn change(&self, files: u32) -> io::Result<()> {
        let name = format!("localhost/image-{files}");
        let script = format!("for n in $(seq 0 {}); do echo x >>/tree/$n/$n; done", CHANGED - 1);
        match self.kind {
            Kind::Buildah => {
                self.done(&["from", "--pull-never", "--name=changed", &name])?;
                let at = output(self.command().args(["mount", "changed"]))?;
                let at = PathBuf::from(String::from_utf8_lossy(&at).trim());
                for n in 0..CHANGED {
                    let path = at.join(format!("tree/{n}/{n}"));
                    fs::write(path, format!("{n}\nx\n"))?;
                }
                self.done(&["umount", "changed"])
            }
            Kind::Podman => {
                let parent = format!("--cgroup-parent=/{}", self.parent);
                let args = ["run", "--pull=never", "--name=changed", "--net=none", &parent, &name];
                self.done(&[&args[..], &["/bin/sh", "-c", &script]].concat())
            }
            _ => {
                let args = ["run", "--name=changed", &name, "/bin/sh", "-c", &script];
                self.done(&args)
            }
        }
    }

    fn commit(&self) -> Command {
        let mut command = self.command();
        command.args(["commit", "-q", "changed", "localhost/committed"]);
        command
    }

    fn forget(&self) -> io::Result<()> {
        self.done(&["rm", "changed"])?;
        self.done(&["rmi", "localhost/committed"])
    }
}
