//! Files that work starts from, made once for each identity.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;
use std::process::Command;

use super::{engines, install, podman, tree};
use crate::bed::protocol::Job;

/// What can be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fixture {
    /// An empty layer.
    Empty,
    /// `tree` in a layer, and the archive of it.
    Tree,
    /// One directory of small files, each with an extended attribute.
    Flat,
    /// A directory of 1,000 empty files.
    Thousand,
    /// One large file.
    Big,
    /// Files of many sizes.
    Sizes,
    /// Many layers with a file each, and a bottom one.
    Layers,
    /// Directories of many sizes.
    Directories,
    /// Many empty files.
    Known,
    /// Programs in C.
    Sources,
    /// A package of Debian, and an empty system.
    Debian,
    /// A package of Python.
    Wheel,
    /// A package of npm.
    Npm,
    /// Images for containers whose changes are committed.
    Images,
    /// A base image, and a context to build from.
    Context,
    /// The root directory of a container that has one static program.
    Rootfs,
}

/// The tree's name in its layer.
pub(crate) const TREE: &str = "tree";

/// Makes what the blocks need.
pub(crate) fn make(job: &Job, blocks: &[String]) -> io::Result<()> {
    let all = super::all();
    let wanted = all.iter().filter(|b| blocks.contains(&format!("{}/{}", b.suite, b.name)));
    let mut fixtures: Vec<_> = wanted.flat_map(|b| b.fixtures).copied().collect();
    fixtures.sort();
    fixtures.dedup();
    let base = job.home.join("fixture");
    fs::create_dir_all(&base)?;
    fixtures.into_iter().try_for_each(|fixture| one(job, &base, fixture))
}

fn one(job: &Job, base: &Path, fixture: Fixture) -> io::Result<()> {
    let scale = &job.scale;
    match fixture {
        Fixture::Empty => fs::create_dir_all(base.join("empty")),
        Fixture::Tree => {
            let made = base.join("made");
            fs::create_dir(&made)?;
            tree::make(&made.join(TREE), scale.tree)?;
            let archive = base.join("tree.tar");
            tree::pack(&made, TREE, &archive)?;
            fs::remove_dir_all(&made)?;
            let lower = base.join("tree");
            fs::create_dir(&lower)?;
            tree::succeed(Command::new("tar").arg("-xf").arg(archive).arg("-C").arg(lower))
        }
        Fixture::Flat => flat(&base.join("flat/flat"), scale.flat),
        Fixture::Thousand => entries(&base.join("thousand/thousand"), 1000),
        Fixture::Big => {
            let dir = base.join("big");
            fs::create_dir(&dir)?;
            file(&dir.join("big"), scale.big)
        }
        Fixture::Sizes => {
            let dir = base.join("sizes");
            fs::create_dir(&dir)?;
            scale.copyups.iter().try_for_each(|size| file(&dir.join(size.to_string()), *size))
        }
        Fixture::Layers => layers(&base.join("layers"), &scale.layers),
        Fixture::Directories => scale.directories.iter().try_for_each(|&entries| {
            self::entries(&base.join("directories").join(entries.to_string()), entries)
        }),
        Fixture::Known => (0..scale.known).try_for_each(|n| {
            let dir = base.join(format!("known/known/d{:03}", n / 1000));
            if n % 1000 == 0 {
                fs::create_dir_all(&dir)?;
            }
            File::create(dir.join(format!("file-{n:06}"))).map(drop)
        }),
        Fixture::Debian => install::make_deb(&base.join("debian"), scale.packaged),
        Fixture::Wheel => install::make_wheel(&base.join("wheel"), scale.packaged),
        Fixture::Npm => install::make_npm(&base.join("npm"), scale.packaged),
        Fixture::Images => {
            let dir = base.join("images");
            fs::create_dir(&dir)?;
            scale.images.iter().try_for_each(|files| podman::make_image(&dir, *files))
        }
        Fixture::Context => engines::make_context(&base.join("context"), scale.context),
        Fixture::Rootfs => rootfs(&base.join("rootfs")),
        Fixture::Sources => sources(&base.join("sources/src"), scale.sources),
    }
}

