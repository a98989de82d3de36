//! Single operations, timed one by one, on a directory of small files.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use fastrand::Rng;

use super::Block;
use super::fixture::{ATTRIBUTE, Fixture, name};
use super::tree;
use crate::bed::checksum::digest;
use crate::bed::{Bed, Times, Use};
use crate::measure::latency::Timer;
use crate::subject::Family;

pub(super) const BLOCKS: &[Block] = &[
    Block { fixtures: &[Fixture::Flat, Fixture::Thousand], ..block("lookups", lookups) },
    block("reads", reads),
    Block { fixtures: &[Fixture::Empty], ..block("new files", new_files) },
    block("lower files", lower_files),
];

const fn block(name: &'static str, run: fn(&mut Bed<'_>) -> io::Result<()>) -> Block {
    let fixtures = &[Fixture::Flat];
    Block {
        suite: "ops",
        name,
        family: Family::FileSystem,
        kinds: &[],
        fixtures,
        counted: true,
        needs: &[],
        extra: false,
        run,
    }
}

/// Returns the paths of the files in `dir`, in an order that is the same for all subjects.
fn paths(bed: &Bed<'_>, dir: &Path) -> Vec<PathBuf> {
    let mut all: Vec<_> = (0..bed.job.scale.flat).map(|n| dir.join(name(n))).collect();
    Rng::with_seed(bed.job.seed).shuffle(&mut all);
    all
}

fn stat(timer: &mut Timer, paths: &[PathBuf]) -> io::Result<u64> {
    let mut sum = 0;
    for path in paths {
        sum += timer.op(|| tree::lstat(path))?;
    }
    Ok(sum)
}

fn negative(timer: &mut Timer, paths: &[PathBuf]) -> io::Result<u64> {
    let mut missing = 0;
    for path in paths {
        missing += timer.op(|| match tree::lstat(path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(1),
            Err(e) => Err(e),
            Ok(_) => Ok(0),
        })?;
    }
    Ok(missing)
}

/// Lists a directory, as fast as it can be done: what is timed.
pub(super) fn readdir(dir: &Path) -> io::Result<u64> {
    let mut sum = 0u64;
    let dir = File::open(dir)?;
    sys::getdents::for_each(&dir, |entry| {
        sum += entry.name.len() as u64;
        Ok(())
    })?;
    Ok(sum)
}

/// Lists a directory and returns a digest of names and types.
pub(super) fn list(dir: &Path) -> io::Result<u64> {
    let mut sum = 0u64;
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        sum = sum.wrapping_add(digest((entry.file_name(), entry.file_type()?.is_dir())));
    }
    Ok(sum)
}

fn lookups(bed: &mut Bed<'_>) -> io::Result<()> {
    let point = bed.mount(&[bed.fixture("flat")], Use::Read)?;
    let dir = point.join("flat");
    let files = paths(bed, &dir);
    let missing: Vec<_> = files.iter().map(|p| p.with_extension("missing")).collect();
    let repeats = bed.job.scale.repeats;
    bed.case("stat, cold").measure(|t| stat(t, &files))?;
    bed.case("stat, warm").measure(|t| (0..repeats).try_fold(0, |_, _| stat(t, &files)))?;
    bed.case("negative lookup, cold").measure(|t| negative(t, &missing))?;
    bed.case("negative lookup, warm")
        .measure(|t| (0..repeats).try_fold(0, |_, _| negative(t, &missing)))?;
    bed.case("getxattr, warm").measure(|t| {
        files.iter().try_for_each(|path| attribute(path).map(drop))?;
        files.iter().try_fold(0, |sum, path| Ok(sum + t.op(|| attribute(path))?))
    })?;
    let point = bed.mount(&[bed.fixture("thousand")], Use::Read)?;
    let dir = point.join("thousand");
    bed.case("readdir of 1,000, first").measure(|t| {
        t.op(|| readdir(&dir))?;
        list(&dir)
    })?;
    bed.case("readdir of 1,000, again").measure(|t| {
        let mut seen = 0;
        for _ in 0..10 * repeats {
            seen = t.op(|| readdir(&dir))?;
        }
        Ok(seen)
    })
}

/// Asks for the attribute; returns its length, or 1 where there is none.
fn attribute(path: &Path) -> io::Result<u64> {
    let mut value = [0u8; 64];
    match rustix::fs::lgetxattr(path, ATTRIBUTE, &mut value) {
        Ok(n) => Ok(n as u64),
        Err(rustix::io::Errno::NODATA | rustix::io::Errno::NOTSUP) => Ok(1),
        Err(e) => Err(e.into()),
    }
}

