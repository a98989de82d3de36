//! One operation, and its text form: `VERB ARGUMENTS`, with `as-user` before what root doesn't do.

use std::fmt;

/// Who does it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Who {
    /// Root.
    Root,
    /// Somebody with no privileges, who owns some of the objects.
    User,
}

/// An operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Op {
    pub(crate) who: Who,
    pub(crate) call: Call,
}

/// What is called. Paths are relative to the mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Call {
    /// open(2) with the flags that the letters stand for (see [`super::run`]), and close.
    Open(String, String, u32),
    /// pwrite(2) of so many bytes at an offset.
    Write(String, u64, usize, u8),
    /// write(2) of so many bytes at the end.
    Append(String, usize, u8),
    Read(String),
    Truncate(String, u64),
    /// fallocate(2): mode, offset, length.
    Fallocate(String, i32, i64, i64),
    Unlink(String),
    Rmdir(String),
    Mkdir(String, u32),
    /// renameat2(2); flags: 0, 1 (NOREPLACE), 2 (EXCHANGE).
    Rename(String, String, u32),
    Link(String, String),
    /// open(2) of a directory with `O_TMPFILE` and a mode, pwrite(2) of so many bytes, and linkat(2) of
    /// what was made to a path.
    Nameless(String, u32, usize, String),
    /// Content, then path.
    Symlink(String, String),
    Readlink(String),
    Chmod(String, u32),
    Chown(String, Option<u32>, Option<u32>),
    Utimens(String, i64),
    /// Path, name, and the value with `\xNN` for any byte.
    Setxattr(String, String, String),
    Getxattr(String, String),
    Removexattr(String, String),
    Listxattr(String),
    /// Path and full mode.
    Mknod(String, u32, u64),
    Readdir(String),
    Stat(String),
    Access(String, u32),
    /// Opens a file for reading and writing, and keeps it in a slot.
    Hold(usize, String),
    HeldWrite(usize, u64, usize, u8),
    HeldRead(usize),
    HeldTruncate(usize, u64),
    HeldStat(usize),
    HeldChmod(usize, u32),
    HeldChown(usize, u32),
    Release(usize),
    /// Unmounts and mounts both sides.
    Remount,
    /// The same, but the left side as the other subject than before.
    Swap,
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.who == Who::User {
            write!(f, "as-user ")?;
        }
        self.call.fmt(f)
    }
}

fn id(id: &Option<u32>) -> String {
    id.map_or("-".into(), |id| id.to_string())
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Call::Open(p, flags, mode) => write!(f, "open {p} {flags} {mode:o}"),
            Call::Write(p, at, n, b) => write!(f, "write {p} {at} {n} {b}"),
            Call::Append(p, n, b) => write!(f, "append {p} {n} {b}"),
            Call::Read(p) => write!(f, "read {p}"),
            Call::Truncate(p, n) => write!(f, "truncate {p} {n}"),
            Call::Fallocate(p, mode, at, n) => write!(f, "fallocate {p} {mode} {at} {n}"),
            Call::Unlink(p) => write!(f, "unlink {p}"),
            Call::Rmdir(p) => write!(f, "rmdir {p}"),
            Call::Mkdir(p, mode) => write!(f, "mkdir {p} {mode:o}"),
            Call::Rename(a, b, flags) => write!(f, "rename {a} {b} {flags}"),
            Call::Link(a, b) => write!(f, "link {a} {b}"),
            Call::Nameless(d, mode, n, p) => write!(f, "nameless {d} {mode:o} {n} {p}"),
            Call::Symlink(t, p) => write!(f, "symlink {t} {p}"),
            Call::Readlink(p) => write!(f, "readlink {p}"),
            Call::Chmod(p, mode) => write!(f, "chmod {p} {mode:o}"),
            Call::Chown(p, u, g) => write!(f, "chown {p} {} {}", id(u), id(g)),
            Call::Utimens(p, t) => write!(f, "utimens {p} {t}"),
            Call::Setxattr(p, k, v) => write!(f, "setxattr {p} {k} {v}"),
            Call::Getxattr(p, k) => write!(f, "getxattr {p} {k}"),
            Call::Removexattr(p, k) => write!(f, "removexattr {p} {k}"),
            Call::Listxattr(p) => write!(f, "listxattr {p}"),
            Call::Mknod(p, mode, dev) => write!(f, "mknod {p} {mode:o} {dev}"),
            Call::Readdir(p) => write!(f, "readdir {p}"),
            Call::Stat(p) => write!(f, "stat {p}"),
            Call::Access(p, mode) => write!(f, "access {p} {mode}"),
            Call::Hold(s, p) => write!(f, "hold {s} {p}"),
            Call::HeldWrite(s, at, n, b) => write!(f, "held-write {s} {at} {n} {b}"),
            Call::HeldRead(s) => write!(f, "held-read {s}"),
            Call::HeldTruncate(s, n) => write!(f, "held-truncate {s} {n}"),
            Call::HeldStat(s) => write!(f, "held-stat {s}"),
            Call::HeldChmod(s, mode) => write!(f, "held-chmod {s} {mode:o}"),
            Call::HeldChown(s, uid) => write!(f, "held-chown {s} {uid}"),
            Call::Release(s) => write!(f, "release {s}"),
            Call::Remount => write!(f, "remount"),
            Call::Swap => write!(f, "swap"),
        }
    }
}

