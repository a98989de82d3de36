//! Random cases. Few names and shallow paths, so that operations meet often.

use std::collections::BTreeMap;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use super::case::Case;
use super::op::{Call, Op, Who};

/// Operations before and after the remount, on average.
const HALF: usize = 30;

/// Returns all cases: one to three lower layers, sixty operations, a remount in the middle.
pub(crate) fn case() -> impl Strategy<Value = Case> {
    parts(Call::Remount, 2)
}

/// Returns cases in which the left side is first the left subject, then the right one, and the left
/// one again.
pub(crate) fn swapping_case() -> impl Strategy<Value = Case> {
    parts(Call::Swap, 3)
}

/// Returns cases of so many parts with `between` between them.
fn parts(between: Call, n: usize) -> impl Strategy<Value = Case> {
    let umask = prop_oneof![4 => Just(0o022u32), 1 => Just(0), 1 => Just(0o066)];
    let parts = vec(vec(op(), 0..=2 * HALF), n);
    (vec(vec(object(), 0..16), 1..=3), umask, parts).prop_map(move |(layers, umask, parts)| {
        let between = Op { who: Who::Root, call: between.clone() };
        let mut ops = Vec::new();
        for (n, part) in parts.into_iter().enumerate() {
            ops.extend((n > 0).then(|| between.clone()));
            ops.extend(part);
        }
        Case { layers: consistent(&layers), umask, ops }
    })
}

/// Paths that are meant to be directories: `a` and `b`, up to two deep.
fn dir() -> impl Strategy<Value = String> {
    select(["a", "b", "a/a", "a/b", "b/a"].map(str::to_owned).to_vec())
}

/// Paths that are meant to be anything but directories: `f` and `g`, up to three deep.
fn file() -> impl Strategy<Value = String> {
    let parent = select(vec!["", "a/", "b/", "a/", "b/", "a/a/", "b/a/"]);
    (parent, select(vec!["f", "g"])).prop_map(|(parent, name)| format!("{parent}{name}"))
}

/// Any path; rarely a name that was never meant to be there, or one below a file.
fn path() -> impl Strategy<Value = String> {
    let odd = select(["c", "a/c", "f/a", "a/f/b"].map(str::to_owned).to_vec());
    prop_oneof![8 => file(), 8 => dir(), 1 => odd]
}

/// Mostly a file, or else anything: names change their kind now and then.
fn mostly_file() -> impl Strategy<Value = String> {
    prop_oneof![5 => file(), 1 => path()]
}

/// Mostly a directory.
fn mostly_dir() -> impl Strategy<Value = String> {
    prop_oneof![5 => dir(), 1 => path()]
}

fn mode() -> impl Strategy<Value = u32> {
    prop_oneof![
        6 => select(vec![0o755u32, 0o644, 0o700, 0o600, 0o777, 0o666]),
        2 => select(vec![0o4755u32, 0o2755, 0o2775, 0o6755, 0o1777, 0o2666, 0o4777]),
        1 => select(vec![0o000u32, 0o444, 0o555]),
    ]
}

fn xattr() -> impl Strategy<Value = String> {
    let names = ["user.x", "user.y", "trusted.t", "user.overlay.z", "trusted.overlay.z"];
    select(names.map(str::to_owned).to_vec())
}

/// One object of a lower layer: kind, path, mode, owner, further words.
type Object = (char, String, u32, u32, String);

fn object() -> impl Strategy<Value = Object> {
    let kind = prop_oneof![
        6 => Just('d'), 6 => Just('f'), 2 => Just('l'), 2 => Just('h'),
        1 => Just('p'), 1 => Just('c'), 3 => Just('w'), 2 => Just('o'),
    ];
    let owner = prop_oneof![3 => Just(0u32), 1 => Just(1234), 1 => Just(77)];
    let extra = prop_oneof![
        6 => Just(String::new()),
        1 => xattr_words(),
    ];
    (kind, dir(), file(), mode(), owner, extra).prop_map(|(kind, dir, file, mode, owner, extra)| {
        let path = if matches!(kind, 'd' | 'o') { dir.clone() } else { file };
        // A whiteout may hide a directory as well as a file.
        let path = if kind == 'w' && mode % 2 == 0 { dir } else { path };
        (kind, path, mode, owner, extra)
    })
}

fn xattr_words() -> impl Strategy<Value = String> {
    select(vec!["x:user.x=low".to_owned(), "x:trusted.t=low".to_owned()])
}