fn open_read_close(timer: &mut Timer, paths: &[PathBuf]) -> io::Result<u64> {
    let mut block = [0; 4096];
    let mut sum = 0u64;
    for path in paths {
        let n = timer.op(|| File::open(path)?.read(&mut block))?;
        // All of the contents are looked at afterwards, where it isn't taken for work.
        sum = sum.wrapping_add(n as u64 + u64::from(block[n / 2]));
    }
    Ok(sum)
}

fn reads(bed: &mut Bed<'_>) -> io::Result<()> {
    let lower = bed.fixture("flat");
    tree::evict(&lower, bed.job.drop_caches)?;
    let point = bed.mount(&[lower], Use::Read)?;
    let dir = point.join("flat");
    let files = paths(bed, &dir);
    let repeats = bed.job.scale.repeats;
    bed.case("open-read-close, cold")
        .leaves(&dir, Times::Count)
        .measure(|t| open_read_close(t, &files))?;
    bed.case("open-read-close, warm")
        .leaves(&dir, Times::Count)
        .measure(|t| (0..repeats).try_fold(0, |_, _| open_read_close(t, &files)))
}

fn new_files(bed: &mut Bed<'_>) -> io::Result<()> {
    let point = bed.mount(&[bed.fixture("empty")], Use::Write)?;
    let dir = point.join("new");
    fs::create_dir(&dir)?;
    let mut files: Vec<_> = (0..bed.job.scale.created).map(|n| dir.join(name(n))).collect();
    Rng::with_seed(bed.job.seed).shuffle(&mut files);
    let block = tree::block(4096);
    let count = files.len() as u64;
    let each = |timer: &mut Timer, work: &dyn Fn(&PathBuf) -> io::Result<()>| {
        files.iter().try_for_each(|path| timer.op(|| work(path)))?;
        Ok(count)
    };
    bed.case("create-write-close")
        .leaves(&dir, Times::Vary)
        .measure(|t| each(t, &|path| File::create(path)?.write_all(&block)))?;
    bed.case("chmod").leaves(&dir, Times::Vary).measure(|t| each(t, &|p| chmod(p, 0o600)))?;
    bed.case("rename")
        .leaves(&dir, Times::Vary)
        .measure(|t| each(t, &|path| fs::rename(path, path.with_extension("moved"))))?;
    bed.case("unlink")
        .leaves(&dir, Times::Vary)
        .measure(|t| each(t, &|path| fs::remove_file(path.with_extension("moved"))))?;
    bed.case("mkdir-rmdir").leaves(&dir, Times::Vary).measure(|t| {
        each(t, &|path| {
            fs::create_dir(path)?;
            fs::remove_dir(path)
        })
    })?;
    bed.case("symlink")
        .leaves(&dir, Times::Vary)
        .measure(|t| each(t, &|path| std::os::unix::fs::symlink("target", path)))
}

fn chmod(path: &Path, mode: u32) -> io::Result<()> {
    fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(mode))
}

fn lower_files(bed: &mut Bed<'_>) -> io::Result<()> {
    let point = bed.mount(&[bed.fixture("flat")], Use::Write)?;
    let dir = point.join("flat");
    let files = paths(bed, &dir);
    // Each group of files stays as the layer has it until its own case.
    let group = |n: usize| files.iter().skip(n).step_by(4).take(250);
    let each = |t: &mut Timer, n: usize, work: &dyn Fn(&PathBuf) -> io::Result<()>| {
        group(n).try_for_each(|path| t.op(|| work(path)))?;
        Ok(0)
    };
    bed.case("copy-up 4K, by an append").settled().leaves(&dir, Times::Vary).measure(|t| {
        each(t, 0, &|path| File::options().append(true).open(path)?.write_all(b"more"))
    })?;
    bed.case("chmod, lower file")
        .settled()
        .leaves(&dir, Times::Vary)
        .measure(|t| each(t, 1, &|path| chmod(path, 0o600)))?;
    bed.case("rename, lower file")
        .settled()
        .leaves(&dir, Times::Vary)
        .measure(|t| each(t, 2, &|path| fs::rename(path, path.with_extension("moved"))))?;
    bed.case("unlink, lower file")
        .settled()
        .leaves(&dir, Times::Vary)
        .measure(|t| each(t, 3, &|path| fs::remove_file(path)))
}
