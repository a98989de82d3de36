//! Lays a tree out as its literal says.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use sys::name::SetTime;
use sys::stat::Time;

use super::line::{Content, Kind, Line, parse};

/// Makes everything that `literal` lists below `root`, which exists.
///
/// # Panics
/// The literal has a mistake, or something can't be made.
pub fn write(root: &Path, literal: &str) {
    let mut dirs = BTreeSet::from([root.to_path_buf()]);
    let lines = parse(literal);
    for line in &lines {
        let path = at(root, line);
        let fail = |e: sys::Errno| panic!("lay out {}: {}", path.display(), e.desc());
        if path != root {
            make_parents(root, &path, &mut dirs);
        }
        make(root, line, &path).unwrap_or_else(fail);
        adorn(line, &path).unwrap_or_else(fail);
    }
    // Directories get their times last: each entry made in one changes it.
    for dir in dirs.iter().rev() {
        set_mtime(dir, super::OLD).expect("set the time of a directory");
    }
    for line in lines.iter().filter(|l| matches!(l.kind, Kind::Dir | Kind::Opaque)) {
        set_mtime(&at(root, line), line.mtime).expect("set the time of a directory");
    }
}

/// Returns where a line's object is; `.` is the root itself.
fn at(root: &Path, line: &Line) -> PathBuf {
    if line.path.as_os_str() == "." { root.to_path_buf() } else { root.join(&line.path) }
}

fn make_parents(root: &Path, path: &Path, dirs: &mut BTreeSet<PathBuf>) {
    let parent = path.parent().expect("a path below the root");
    if parent != root {
        make_parents(root, parent, dirs);
    }
    if !parent.exists() {
        sys::name::mkdir(nix::fcntl::AT_FDCWD, parent.as_os_str(), 0o755).expect("make a parent");
        set_mode(parent, 0o755).expect("set the mode of a parent");
    }
    dirs.insert(parent.to_path_buf());
}

fn make(root: &Path, line: &Line, path: &Path) -> sys::Result<()> {
    let here = nix::fcntl::AT_FDCWD;
    let name = path.as_os_str();
    let node = |kind: u32, (major, minor): (u64, u64)| {
        sys::name::mknod(here, name, kind | 0o600, nix::sys::stat::makedev(major, minor))
    };
    match line.kind {
        Kind::Dir | Kind::Opaque if path.is_dir() => Ok(()),
        Kind::Dir | Kind::Opaque => sys::name::mkdir(here, name, 0o755),
        Kind::File => fill(path, &line.content),
        Kind::Symlink => sys::name::symlink(&line.target, here, name),
        Kind::HardLink => sys::name::link(here, root.join(&line.target).as_os_str(), here, name),
        Kind::Fifo => node(libc::S_IFIFO, (0, 0)),
        Kind::Socket => node(libc::S_IFSOCK, (0, 0)),
        Kind::Char => node(libc::S_IFCHR, line.device),
        Kind::Block => node(libc::S_IFBLK, line.device),
        Kind::Whiteout => node(libc::S_IFCHR, (0, 0)),
    }
}

fn fill(path: &Path, content: &Content) -> sys::Result<()> {
    let errno = |e: std::io::Error| sys::Errno::from_raw(e.raw_os_error().unwrap_or(0));
    let mut file = File::create(path).map_err(errno)?;
    match content {
        Content::Bytes(bytes) => file.write_all(bytes).map_err(errno),
        Content::Hole(size) => file.set_len(*size).map_err(errno),
        Content::Pattern(size) => {
            let block = pattern(1 << 16);
            let mut at = 0;
            while at < *size {
                let n = (size - at).min(block.len() as u64);
                file.write_all_at(&block[..n as usize], at).map_err(errno)?;
                at += n;
            }
            Ok(())
        }
    }
}

/// Returns the first `size` bytes of the pattern that fills files laid out by size. It repeats after
/// 65,536 bytes.
pub fn pattern(size: usize) -> Vec<u8> {
    (0..size)
        .map(|i| ((i % 65_536) as u32).wrapping_mul(2_654_435_761) >> 24)
        .map(|n| n as u8)
        .collect()
}

/// Sets owner, mode, attributes and time, in an order in which none undoes another.
fn adorn(line: &Line, path: &Path) -> sys::Result<()> {
    if line.kind == Kind::HardLink {
        return Ok(());
    }
    let here = nix::fcntl::AT_FDCWD;
    let (uid, gid) = line.owner;
    sys::name::chown_at(here, path.as_os_str(), Some(uid), Some(gid))?;
    let default = match line.kind {
        Kind::Dir | Kind::Opaque => 0o755,
        _ => 0o644,
    };
    if !matches!(line.kind, Kind::Symlink | Kind::Whiteout) {
        set_mode(path, line.mode.unwrap_or(default))?;
    }
    let mut xattrs = line.xattrs.clone();
    if line.kind == Kind::Opaque {
        xattrs.push(("trusted.overlay.opaque".into(), b"y".to_vec()));
    }
    let parent = File::open(path.parent().expect("a parent")).expect("open a parent");
    let name = path.file_name().unwrap_or(OsStr::new("."));
    for (key, value) in &xattrs {
        let at = sys::xattr::Target::At(std::os::fd::AsFd::as_fd(&parent), name);
        sys::xattr::set(at, key, value, 0)?;
    }
    set_mtime(path, line.mtime)
}

fn set_mode(path: &Path, mode: u32) -> sys::Result<()> {
    sys::name::chmod_at(nix::fcntl::AT_FDCWD, path.as_os_str(), mode)
}

fn set_mtime(path: &Path, sec: i64) -> sys::Result<()> {
    let time = SetTime::At(Time { sec, nsec: 0 });
    sys::name::utimens_at(nix::fcntl::AT_FDCWD, path.as_os_str(), time, time)
}
