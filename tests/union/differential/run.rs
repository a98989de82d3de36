//! Does a case on two subjects and compares.

use std::fs::File;
use std::hash::{DefaultHasher, Hasher};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::time::{SystemTime, UNIX_EPOCH};

use nix::errno::Errno;
use nix::fcntl::AT_FDCWD;
use nix::sched::{CloneFlags, unshare};
use nix::sys::stat::{Mode, umask};
use support::privilege::act_as;
use support::subject::Subject;
use support::tree::{Show, Tree, difference, escape, listing_agrees_with_stat, unescape};
use support::{Scratch, Union};
use sys::name::SetTime;
use sys::stat::{Stat, Time};
use sys::xattr::Target;

use super::case::Case;
use super::op::{Call, Op, Who};

/// The user that [`Who::User`] stands for.
const USER: u32 = 1234;

/// How much is compared; each level includes those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Check {
    /// Results of operations, and trees at the end and after a remount.
    Results,
    /// The left side's listings have the inode numbers and types that its stat has.
    Listing,
    /// Each side's upper layer, mounted by the other, shows the same tree.
    Interchange,
}

/// A subject with mount options.
#[derive(Clone, Debug)]
pub(crate) struct Setup {
    pub(crate) subject: Subject,
    pub(crate) options: &'static [&'static str],
}

impl From<Subject> for Setup {
    fn from(subject: Subject) -> Setup {
        Setup { subject, options: &[] }
    }
}

/// What an operation gives: something to compare, or an error number.
type Outcome = Result<String, Errno>;

/// Does `case` on both and returns the first difference in words.
pub(crate) fn compare(
    case: &Case,
    left: &Setup,
    right: &Setup,
    check: Check,
) -> Result<(), String> {
    // The umask belongs to the process; this gives the thread one of its own.
    unshare(CloneFlags::CLONE_FS).expect("a umask of this thread's own");
    // The kernel gives a file a new time when the data of a metacopy follows; we keep the old one.
    let metacopy = left.options.contains(&"metacopy=on");
    let began = (!metacopy).then(|| now() - 5);
    let (mut l, mut r) = (Side::new(case, left), Side::new(case, right));
    let mut others = [&right.subject, &left.subject].into_iter().cycle();
    for (n, op) in case.ops.iter().enumerate() {
        if op.call == Call::Swap {
            let other = others.next().expect("an endless alternation");
            l.swap(other).map_err(|e| format!("operation {}, {e}", n + 1))?;
            r.remount();
            continue;
        }
        let (a, b) = (l.act(op, case.umask, began), r.act(op, case.umask, began));
        if a != b {
            let (left, right) = (left.subject.name(), right.subject.name());
            let n = n + 1;
            return Err(format!("operation {n}, `{op}`:\n  {left}: {a:?}\n  {right}: {b:?}"));
        }
    }
    let show = Show { mtimes_until: began, nlink: true, marks: false };
    let before = same_trees("at the end", &l, &r, &show)?;
    if check >= Check::Listing {
        listing_agrees_with_stat(l.union.root())?;
    }
    l.remount();
    r.remount();
    let after = same_trees("after a remount", &l, &r, &show)?;
    let changed = difference(&before, &after);
    if !changed.is_empty() {
        return Err(format!("a remount changes both trees:\n{changed}"));
    }
    if check >= Check::Interchange {
        interchange(&mut l, &mut r, &left.subject, &right.subject, &show)?;
    }
    Ok(())
}

/// Mounts the left side's upper as the right subject, and the right side's as the left.
fn interchange(
    l: &mut Side,
    r: &mut Side,
    left: &Subject,
    right: &Subject,
    show: &Show,
) -> Result<(), String> {
    l.union.swap(right);
    same_trees("with the left upper mounted by the right subject", l, r, show)?;
    r.union.swap(left);
    same_trees("with both uppers exchanged", l, r, show)?;
    Ok(())
}

fn same_trees(when: &str, l: &Side, r: &Side, show: &Show) -> Result<String, String> {
    let read = |side: &Side| match Tree::try_read(side.union.root()) {
        Ok(tree) => Ok(tree.text(show)),
        Err(e) => Err(format!("{when}: {e}")),
    };
    let (left, right) = (read(l)?, read(r)?);
    let differ = difference(&right, &left);
    if differ.is_empty() {
        return Ok(left);
    }
    Err(format!("{when}, the trees differ (- right, + left):\n{differ}"))
}