impl Op {
    /// Parses the text form.
    ///
    /// # Panics
    /// It has a mistake.
    pub(crate) fn parse(text: &str) -> Op {
        let (who, rest) = match text.strip_prefix("as-user ") {
            Some(rest) => (Who::User, rest),
            None => (Who::Root, text),
        };
        let words: Vec<&str> = rest.split_whitespace().collect();
        let call = parse_names(&words).or_else(|| parse_content(&words));
        Op { who, call: call.unwrap_or_else(|| panic!("can't read the operation `{text}`")) }
    }
}

fn octal(word: &str) -> Option<u32> {
    u32::from_str_radix(word, 8).ok()
}

fn owner(word: &str) -> Option<Option<u32>> {
    if word == "-" { Some(None) } else { word.parse().ok().map(Some) }
}

/// Parses what changes or shows names and attributes.
fn parse_names(words: &[&str]) -> Option<Call> {
    let s = |w: &&str| (*w).to_owned();
    Some(match words {
        ["unlink", p] => Call::Unlink(s(p)),
        ["rmdir", p] => Call::Rmdir(s(p)),
        ["mkdir", p, mode] => Call::Mkdir(s(p), octal(mode)?),
        ["rename", a, b, flags] => Call::Rename(s(a), s(b), flags.parse().ok()?),
        ["link", a, b] => Call::Link(s(a), s(b)),
        ["nameless", d, mode, n, p] => Call::Nameless(s(d), octal(mode)?, n.parse().ok()?, s(p)),
        ["symlink", t, p] => Call::Symlink(s(t), s(p)),
        ["readlink", p] => Call::Readlink(s(p)),
        ["chmod", p, mode] => Call::Chmod(s(p), octal(mode)?),
        ["chown", p, u, g] => Call::Chown(s(p), owner(u)?, owner(g)?),
        ["utimens", p, t] => Call::Utimens(s(p), t.parse().ok()?),
        ["setxattr", p, k, v] => Call::Setxattr(s(p), s(k), s(v)),
        ["getxattr", p, k] => Call::Getxattr(s(p), s(k)),
        ["removexattr", p, k] => Call::Removexattr(s(p), s(k)),
        ["listxattr", p] => Call::Listxattr(s(p)),
        ["mknod", p, mode, dev] => Call::Mknod(s(p), octal(mode)?, dev.parse().ok()?),
        ["readdir", p] => Call::Readdir(s(p)),
        ["stat", p] => Call::Stat(s(p)),
        ["access", p, mode] => Call::Access(s(p), mode.parse().ok()?),
        ["remount"] => Call::Remount,
        ["swap"] => Call::Swap,
        _ => return None,
    })
}

/// Parses what changes or shows content.
fn parse_content(words: &[&str]) -> Option<Call> {
    let s = |w: &&str| (*w).to_owned();
    Some(match words {
        ["open", p, flags, mode] => Call::Open(s(p), s(flags), octal(mode)?),
        ["write", p, at, n, b] => {
            Call::Write(s(p), at.parse().ok()?, n.parse().ok()?, b.parse().ok()?)
        }
        ["append", p, n, b] => Call::Append(s(p), n.parse().ok()?, b.parse().ok()?),
        ["read", p] => Call::Read(s(p)),
        ["truncate", p, n] => Call::Truncate(s(p), n.parse().ok()?),
        ["fallocate", p, mode, at, n] => {
            Call::Fallocate(s(p), mode.parse().ok()?, at.parse().ok()?, n.parse().ok()?)
        }
        ["hold", slot, p] => Call::Hold(slot.parse().ok()?, s(p)),
        ["held-write", slot, at, n, b] => {
            Call::HeldWrite(slot.parse().ok()?, at.parse().ok()?, n.parse().ok()?, b.parse().ok()?)
        }
        ["held-read", slot] => Call::HeldRead(slot.parse().ok()?),
        ["held-truncate", slot, n] => Call::HeldTruncate(slot.parse().ok()?, n.parse().ok()?),
        ["held-stat", slot] => Call::HeldStat(slot.parse().ok()?),
        ["held-chmod", slot, mode] => Call::HeldChmod(slot.parse().ok()?, octal(mode)?),
        ["held-chown", slot, uid] => Call::HeldChown(slot.parse().ok()?, uid.parse().ok()?),
        ["release", slot] => Call::Release(slot.parse().ok()?),
        _ => return None,
    })
}