/// Leaves out what can't be laid out, and whiteouts where no layer tool makes them: those of nothing
/// in the layer below, and those inside opaque directories.
fn consistent(layers: &[Vec<Object>]) -> Vec<String> {
    let mut below: BTreeMap<String, char> = BTreeMap::new();
    let mut literals = Vec::new();
    for layer in layers.iter().rev() {
        let mut made: BTreeMap<String, char> = BTreeMap::new();
        let mut literal = String::new();
        for object in layer {
            if let Some(line) = line(object, &made, &below) {
                literal.push_str(&line);
                literal.push('\n');
                for parent in parents(&object.1) {
                    made.entry(parent.to_owned()).or_insert('d');
                }
                made.insert(object.1.clone(), object.0);
            }
        }
        literals.push(literal);
        below = made;
    }
    literals.reverse();
    literals
}

fn parents(path: &str) -> impl Iterator<Item = &str> {
    path.match_indices('/').map(|(i, _)| &path[..i])
}

fn line(
    (kind, path, mode, owner, extra): &Object,
    made: &BTreeMap<String, char>,
    below: &BTreeMap<String, char>,
) -> Option<String> {
    let file_above = parents(path).any(|p| made.get(p).is_some_and(|k| !matches!(k, 'd' | 'o')));
    if made.contains_key(path) || file_above {
        return None;
    }
    let opaque_above = parents(path).any(|p| made.get(p) == Some(&'o'));
    let owner = format!("{owner}:{owner}");
    let line = match kind {
        'd' | 'o' => format!("{kind} {path} {mode:o} {owner} {extra}"),
        'f' => format!("f {path} {mode:o} {owner} \"{kind} of {path} {mode}\" {extra}"),
        'l' => format!("l {path} {owner} ->{}", ["a", "b", "b/c", "none"][*mode as usize % 4]),
        'h' => {
            let files = made.iter().filter(|(_, k)| matches!(k, 'f' | 'h'));
            let other = files.map(|(p, _)| p).nth(*mode as usize % 3)?;
            format!("h {path} ={other}")
        }
        'p' => format!("p {path} {mode:o} {owner}"),
        'c' => format!("c {path} {mode:o} {owner} dev=1:3"),
        'w' if below.contains_key(path) && !opaque_above => format!("w {path}"),
        _ => return None,
    };
    Some(line.trim_end().to_owned())
}

fn op() -> impl Strategy<Value = Op> {
    let who = prop_oneof![7 => Just(Who::Root), 1 => Just(Who::User)];
    let call = prop_oneof![8 => names(), 6 => content(), 5 => attributes(), 3 => held()];
    (who, call).prop_map(|(who, call)| match call {
        // The kernel's overlayfs drops the set-group-id bit when somebody who isn't in the group
        // removes an ACL, which no other file system does.
        Call::Removexattr(..) => Op { who: Who::Root, call },
        call => Op { who, call },
    })
}

fn names() -> impl Strategy<Value = Call> {
    let kind = select(vec![libc::S_IFIFO, libc::S_IFCHR, libc::S_IFREG, libc::S_IFSOCK]);
    let target = select(vec!["a", "b", "a/b", "c/d", "none"]).prop_map(str::to_owned);
    let flags = || prop_oneof![8 => Just(0u32), 1 => Just(libc::RENAME_NOREPLACE), 2 => Just(libc::RENAME_EXCHANGE), 1 => Just(libc::RENAME_WHITEOUT)];
    prop_oneof![
        4 => mostly_file().prop_map(Call::Unlink),
        3 => mostly_dir().prop_map(Call::Rmdir),
        5 => (mostly_dir(), mode()).prop_map(|(p, m)| Call::Mkdir(p, m)),
        4 => (mostly_file(), mostly_file(), flags()).prop_map(|(a, b, f)| Call::Rename(a, b, f)),
        4 => (mostly_dir(), mostly_dir(), flags()).prop_map(|(a, b, f)| Call::Rename(a, b, f)),
        4 => (mostly_file(), mostly_file()).prop_map(|(a, b)| Call::Link(a, b)),
        2 => (mostly_dir(), mode(), 0usize..100, mostly_file())
            .prop_map(|(d, m, n, p)| Call::Nameless(d, m, n, p)),
        2 => (target, mostly_file()).prop_map(|(t, p)| Call::Symlink(t, p)),
        1 => (mostly_file(), kind, mode(), 0u64..300)
            .prop_map(|(p, k, m, dev)| Call::Mknod(p, k | m, dev / 2 * 2)),
        2 => mostly_dir().prop_map(Call::Readdir),
        1 => Just(Call::Readdir(".".to_owned())),
        2 => path().prop_map(Call::Stat),
        1 => mostly_file().prop_map(Call::Readlink),
    ]
}