/// Writes down the inode number of everything below `dir`, by path.
fn numbers(dir: &std::path::Path) -> Result<String, String> {
    let wrong = |e: std::io::Error| format!("{}: {e}", dir.display());
    let mut lines = Vec::new();
    let mut dirs = vec![dir.to_path_buf()];
    while let Some(at) = dirs.pop() {
        for entry in std::fs::read_dir(&at).map_err(wrong)? {
            let path = entry.map_err(wrong)?.path();
            let meta = std::fs::symlink_metadata(&path).map_err(wrong)?;
            let name = path.strip_prefix(dir).unwrap_or(&path).display().to_string();
            lines.push(format!("ino {name} {}\n", meta.ino()));
            dirs.extend(meta.is_dir().then_some(path));
        }
    }
    lines.sort();
    Ok(lines.concat())
}

fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock after 1970");
    since.as_secs() as i64
}

/// One file system and the files held open on it.
struct Side {
    held: [Option<OwnedFd>; 2],
    union: Union,
}

impl Side {
    fn new(case: &Case, setup: &Setup) -> Side {
        let builder = Union::within(&setup.subject, Scratch::in_memory());
        let builder = setup.options.iter().fold(builder, |b, option| b.option(option));
        let builder = case.layers.iter().fold(builder, |b, layer| b.layer(layer));
        Side { held: [None, None], union: builder.mount() }
    }

    fn remount(&mut self) {
        self.held = [None, None];
        self.union.remount();
    }

    /// Mounts as another subject, and returns which inode numbers change by that.
    fn swap(&mut self, subject: &Subject) -> Result<(), String> {
        self.held = [None, None];
        let before = numbers(self.union.root())?;
        self.union.swap(subject);
        let changed = difference(&before, &numbers(self.union.root())?);
        match changed.is_empty() {
            true => Ok(()),
            false => Err(format!("now {}, changes inode numbers:\n{changed}", subject.name())),
        }
    }

    fn act(&mut self, op: &Op, mask: u32, began: Option<i64>) -> Outcome {
        if op.call == Call::Remount {
            self.remount();
            return Ok(String::new());
        }
        umask(Mode::from_bits_truncate(mask));
        if op.who == Who::User {
            act_as(USER, USER);
        }
        let outcome = self.call(&op.call, began);
        act_as(0, 0);
        umask(Mode::from_bits_truncate(0o022));
        outcome
    }

    fn path(&self, path: &str) -> std::path::PathBuf {
        self.union.path(path)
    }

    fn open(&self, path: &str, flags: i32, mode: u32) -> Result<OwnedFd, Errno> {
        // A FIFO must not make us wait for its other end.
        let flags = flags | libc::O_NONBLOCK;
        sys::openat::open_at(AT_FDCWD, self.path(path).as_os_str(), flags, mode)
    }

    fn call(&mut self, call: &Call, began: Option<i64>) -> Outcome {
        match call {
            Call::Open(..)
            | Call::Write(..)
            | Call::Append(..)
            | Call::Read(_)
            | Call::Truncate(..)
            | Call::Fallocate(..) => self.content(call),
            Call::Hold(slot, path) => {
                self.held[*slot] = None;
                let fd = self.open(path, libc::O_RDWR, 0)?;
                // An unlinked FIFO comes back in the kernel's overlayfs when its mode is changed.
                if !sys::stat::stat_fd(&fd)?.is_file() {
                    return Ok("not a regular file".to_owned());
                }
                self.held[*slot] = Some(fd);
                Ok(String::new())
            }
            Call::Release(slot) => {
                self.held[*slot] = None;
                Ok(String::new())
            }
            Call::HeldWrite(slot, ..)
            | Call::HeldRead(slot)
            | Call::HeldTruncate(slot, _)
            | Call::HeldStat(slot)
            | Call::HeldChmod(slot, _)
            | Call::HeldChown(slot, _) => match &self.held[*slot] {
                Some(fd) => on_held(fd, call, began),
                None => Ok("nothing held".to_owned()),
            },
            Call::Setxattr(p, ..)
            | Call::Getxattr(p, _)
            | Call::Removexattr(p, _)
            | Call::Listxattr(p) => self.xattr(p, call),
            _ => self.names(call, began),
        }
    }