/// The extended attribute that files of the flat directory have.
pub(crate) const ATTRIBUTE: &str = "user.bench";

fn flat(dir: &Path, files: u32) -> io::Result<()> {
    fs::create_dir_all(dir)?;
    let block = tree::block(4096);
    for n in 0..files {
        let path = dir.join(name(n));
        let file = File::create(&path)?;
        (&file).write_all(&block)?;
        // Where the file system has none, asking for it gives the same answer from all subjects.
        match sys::xattr::set(sys::xattr::of(&file), ATTRIBUTE.as_ref(), b"value", 0) {
            Err(sys::Errno::EOPNOTSUPP) | Ok(()) => {}
            Err(e) => return Err(e.into()),
        }
    }
    Ok(())
}

/// Makes a directory of empty files.
fn entries(dir: &Path, count: u32) -> io::Result<()> {
    fs::create_dir_all(dir)?;
    (0..count).try_for_each(|n| File::create(dir.join(format!("entry-{n:07}"))).map(drop))
}

/// Returns the name of a file of the flat directory.
pub(crate) fn name(n: u32) -> String {
    format!("file-{n:05}")
}

/// Names in the bottom layer of many.
pub(crate) const BOTTOM: u32 = 100;

fn layers(dir: &Path, counts: &[u32]) -> io::Result<()> {
    // Layer 0 is the bottom; a stack of N is layers N-1 … 0.
    for n in 0..counts.iter().copied().max().unwrap_or(1) {
        let layer = dir.join(n.to_string()).join("dir");
        fs::create_dir_all(&layer)?;
        fs::write(layer.join(format!("layer-{n}")), "layer")?;
    }
    (0..BOTTOM).try_for_each(|n| fs::write(dir.join("0/dir").join(name(n)), "bottom"))
}

fn sources(dir: &Path, files: u32) -> io::Result<()> {
    fs::create_dir_all(dir)?;
    fs::write(
        dir.join("common.h"),
        "#include <stdio.h>\n#include <stdlib.h>\n#include <string.h>\n",
    )?;
    for n in 0..files {
        let mut text = String::from("#include \"common.h\"\n");
        for f in 0..20 {
            text.push_str(&format!(
                "int f{n}_{f}(int a, int b)\n{{\n\tint s = a;\n\tfor (int i = 0; i < b; i++)\n\t\ts = s * {f} + (i ^ {n});\n\treturn s;\n}}\n"
            ));
        }
        fs::write(dir.join(format!("file{n}.c")), text)?;
    }
    fs::write(dir.join("main.c"), "int f0_0(int, int);\nint main(void) { return f0_0(0, 0); }\n")
}

/// Makes a root directory with the mount points that starters want, and `/true`.
fn rootfs(dir: &Path) -> io::Result<()> {
    for name in ["proc", "sys", "dev", "tmp", "etc", "run", "bin"] {
        fs::create_dir_all(dir.join(name))?;
    }
    fs::write(dir.join("etc/passwd"), "root:x:0:0:root:/:/true\n")?;
    fs::write(dir.join("etc/group"), "root:x:0:\n")?;
    let source = dir.with_extension("c");
    fs::write(&source, "int main(void) { return 0; }\n")?;
    tree::succeed(
        Command::new("cc").args(["-static", "-O1", "-o"]).arg(dir.join("true")).arg(source),
    )
}

/// Makes a file of a size, of bytes that don't compress.
fn file(path: &Path, size: u64) -> io::Result<()> {
    let block = tree::block(1 << 20);
    let mut file = File::create(path)?;
    let mut left = size;
    while left > 0 {
        let length = left.min(block.len() as u64);
        file.write_all(&block[..length as usize])?;
        left -= length;
    }
    Ok(())
}
