//! The tree that the work is done on: the same on every machine.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

/// Files per directory.
const PER_DIRECTORY: u32 = 60;

/// A deterministic sequence of numbers (splitmix64).
pub(crate) struct Numbers(pub(crate) u64);

impl Numbers {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

/// Returns a size as in a tree of programs and sources: most are small, few make up the volume. The
/// mean is 17 KiB.
fn size(numbers: &mut Numbers) -> u64 {
    let n = numbers.next();
    match n % 100 {
        0..=9 => n / 100 % 200,
        10..=69 => 200 + n / 100 % 6_000,
        70..=94 => 6_000 + n / 100 % 40_000,
        95..=98 => 50_000 + n / 100 % 100_000,
        _ => 200_000 + n / 100 % 700_000,
    }
}

/// Makes the tree at `root`, which doesn't exist: files, and for each hundred of them three symlinks
/// and a hard link.
pub(crate) fn make(root: &Path, files: u32) -> io::Result<()> {
    let mut numbers = Numbers(2026);
    let mut block = vec![0u8; 1 << 20];
    for chunk in block.chunks_mut(8) {
        chunk.copy_from_slice(&numbers.next().to_le_bytes());
    }
    for n in 0..files {
        let dir = root.join(format!("d{:02}/s{:03}", n / 1200, n / PER_DIRECTORY));
        if n % PER_DIRECTORY == 0 {
            fs::create_dir_all(&dir)?;
        }
        let path = dir.join(format!("file-{n:05}"));
        let at = (numbers.next() % 1000) as usize;
        let length = size(&mut numbers) as usize;
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
    let status = Command::new("tar")
        .args(["--sort=name", "--mtime=@1700000000", "-cf"])
        .arg(archive)
        .arg("-C")
        .args([dir.as_os_str(), name.as_ref()])
        .status()?;
    if status.success() { Ok(()) } else { Err(io::Error::other(format!("tar: {status}"))) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn twelve_thousand_files_are_about_two_hundred_megabytes() {
        let mut numbers = Numbers(2026);
        let total: u64 = (0..12_000).map(|_| size(&mut numbers)).sum();
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
            let status = Command::new("tar").arg("-xf").arg(&archive).arg("-C").arg(&into).status();
            assert!(status.expect("run tar").success());
        }
        let sum = |n: &str| crate::checksum::of(&dir.path().join(format!("{n}-unpacked/{n}")));
        assert_eq!(sum("a").expect("a checksum"), sum("b").expect("a checksum"));
        fs::write(dir.path().join("b-unpacked/b/d00/s000/file-00003"), "changed").expect("write");
        assert_ne!(sum("a").expect("a checksum"), sum("b").expect("a checksum"));
    }
}