    fn content(&self, call: &Call) -> Outcome {
        match call {
            Call::Open(p, letters, mode) => self.open(p, flags(letters), *mode).map(drop)?,
            Call::Write(p, at, n, byte) => {
                let fd = self.open(p, libc::O_WRONLY, 0)?;
                return write_at(fd, &vec![*byte; *n], *at);
            }
            Call::Append(p, n, byte) => {
                let fd = self.open(p, libc::O_WRONLY | libc::O_APPEND, 0)?;
                let n = nix::unistd::write(&fd, &vec![*byte; *n])?;
                return Ok(n.to_string());
            }
            Call::Read(p) => return read_all(self.open(p, libc::O_RDONLY, 0)?),
            Call::Truncate(p, size) => nix::unistd::truncate(&self.path(p), *size as i64)?,
            Call::Fallocate(p, mode, at, n) => {
                let fd = self.open(p, libc::O_WRONLY, 0)?;
                // Only of regular files: of others, the errno depends on the kernel's own order.
                if sys::stat::stat_fd(&fd)?.is_file() {
                    sys::copy::fallocate(&fd, *mode, *at, *n)?;
                }
            }
            _ => unreachable!("no call on content"),
        }
        Ok(String::new())
    }

    fn names(&self, call: &Call, began: Option<i64>) -> Outcome {
        let path = |p: &str| self.path(p).into_os_string();
        match call {
            Call::Unlink(p) => sys::name::unlink(AT_FDCWD, &path(p))?,
            Call::Rmdir(p) => sys::name::rmdir(AT_FDCWD, &path(p))?,
            Call::Mkdir(p, mode) => sys::name::mkdir(AT_FDCWD, &path(p), *mode)?,
            Call::Rename(a, b, flags) => {
                sys::name::rename(AT_FDCWD, &path(a), AT_FDCWD, &path(b), *flags)?;
            }
            Call::Link(a, b) => sys::name::link(AT_FDCWD, &path(a), AT_FDCWD, &path(b))?,
            Call::Nameless(dir, mode, n, p) => {
                let fd = self.open(dir, libc::O_TMPFILE | libc::O_WRONLY, *mode)?;
                nix::sys::uio::pwrite(&fd, &vec![b'n'; *n], 0)?;
                let made = stat_line(&sys::stat::stat_fd(&fd)?, began);
                let from = format!("/proc/self/fd/{}", fd.as_raw_fd());
                let follow = nix::fcntl::AtFlags::AT_SYMLINK_FOLLOW;
                nix::unistd::linkat(AT_FDCWD, from.as_str(), AT_FDCWD, &*path(p), follow)?;
                return Ok(made);
            }
            Call::Symlink(t, p) => sys::name::symlink(t.as_ref(), AT_FDCWD, &path(p))?,
            Call::Readlink(p) => {
                let target = sys::name::readlink(AT_FDCWD, &path(p))?;
                return Ok(target.to_string_lossy().into_owned());
            }
            Call::Chmod(p, mode) => {
                let mode = Mode::from_bits_truncate(*mode);
                let follow = nix::sys::stat::FchmodatFlags::FollowSymlink;
                nix::sys::stat::fchmodat(AT_FDCWD, self.path(p).as_path(), mode, follow)?;
            }
            Call::Chown(p, uid, gid) => sys::name::chown_at(AT_FDCWD, &path(p), *uid, *gid)?,
            Call::Utimens(p, sec) => {
                let time = SetTime::At(Time { sec: *sec, nsec: 7 });
                sys::name::utimens_at(AT_FDCWD, &path(p), time, time)?;
            }
            Call::Mknod(p, mode, dev) => sys::name::mknod(AT_FDCWD, &path(p), *mode, *dev)?,
            Call::Readdir(p) => {
                return list(self.open(p, libc::O_RDONLY | libc::O_DIRECTORY, 0)?);
            }
            Call::Stat(p) => {
                return Ok(stat_line(&sys::stat::stat_at(AT_FDCWD, &path(p))?, began));
            }
            Call::Access(p, mode) => {
                let mode = nix::unistd::AccessFlags::from_bits_truncate(*mode as i32);
                let eaccess = nix::fcntl::AtFlags::AT_EACCESS;
                nix::unistd::faccessat(AT_FDCWD, self.path(p).as_path(), mode, eaccess)?;
            }
            _ => unreachable!("no call on names"),
        }
        Ok(String::new())
    }

