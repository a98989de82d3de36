//! podman's slow moments, by what serves the roots of its containers.

use std::fs;
use std::io;
use std::path::Path;
use std::process::Command;

use super::Block;
use super::fixture::Fixture;
use super::podman::{Driver, Engine, image, make_image, small_files};
use super::tree::succeed;
use crate::bed::Bed;
use crate::subject::{Family, Kind};

pub(super) const BLOCKS: &[Block] = &[Block {
    suite: "engines",
    name: "build, commit, start",
    family: Family::Engine,
    kinds: &[],
    fixtures: &[Fixture::Context],
    counted: false,
    needs: &["podman", "busybox", "setpriv"],
    extra: true,
    run,
}];

/// Makes a base image, and a context whose `COPY` has many files and whose `RUN` copies them again,
/// removes a directory of the copied ones and moves one.
pub(super) fn make_context(dir: &Path, files: u32) -> io::Result<()> {
    fs::create_dir_all(dir)?;
    make_image(dir, 0)?;
    small_files(&dir.join("context/tree"), files)?;
    fs::write(
        dir.join("context/Containerfile"),
        "FROM localhost/base\nCOPY tree /first\n\
         RUN cp -a /first /second && rm -r /first/1 && mv /first/2 /first/moved\n",
    )
}

fn run(bed: &mut Bed<'_>) -> io::Result<()> {
    let subject = bed.job.subject.clone();
    let driver = match subject.kind {
        Kind::PodmanVfs => Driver::Vfs,
        Kind::PodmanOverlay => Driver::Kernel,
        _ => Driver::Program(subject.program.clone()),
    };
    let user = bed.job.user;
    let home = bed.job.home.join("engine");
    let engine = Engine::new(&home, &driver, user)?;
    let fixture = bed.fixture("context");
    let stage = bed.job.stage_name();
    let is_root = user.is_none() && !subject.rootless;
    // Cgroups that are found again; an ordinary user gets none here. A build works in its cgroup itself,
    // and not in one below it.
    let cgroup = |name: &str| {
        let parent = format!("--cgroup-parent=/{stage}/{name}");
        is_root.then_some(parent)
    };
    let (run_in, build_in) = (cgroup("run"), cgroup(&format!("build-{}", std::process::id())));
    let podman = |args: &[&str]| {
        let mut command = engine.command("podman");
        command.args(args);
        command
    };
    let start = |args: &[&str]| {
        let mut command = podman(&["run", "--net=none", "--pull=never"]);
        command.args(&run_in).args(args);
        command
    };
    let done = |mut command: Command| succeed(&mut command).map(|()| 0);
    let mut import = podman(&["import", "-q", "--change", "CMD [\"/bin/sh\"]", "--change"]);
    done({
        import.arg("ENV PATH=/bin").arg(image(&fixture, 0)).arg("localhost/base");
        import
    })?;
    let files = bed.job.scale.context;
    bed.case(&format!("build of an image, {files} files copied twice")).settled().measure(
        |_| {
            let mut build = podman(&["build", "-q", "--network=none", "--pull=never"]);
            build.args(&build_in).args(["-t", "localhost/built"]).arg(fixture.join("context"));
            done(build)
        },
    )?;
    bed.case(&format!("container that changes {} files", files / 10)).settled().measure(|_| {
        let script = "for f in /second/*/*5; do echo x >>$f; done";
        done(start(&["--name=changed", "localhost/built", "sh", "-c", script]))
    })?;
    bed.case(&format!("commit of {} changed files", files / 10))
        .settled()
        .measure(|_| done(podman(&["commit", "-q", "changed", "localhost/committed"])))?;
    bed.case("start of a container that does nothing")
        .settled()
        .measure(|_| done(start(&["--rm", "localhost/built", "true"])))?;
    // Root has no ids of his own to keep.
    if !is_root {
        let case = format!("first start with --userns=keep-id, image of {} files", 2 * files);
        bed.case(&case)
            .settled()
            .measure(|_| done(start(&["--rm", "--userns=keep-id", "localhost/built", "true"])))?;
    }
    engine.clear()
}
