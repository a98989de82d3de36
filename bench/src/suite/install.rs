//! Installing packages that are at hand: no network is asked.

use std::fs;
use std::io::{self, Write};
use std::path::Path;
use std::process::Command;

use super::Block;
use super::fixture::Fixture;
use super::tree::{self, succeed};
use crate::bed::{Bed, Times, Use};
use crate::subject::Family;

pub(super) const BLOCKS: &[Block] = &[
    Block { fixtures: &[Fixture::Debian], needs: &["dpkg", "dpkg-deb"], ..block("dpkg", dpkg) },
    Block { fixtures: &[Fixture::Wheel], needs: &["python3"], ..block("pip", pip) },
    Block { fixtures: &[Fixture::Npm], needs: &["npm", "tar"], ..block("npm", npm) },
];

const fn block(name: &'static str, run: fn(&mut Bed<'_>) -> io::Result<()>) -> Block {
    Block {
        suite: "install",
        name,
        family: Family::FileSystem,
        kinds: &[],
        fixtures: &[],
        counted: true,
        needs: &[],
        extra: true,
        run,
    }
}

/// Name of the package, whoever packs it.
const PACKAGE: &str = "benchpackage";

/// Makes a layer with an archive of Debian and an empty system to install it in.
pub(super) fn make_deb(dir: &Path, files: u32) -> io::Result<()> {
    let source = dir.with_extension("source");
    contents(&source.join("usr/share").join(PACKAGE), files, "txt")?;
    fs::create_dir_all(source.join("DEBIAN"))?;
    fs::write(
        source.join("DEBIAN/control"),
        format!(
            "Package: {PACKAGE}\nVersion: 1.0\nArchitecture: all\nMaintainer: bench\nDescription: files to install\n"
        ),
    )?;
    let admin = dir.join("root/var/lib/dpkg");
    for name in ["info", "updates", "triggers"] {
        fs::create_dir_all(admin.join(name))?;
    }
    for name in ["status", "available"] {
        fs::write(admin.join(name), "")?;
    }
    let mut command = Command::new("dpkg-deb");
    command.args(["-Znone", "--root-owner-group", "-b"]).arg(&source).arg(dir.join("package.deb"));
    succeed(&mut command)?;
    fs::remove_dir_all(source)
}

fn dpkg(bed: &mut Bed<'_>) -> io::Result<()> {
    let point = bed.mount(&[bed.fixture("debian")], Use::Write)?;
    let root = point.join("root");
    let installed = root.join("usr");
    bed.case("dpkg -i of a local package").settled().leaves(&installed, Times::Count).measure(
        |_| {
            let mut command = Command::new("dpkg");
            command.arg(format!("--root={}", root.display()));
            command.args(["--force-not-root", "--force-script-chrootless", "--force-bad-path"]);
            command.args(["--log=/dev/null", "-i"]).arg(point.join("package.deb"));
            succeed(&mut command).map(|()| 0)
        },
    )
}

/// Makes a layer with a wheel, which python's own zip writes.
pub(super) fn make_wheel(dir: &Path, files: u32) -> io::Result<()> {
    let source = dir.with_extension("source");
    contents(&source.join(PACKAGE), files, "py")?;
    let info = source.join(format!("{PACKAGE}-1.0.dist-info"));
    fs::create_dir_all(&info)?;
    fs::write(
        info.join("METADATA"),
        format!("Metadata-Version: 2.1\nName: {PACKAGE}\nVersion: 1.0\n"),
    )?;
    fs::write(
        info.join("WHEEL"),
        "Wheel-Version: 1.0\nGenerator: bench\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    )?;
    let mut record = fs::File::create(info.join("RECORD"))?;
    for path in tree::files(&source)? {
        let name = path.strip_prefix(&source).map_err(io::Error::other)?;
        writeln!(record, "{},,", name.display())?;
    }
    fs::create_dir_all(dir)?;
    let mut command = Command::new("python3");
    command.args(["-m", "zipfile", "-c"]).arg(dir.join(wheel()));
    command.args([PACKAGE, &format!("{PACKAGE}-1.0.dist-info")]).current_dir(&source);
    succeed(&mut command)?;
    fs::remove_dir_all(source)
}

fn wheel() -> String {
    format!("{PACKAGE}-1.0-py3-none-any.whl")
}

fn pip(bed: &mut Bed<'_>) -> io::Result<()> {
    let point = bed.mount(&[bed.fixture("wheel")], Use::Write)?;
    let site = point.join("site");
    // Beside it there is a note of where the wheel was.
    let installed = site.join(PACKAGE);
    bed.case("pip install of a local wheel").settled().leaves(&installed, Times::Vary).measure(
        |_| {
            let mut command = Command::new("python3");
            command.args([
                "-m",
                "pip",
                "install",
                "-q",
                "--no-index",
                "--no-deps",
                "--no-cache-dir",
            ]);
            // What is compiled has times in it.
            command.args([
                "--no-compile",
                "--disable-pip-version-check",
                "--root-user-action=ignore",
            ]);
            command.arg("--target").arg(&site).arg(point.join(wheel()));
            command.env("TMPDIR", &point).env("HOME", &point);
            succeed(&mut command).map(|()| 0)
        },
    )
}

/// Makes a layer with a package of npm.
pub(super) fn make_npm(dir: &Path, files: u32) -> io::Result<()> {
    let source = dir.with_extension("source");
    contents(&source.join("package"), files, "js")?;
    fs::write(
        source.join("package/package.json"),
        format!("{{\"name\": \"{PACKAGE}\", \"version\": \"1.0.0\"}}\n"),
    )?;
    fs::create_dir_all(dir.join("app"))?;
    fs::write(dir.join("app/package.json"), "{\"name\": \"app\", \"version\": \"1.0.0\"}\n")?;
    let mut command = Command::new("tar");
    command.arg("-czf").arg(dir.join("package.tgz")).arg("-C").arg(&source).arg("package");
    succeed(&mut command)?;
    fs::remove_dir_all(source)
}

fn npm(bed: &mut Bed<'_>) -> io::Result<()> {
    let point = bed.mount(&[bed.fixture("npm")], Use::Write)?;
    let app = point.join("app");
    let installed = app.join("node_modules").join(PACKAGE);
    bed.case("npm install of a local package").settled().leaves(&installed, Times::Vary).measure(
        |_| {
            let mut command = Command::new("npm");
            command.args(["install", "--offline", "--no-audit", "--no-fund", "--ignore-scripts"]);
            command.args(["--no-update-notifier", "--cache"]).arg(point.join("cache"));
            command.arg(point.join("package.tgz")).current_dir(&app).env("HOME", &point);
            succeed(&mut command).map(|()| 0)
        },
    )
}

/// Makes files of text, of many sizes.
fn contents(dir: &Path, files: u32, extension: &str) -> io::Result<()> {
    let mut rng = fastrand::Rng::with_seed(2026);
    for n in 0..files {
        let dir = dir.join(format!("part{:02}", n / 50));
        fs::create_dir_all(&dir)?;
        // A comment to nobody but Python; the others don't look into it.
        let text = format!("# line of file {n}\n").repeat(rng.usize(1..300));
        fs::write(dir.join(format!("file{n}.{extension}")), text)?;
    }
    Ok(())
}