    fn xattr(&self, path: &str, call: &Call) -> Outcome {
        let root = File::open(self.union.root()).map_err(|_| Errno::EIO)?;
        let at = Target::At(root.as_fd(), path.as_ref());
        match call {
            Call::Setxattr(_, k, v) => {
                sys::xattr::set(at, k.as_ref(), unescape(v).as_bytes(), 0)?;
            }
            Call::Removexattr(_, k) => match sys::xattr::remove(at, k.as_ref()) {
                // An absent ACL is ENODATA before copy-up and success after it, in the kernel too.
                Err(Errno::ENODATA) if k.starts_with("system.") => {}
                result => result?,
            },
            Call::Getxattr(_, k) => {
                let mut value = [0; 256];
                let n = sys::xattr::get_into(at, k.as_ref(), &mut value)?;
                return Ok(escape(&value[..n]));
            }
            _ => {
                let mut names = sys::xattr::list(at)?;
                names.sort();
                return Ok(format!("{names:?}"));
            }
        }
        Ok(String::new())
    }
}

fn on_held(fd: &OwnedFd, call: &Call, began: Option<i64>) -> Outcome {
    let own = |fd: &OwnedFd| fd.try_clone().map_err(|_| Errno::EMFILE);
    match call {
        Call::HeldWrite(_, at, n, byte) => return write_at(own(fd)?, &vec![*byte; *n], *at),
        Call::HeldRead(_) => return read_all(own(fd)?),
        Call::HeldTruncate(_, size) => nix::unistd::ftruncate(fd, *size as i64)?,
        Call::HeldStat(_) => return Ok(stat_line(&sys::stat::stat_fd(fd)?, began)),
        Call::HeldChmod(_, mode) => {
            nix::sys::stat::fchmod(fd, Mode::from_bits_truncate(*mode))?;
        }
        Call::HeldChown(_, uid) => nix::unistd::fchown(fd, Some((*uid).into()), None)?,
        _ => unreachable!("no call on a held file"),
    }
    Ok(String::new())
}

/// Returns the flags that letters stand for: Read, Write, Create, Exclusive, Truncate, Append,
/// Directory, Nofollow.
fn flags(letters: &str) -> i32 {
    let has = |l| letters.contains(l);
    let access = match (has('r'), has('w')) {
        (true, true) => libc::O_RDWR,
        (false, true) => libc::O_WRONLY,
        _ => libc::O_RDONLY,
    };
    let rest = [
        ('c', libc::O_CREAT),
        ('e', libc::O_EXCL),
        ('t', libc::O_TRUNC),
        ('a', libc::O_APPEND),
        ('D', libc::O_DIRECTORY),
        ('N', libc::O_NOFOLLOW),
    ];
    rest.iter().filter(|(l, _)| has(*l)).fold(access, |flags, (_, bit)| flags | bit)
}

fn errno(e: &std::io::Error) -> Errno {
    Errno::from_raw(e.raw_os_error().unwrap_or(0))
}

fn write_at(fd: OwnedFd, bytes: &[u8], at: u64) -> Outcome {
    let n = File::from(fd).write_at(bytes, at).map_err(|e| errno(&e))?;
    Ok(n.to_string())
}

fn read_all(fd: OwnedFd) -> Outcome {
    let file = File::from(fd);
    // What isn't a regular file has no content to compare, only whether it can be opened.
    if !sys::stat::stat_fd(&file)?.is_file() {
        return Ok("not a regular file".to_owned());
    }
    let mut hash = DefaultHasher::new();
    let mut block = vec![0; 1 << 14];
    let mut at = 0;
    loop {
        let n = file.read_at(&mut block, at).map_err(|e| errno(&e))?;
        if n == 0 {
            return Ok(format!("{at} bytes, hash {:x}", hash.finish()));
        }
        hash.write(&block[..n]);
        at += n as u64;
    }
}

fn list(fd: OwnedFd) -> Outcome {
    let mut names = Vec::new();
    sys::getdents::for_each(&fd, |e| {
        names.push((e.name.to_owned(), e.kind));
        Ok(())
    })?;
    names.sort();
    Ok(format!("{names:?}"))
}

/// Writes down what both sides must agree on. Directories are counted and sized differently.
fn stat_line(stat: &Stat, began: Option<i64>) -> String {
    let time = match began {
        Some(began) if stat.mtime.sec <= began => {
            format!("{}.{}", stat.mtime.sec, stat.mtime.nsec)
        }
        Some(_) => "now".to_owned(),
        None => String::new(),
    };
    let owner = format!("{:o} {}:{} {time}", stat.mode, stat.uid, stat.gid);
    match stat.is_dir() {
        true => owner,
        false => format!("{owner} nlink {} size {} rdev {}", stat.nlink, stat.size, stat.rdev),
    }
}
