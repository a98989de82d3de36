//! The daemon is killed, or a system call of its fails, at every step of an operation: afterwards
//! all is as before or all is done, and the next attempt succeeds.

use std::path::Path;

use nix::errno::Errno;
use nix::mount::{MntFlags, umount2};
use support::privilege::installed;
use support::tree::{Show, Tree};
use support::{Scratch, Union, require};

use crate::files::*;
use crate::subjects::ours;
use crate::tracer::Tracer;

const LOWER: &str = r#"
    f a 4755 3:4 "content" x:user.n=v
    f b "b"
    h b2 =b
    f d/f "f"
    f d/g size=70000
    d e 2775 5:6
    l s ->a
"#;

/// Calls by which the backing store is changed.
const CALLS: [&str; 18] = [
    "openat",
    "openat2",
    "mkdirat",
    "mknodat",
    "symlinkat",
    "linkat",
    "unlinkat",
    "renameat2",
    "fchownat",
    "chmod",
    "utimensat",
    "setxattr",
    "lsetxattr",
    "fsetxattr",
    "fsync",
    "copy_file_range",
    "pwrite64",
    "ftruncate",
];

/// One operation, which may fail.
type Operation = fn(&Union) -> Result<(), Errno>;

fn append_to(path: &Path) -> Result<(), Errno> {
    let file = std::fs::File::from(try_open(path, libc::O_WRONLY | libc::O_APPEND)?);
    std::io::Write::write_all(&mut &file, b" more").map_err(errno)
}

fn unlink_at(path: &Path) -> Result<(), Errno> {
    sys::name::unlink(nix::fcntl::AT_FDCWD, path.as_os_str())
}

fn link_at(from: &Path, to: &Path) -> Result<(), Errno> {
    let here = nix::fcntl::AT_FDCWD;
    sys::name::link(here, from.as_os_str(), here, to.as_os_str())
}

const OPERATIONS: [(&str, Operation); 9] = [
    ("append", |u| append_to(&u.path("a"))),
    ("append to a file in a lower directory", |u| append_to(&u.path("d/g"))),
    ("append to a hard link", |u| append_to(&u.path("b2"))),
    ("chmod", |u| try_chmod(&u.path("a"), 0o600)),
    ("rename", |u| try_rename(&u.path("a"), &u.path("d/f"), 0)),
    ("exchange", |u| try_rename(&u.path("a"), &u.path("d/f"), libc::RENAME_EXCHANGE)),
    ("unlink", |u| unlink_at(&u.path("d/f"))),
    ("unlink of a hard link", |u| unlink_at(&u.path("b"))),
    ("link", |u| link_at(&u.path("a"), &u.path("e/new"))),
];

fn look(u: &Union) -> String {
    Tree::read(u.root()).text(&Show::default())
}

/// Does an operation on an undisturbed union; returns the tree before and after.
fn undisturbed(operation: Operation) -> (String, String) {
    let u = Union::within(&ours(), Scratch::in_memory()).layer(LOWER).mount();
    let before = look(&u);
    assert_eq!(operation(&u), Ok(()));
    (before, look(&u))
}

/// Whether the call was reached, and so may be reached once more.
fn kill_at(
    name: &str,
    operation: Operation,
    call: &str,
    n: usize,
    trees: &(String, String),
) -> bool {
    let mut u = Union::within(&ours(), Scratch::in_memory()).layer(LOWER).mount();
    let daemon = u.mounted().daemon().expect("a daemon");
    let tracer = Tracer::inject(daemon, call, "signal=KILL", n);
    let result = operation(&u);
    drop(tracer);
    let died = !matches!(result, Ok(()));
    let mounted = u.take_mount();
    if died {
        assert!(umount2(u.root(), MntFlags::MNT_DETACH).is_ok(), "unmount the dead mount");
        mounted.ended();
    } else {
        mounted.unmount();
    }
    u.mount();
    let found = look(&u);
    let where_ = format!("{name}: killed at {call} {n}");
    assert!(
        found == trees.0 || found == trees.1,
        "{where_}, neither before nor after:\n{}",
        support::tree::difference(&trees.0, &found)
    );
    if found == trees.0 {
        assert_eq!(operation(&u), Ok(()), "{where_}: the next attempt");
        support::tree::assert_same(&where_, &trees.1, &look(&u));
    }
    u.unmount();
    assert_eq!(list(&u.work("work")), [""; 0], "{where_}: leftovers");
    died
}

/// Whether the call was reached and its failure was the operation's.
fn fail_at(
    name: &str,
    operation: Operation,
    call: &str,
    n: usize,
    trees: &(String, String),
) -> bool {
    let mut u = Union::within(&ours(), Scratch::in_memory()).layer(LOWER).mount();
    let daemon = u.mounted().daemon().expect("a daemon");
    let tracer = Tracer::inject(daemon, call, "error=EIO", n);
    let result = operation(&u);
    drop(tracer);
    let where_ = format!("{name}: EIO from {call} {n}, result {result:?}");
    let live = look(&u);
    let expected = if result.is_ok() { &trees.1 } else { &trees.0 };
    support::tree::assert_same(&where_, expected, &live);
    u.remount();
    support::tree::assert_same(&format!("{where_}, after a remount"), &live, &look(&u));
    u.unmount();
    assert_eq!(list(&u.work("work")), [""; 0], "{where_}: leftovers");
    result.is_err()
}

fn everywhere(disturb: fn(&str, Operation, &str, usize, &(String, String)) -> bool) {
    let reached = std::sync::atomic::AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for (name, operation) in OPERATIONS {
            let reached = &reached;
            scope.spawn(move || {
                let trees = undisturbed(operation);
                for call in CALLS {
                    let hits = (1..).take_while(|n| disturb(name, operation, call, *n, &trees));
                    reached.fetch_add(hits.count(), std::sync::atomic::Ordering::Relaxed);
                }
            });
        }
    });
    let reached = reached.into_inner();
    assert!(reached > 20, "only {reached} steps were disturbed");
}

#[test]
fn a_kill_at_any_step_leaves_before_or_after() {
    require!("a_kill_at_any_step_leaves_before_or_after", ours().usable(), installed("strace"));
    everywhere(kill_at);
}

#[test]
fn an_error_at_any_step_undoes_everything() {
    require!("an_error_at_any_step_undoes_everything", ours().usable(), installed("strace"));
    everywhere(fail_at);
}