fn content() -> impl Strategy<Value = Call> {
    let flags =
        ["r", "w", "rw", "rc", "wc", "rwc", "wce", "wt", "wct", "wa", "rD", "rN", "rwN", "wctN"];
    let size = || prop_oneof![3 => 0u64..100, 1 => 4000u64..10_000];
    let length = || prop_oneof![3 => 0usize..100, 1 => 4000usize..10_000];
    prop_oneof![
        5 => (mostly_file(), select(flags.map(str::to_owned).to_vec()), mode())
            .prop_map(|(p, f, m)| Call::Open(p, f, m)),
        4 => (mostly_file(), size(), length(), any::<u8>())
            .prop_map(|(p, at, n, b)| Call::Write(p, at, n, b)),
        2 => (mostly_file(), length(), any::<u8>()).prop_map(|(p, n, b)| Call::Append(p, n, b)),
        2 => mostly_file().prop_map(Call::Read),
        // To size 0 of an empty file, the kernel changes no time, unless O_TRUNC asks: FUSE doesn't
        // tell which of both it is.
        2 => (mostly_file(), size()).prop_map(|(p, n)| Call::Truncate(p, n.max(1))),
        // Plain, keep-size, punch-hole.
        1 => (mostly_file(), select(vec![0, 1, 3]), 0i64..5000, 1i64..5000)
            .prop_map(|(p, mode, at, n)| Call::Fallocate(p, mode, at, n)),
    ]
}

fn attributes() -> impl Strategy<Value = Call> {
    let id = || prop_oneof![2 => Just(None), 1 => Just(Some(0u32)), 2 => Just(Some(1234)), 1 => Just(Some(77))];
    let value = select(vec!["one", "two", "long-value-of-some-attribute"]).prop_map(str::to_owned);
    prop_oneof![
        4 => (path(), mode()).prop_map(|(p, m)| Call::Chmod(p, m)),
        3 => (path(), id(), id()).prop_map(|(p, u, g)| Call::Chown(p, u, g)),
        2 => (path(), 1i64..1_500_000_000).prop_map(|(p, t)| Call::Utimens(p, t)),
        3 => (path(), xattr(), value).prop_map(|(p, k, v)| Call::Setxattr(p, k, v)),
        2 => (path(), acl_name(), acl()).prop_map(|(p, k, v)| Call::Setxattr(p, k, v)),
        1 => (path(), acl_name()).prop_map(|(p, k)| Call::Removexattr(p, k)),
        1 => (path(), xattr()).prop_map(|(p, k)| Call::Getxattr(p, k)),
        1 => (path(), xattr()).prop_map(|(p, k)| Call::Removexattr(p, k)),
        1 => path().prop_map(Call::Listxattr),
        1 => (path(), 0u32..8).prop_map(|(p, m)| Call::Access(p, m)),
    ]
}

fn acl_name() -> impl Strategy<Value = String> {
    let names = ["system.posix_acl_access", "system.posix_acl_default"];
    select(names.map(str::to_owned).to_vec())
}

/// Access control lists as the kernel takes them: version 2, then tag, permissions and id each; one
/// that gives a user more than its group, one that says no more than a mode, one that is nonsense.
fn acl() -> impl Strategy<Value = String> {
    let entry = |tag: u16, permissions: u16, id: u32| {
        let bytes =
            [&tag.to_le_bytes()[..], &permissions.to_le_bytes(), &id.to_le_bytes()].concat();
        bytes.iter().map(|b| format!("\\x{b:02x}")).collect::<String>()
    };
    let none = u32::MAX;
    let version = "\\x02\\x00\\x00\\x00".to_owned();
    let (owner, user) = (entry(1, 7, none), entry(2, 7, 1234));
    let (group, mask, other) = (entry(4, 5, none), entry(16, 7, none), entry(32, 0, none));
    select(vec![
        [&*version, &owner, &user, &group, &mask, &other].concat(),
        [&*version, &owner, &group, &other].concat(),
        [&*version, &user].concat(),
    ])
}

fn held() -> impl Strategy<Value = Call> {
    let slot = || 0usize..2;
    prop_oneof![
        4 => (slot(), mostly_file()).prop_map(|(s, p)| Call::Hold(s, p)),
        2 => (slot(), 0u64..100, 0usize..100, any::<u8>())
            .prop_map(|(s, at, n, b)| Call::HeldWrite(s, at, n, b)),
        1 => slot().prop_map(Call::HeldRead),
        1 => (slot(), 0u64..100).prop_map(|(s, n)| Call::HeldTruncate(s, n)),
        2 => slot().prop_map(Call::HeldStat),
        1 => (slot(), mode()).prop_map(|(s, m)| Call::HeldChmod(s, m)),
        1 => (slot(), 0u32..3).prop_map(|(s, u)| Call::HeldChown(s, u)),
        1 => slot().prop_map(Call::Release),
    ]
}
