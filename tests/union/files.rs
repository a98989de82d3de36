//! Short names for what the tests do with files. Each panics with path and errno unless it is asked
//! for the errno.

use nix::fcntl::{Flock, FlockArg};
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::AT_FDCWD;
use sys::name::SetTime;
use sys::stat::{Stat, Time};
use sys::xattr::Target;

#[track_caller]
fn well<T>(what: &str, path: &Path, result: Result<T, Errno>) -> T {
    result.unwrap_or_else(|e| panic!("{what} {}: {}", path.display(), e.desc()))
}

/// Returns the errno of an I/O error.
pub(crate) fn errno(e: std::io::Error) -> Errno {
    Errno::from_raw(e.raw_os_error().unwrap_or(0))
}

/// Opens with flags.
pub(crate) fn try_open(path: &Path, flags: i32) -> Result<OwnedFd, Errno> {
    sys::openat::open_at(AT_FDCWD, path.as_os_str(), flags, 0o666)
}

/// Opens with flags, as a file.
#[track_caller]
pub(crate) fn open(path: &Path, flags: i32) -> File {
    File::from(well("open", path, try_open(path, flags)))
}

/// Makes or replaces a file.
#[track_caller]
pub(crate) fn put(path: &Path, text: &str) {
    let flags = libc::O_WRONLY | libc::O_CREAT | libc::O_TRUNC;
    let written = open(path, flags).write_all(text.as_bytes()).map_err(errno);
    well("write", path, written);
}

/// Appends to an existing file.
#[track_caller]
pub(crate) fn append(path: &Path, text: &str) {
    let written = open(path, libc::O_WRONLY | libc::O_APPEND).write_all(text.as_bytes());
    well("append to", path, written.map_err(errno));
}

/// Returns the content of a file.
#[track_caller]
pub(crate) fn get(path: &Path) -> String {
    let bytes = well("read", path, std::fs::read(path).map_err(errno));
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Returns what stat says, not following a symlink.
#[track_caller]
pub(crate) fn stat(path: &Path) -> Stat {
    well("stat", path, try_stat(path))
}

/// Returns what stat says, or its errno.
pub(crate) fn try_stat(path: &Path) -> Result<Stat, Errno> {
    sys::stat::stat_at(AT_FDCWD, path.as_os_str())
}

/// Returns the permission bits.
#[track_caller]
pub(crate) fn mode(path: &Path) -> u32 {
    stat(path).mode & 0o7777
}

/// Sets the permission bits.
#[track_caller]
pub(crate) fn chmod(path: &Path, mode: u32) {
    well("chmod", path, try_chmod(path, mode));
}

/// Sets the permission bits, or returns the errno.
pub(crate) fn try_chmod(path: &Path, mode: u32) -> Result<(), Errno> {
    use nix::sys::stat::{FchmodatFlags, Mode, fchmodat};
    fchmodat(AT_FDCWD, path, Mode::from_bits_truncate(mode), FchmodatFlags::FollowSymlink)
}

/// Sets the owner, of a symlink its own.
#[track_caller]
pub(crate) fn chown(path: &Path, uid: u32, gid: u32) {
    well("chown", path, sys::name::chown_at(AT_FDCWD, path.as_os_str(), Some(uid), Some(gid)));
}

/// Sets the modification time in seconds, of a symlink its own.
#[track_caller]
pub(crate) fn set_mtime(path: &Path, sec: i64) {
    let time = SetTime::At(Time { sec, nsec: 0 });
    well("utimens", path, sys::name::utimens_at(AT_FDCWD, path.as_os_str(), time, time));
}

/// Removes a file.
#[track_caller]
pub(crate) fn unlink(path: &Path) {
    well("unlink", path, sys::name::unlink(AT_FDCWD, path.as_os_str()));
}

/// Removes a directory.
#[track_caller]
pub(crate) fn rmdir(path: &Path) {
    well("rmdir", path, try_rmdir(path));
}

/// Removes a directory, or returns the errno.
pub(crate) fn try_rmdir(path: &Path) -> Result<(), Errno> {
    sys::name::rmdir(AT_FDCWD, path.as_os_str())
}

/// Makes a directory with mode 0777 before the umask.
#[track_caller]
pub(crate) fn mkdir(path: &Path) {
    well("mkdir", path, sys::name::mkdir(AT_FDCWD, path.as_os_str(), 0o777));
}

/// Renames.
#[track_caller]
pub(crate) fn rename(from: &Path, to: &Path) {
    well("rename", from, try_rename(from, to, 0));
}

/// Renames with flags, or returns the errno.
pub(crate) fn try_rename(from: &Path, to: &Path, flags: u32) -> Result<(), Errno> {
    sys::name::rename(AT_FDCWD, from.as_os_str(), AT_FDCWD, to.as_os_str(), flags)
}

/// Makes a hard link.
#[track_caller]
pub(crate) fn link(from: &Path, to: &Path) {
    well("link", to, sys::name::link(AT_FDCWD, from.as_os_str(), AT_FDCWD, to.as_os_str()));
}

/// Makes a node of any type, or returns the errno.
pub(crate) fn mknod(path: &Path, mode: u32, rdev: u64) -> Result<(), Errno> {
    sys::name::mknod(AT_FDCWD, path.as_os_str(), mode, rdev)
}

fn on<T>(path: &Path, f: impl FnOnce(Target<'_>) -> Result<T, Errno>) -> Result<T, Errno> {
    let parent = try_open(path.parent().expect("a parent"), libc::O_PATH)?;
    f(Target::At(parent.as_fd(), path.file_name().expect("a name")))
}

/// Sets an extended attribute, of a symlink its own; or returns the errno.
pub(crate) fn set_xattr(path: &Path, name: &str, value: &[u8]) -> Result<(), Errno> {
    on(path, |at| sys::xattr::set(at, &support::tree::unescape(name), value, 0))
}

/// Returns an extended attribute, of a symlink its own.
#[track_caller]
pub(crate) fn xattr(path: &Path, name: &str) -> Option<Vec<u8>> {
    let value = on(path, |at| sys::xattr::get(at, &support::tree::unescape(name)));
    well("getxattr", path, value)
}

/// Returns the names of all extended attributes, sorted.
#[track_caller]
pub(crate) fn xattrs(path: &Path) -> Vec<std::ffi::OsString> {
    let mut names = well("listxattr", path, on(path, sys::xattr::list));
    names.sort();
    names
}

/// Returns the names in a directory, sorted.
#[track_caller]
pub(crate) fn list(path: &Path) -> Vec<String> {
    let mut names = Vec::new();
    let each = |e: sys::getdents::Entry<'_>| {
        names.push(e.name.to_string_lossy().into_owned());
        Ok(())
    };
    well("readdir", path, sys::getdents::for_each(open(path, libc::O_RDONLY), each));
    names.sort();
    names
}

/// Whether nothing has this name.
#[track_caller]
pub(crate) fn is_gone(path: &Path) -> bool {
    match try_stat(path) {
        Ok(_) => false,
        Err(Errno::ENOENT) => true,
        Err(e) => panic!("stat {}: {}", path.display(), e.desc()),
    }
}

/// Keeps the kernel's caches as they are until it is dropped: who empties them waits (and waits until
/// nobody counts on them). Other processes of this program are kept out as well.
pub(crate) fn hold_caches(to_empty_them: bool) -> Flock<std::fs::File> {
    let own = std::env::current_exe().and_then(std::fs::File::open).expect("open this program");
    let how = if to_empty_them { FlockArg::LockExclusive } else { FlockArg::LockShared };
    Flock::lock(own, how).map_err(|(_, e)| e).expect("lock this program")
}
