//! The tree that real work is done on: the same on every machine.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use fastrand::Rng;

/// Files per directory.
const PER_DIRECTORY: u32 = 60;

/// Returns a size as in a tree of programs and sources: most are small, few make up the volume. The
/// mean is 17 KiB.
fn size(rng: &mut Rng) -> usize {
    match rng.u32(..100) {
        0..=9 => rng.usize(..200),
        10..=69 => 200 + rng.usize(..6_000),
        70..=94 => 6_000 + rng.usize(..40_000),
        95..=98 => 50_000 + rng.usize(..100_000),
        _ => 200_000 + rng.usize(..700_000),
    }
}

/// Returns bytes that don't compress and are the same everywhere.
pub(crate) fn block(length: usize) -> Vec<u8> {
    let mut rng = Rng::with_seed(2026);
    let mut block = vec![0; length];
    rng.fill(&mut block);
    block
}

/// Makes the tree at `root`, which doesn't exist: files, and for each hundred of them three symlinks
/// and a hard link.
pub(crate) fn make(root: &Path, files: u32) -> io::Result<()> {
    let mut rng = Rng::with_seed(2026);
    let block = block(1 << 20);
    for n in 0..files {
        let dir = root.join(format!("d{:02}/s{:03}", n / 1200, n / PER_DIRECTORY));
        if n % PER_DIRECTORY == 0 {
            fs::create_dir_all(&dir)?;
        }
        let path = dir.join(format!("file-{n:05}"));
        let at = rng.usize(..1000);
        let length = size(&mut rng);
        File::create(&path)?.write_all(&block[at..at + length])?;
        match n % 100 {
            7 | 37 | 67 => {
                symlink(path.file_name().unwrap_or_default(), dir.join(format!("link-{n}")))?
            }
            50 => fs::hard_link(&path, dir.join(format!("hard-{n}")))?,
            _ => {}
        }
    }
    Ok(())
}

/// Packs the tree `name` in `dir` into an archive, with fixed times.
pub(crate) fn pack(dir: &Path, name: &str, archive: &Path) -> io::Result<()> {
    let mut command = Command::new("tar");
    command.args(["--sort=name", "--mtime=@1700000000", "-cf"]).arg(archive);
    succeed(command.arg("-C").args([dir.as_os_str(), name.as_ref()]))
}

/// Returns the paths of all regular files of a tree, sorted.
pub(crate) fn files(tree: &Path) -> io::Result<Vec<PathBuf>> {
    let mut all = Vec::new();
    let mut dirs = vec![tree.to_path_buf()];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            let kind = entry.file_type()?;
            if kind.is_dir() {
                dirs.push(entry.path());
            } else if kind.is_file() {
                all.push(entry.path());
            }
        }
    }
    all.sort();
    Ok(all)
}

/// Where root has the kernel drop what it can read again from disks.
pub(crate) const DROP_CACHES: &str = "/proc/sys/vm/drop_caches";

/// Drops the cached pages of all files of a tree; with `all`, every clean page, entry and inode of the
/// machine.
pub(crate) fn evict(tree: &Path, all: bool) -> io::Result<()> {
    for path in files(tree)? {
        let file = File::open(path)?;
        nix::fcntl::posix_fadvise(
            &file,
            0,
            0,
            nix::fcntl::PosixFadviseAdvice::POSIX_FADV_DONTNEED,
        )?;
    }
    if all {
        nix::unistd::sync();
        fs::write(DROP_CACHES, "3")?;
    }
    Ok(())
}

/// Returns the size of what is at a path, asked as find, ls, tar and git ask: lstat(2). The standard
/// library's statx(2) wants the time of birth too, which costs FUSE a message of its own.
pub(crate) fn lstat(path: &Path) -> io::Result<u64> {
    Ok(nix::sys::stat::lstat(path)?.st_size as u64)
}

/// Reads a file to its end and returns its length.
pub(crate) fn read(path: &Path, block: &mut [u8]) -> io::Result<u64> {
    let mut file = File::open(path)?;
    let mut length = 0;
    loop {
        match file.read(block)? {
            0 => return Ok(length),
            n => length += n as u64,
        }
    }
}

/// Runs a command without input and output.
pub(crate) fn succeed(command: &mut Command) -> io::Result<()> {
    let out = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .output()
        .map_err(|e| io::Error::new(e.kind(), format!("{:?}: {e}", command.get_program())))?;
    if out.status.success() {
        return Ok(());
    }
    let program = command.get_program().to_string_lossy().into_owned();
    Err(io::Error::other(format!("{program}: {}: {}", out.status, reason(&out.stderr))))
}

/// Returns the line of what a program said that tells most: one about an error, else the first.
fn reason(said: &[u8]) -> String {
    let said = String::from_utf8_lossy(said);
    let error = said.lines().find(|line| line.to_lowercase().contains("error"));
    error.or_else(|| said.lines().next()).unwrap_or("").to_owned()
}

/// Runs a command without input and returns what it says.
pub(crate) fn output(command: &mut Command) -> io::Result<Vec<u8>> {
    let program = command.get_program().to_string_lossy().into_owned();
    let out = command.stdin(Stdio::null()).output();
    let out = out.map_err(|e| io::Error::new(e.kind(), format!("{program}: {e}")))?;
    if out.status.success() {
        return Ok(out.stdout);
    }
    Err(io::Error::other(format!("{program}: {}: {}", out.status, reason(&out.stderr))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bed::Times;
    use crate::bed::checksum;

    #[test]
    fn twelve_thousand_files_are_about_two_hundred_megabytes() {
        let mut rng = Rng::with_seed(2026);
        let sizes = (0..12_000).map(|_| {
            rng.usize(..1000);
            size(&mut rng)
        });
        let total: usize = sizes.sum();
        assert!((180 << 20..220 << 20).contains(&total), "{total}");
    }

    #[test]
    fn two_trees_are_the_same() {
        let dir = tempfile::tempdir().expect("a directory");
        for name in ["a", "b"] {
            make(&dir.path().join(name), 200).expect("make a tree");
            let archive = dir.path().join(format!("{name}.tar"));
            pack(dir.path(), name, &archive).expect("pack");
            let into = dir.path().join(format!("{name}-unpacked"));
            fs::create_dir(&into).expect("mkdir");
            succeed(Command::new("tar").arg("-xf").arg(&archive).arg("-C").arg(&into))
                .expect("unpack");
        }
        let sum = |n: &str| {
            let tree = dir.path().join(format!("{n}-unpacked/{n}"));
            checksum::of(&tree, Times::Count).expect("checksums")
        };
        assert_eq!(sum("a"), sum("b"));
        fs::write(dir.path().join("b-unpacked/b/d00/s000/file-00003"), "changed").expect("write");
        assert_ne!(sum("a"), sum("b"));
    }
}
