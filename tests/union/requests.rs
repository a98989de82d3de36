//! How many messages an operation costs, counted by the kernel: what needs none, and the most that
//! others may need.

use std::io::Read;
use std::os::unix::fs::FileExt;

use support::requests::{Counter, Messages, summary};
use support::{Union, require};

use crate::files::*;
use crate::subjects::only_ours;

/// Counts the messages of `action` when it is done for the third time: reading changes the access
/// time, which the second time asks for.
fn warm(counter: &Counter, action: impl Fn()) -> Messages {
    action();
    action();
    counter.count(&action)
}

#[track_caller]
fn none(what: &str, messages: &Messages) {
    assert!(messages.is_empty(), "{what} takes {}", summary(messages));
}

/// Asserts that there are no other messages than these, and not more of each.
#[track_caller]
fn at_most(what: &str, messages: &Messages, limits: &[(&str, u64)]) {
    for (name, n) in messages {
        let limit = limits.iter().find(|(l, _)| l == name).map_or(0, |(_, n)| *n);
        assert!(*n <= limit, "{what} takes {}, more than {limits:?}", summary(messages));
    }
}

only_ours! {
    /// The kernel sends itself no messages.
    fn what_is_known_is_not_asked_again(fs) {
        let u = Union::on(fs).layer("f d/f \"content\"\nl d/s ->f").layer("f d/g \"g\"").mount();
        let counter = Counter::new(u.root());
        support::require!("what_is_known_is_not_asked_again", counter.as_ref().map(drop).map_err(Clone::clone));
        let counter = counter.expect("checked above");
        let _caches = hold_caches(false);
        let file = u.path("d/f");
        none("another stat", &warm(&counter, || assert!(stat(&file).is_file())));
        none("another open, read and close", &warm(&counter, || {
            let mut text = String::new();
            open(&file, libc::O_RDONLY).read_to_string(&mut text).expect("read");
            assert_eq!(text, "content");
        }));
        none("another look for what isn't there", &warm(&counter, || assert!(is_gone(&u.path("d/none")))));
        none("another listing", &warm(&counter, || assert_eq!(list(&u.path("d")).len(), 3)));
        none("another readlink", &warm(&counter, || {
            std::fs::read_link(u.path("d/s")).expect("readlink");
        }));
    }

    /// The kernel sends itself no messages.
    fn what_a_listing_shows_is_not_looked_up(fs) {
        let names: Vec<_> = (0..1000).map(|n| format!("file-{n:04}")).collect();
        let layer: String = names.iter().map(|n| format!("f d/{n} \"x\"\n")).collect();
        let u = Union::on(fs).layer(&layer).mount();
        let counter = Counter::new(u.root());
        support::require!("what_a_listing_shows_is_not_looked_up", counter.as_ref().map(drop).map_err(Clone::clone));
        let counter = counter.expect("checked above");
        let _caches = hold_caches(false);
        let walked = counter.count(|| {
            assert_eq!(list(&u.path("d")), names);
            for name in &names {
                nix::sys::stat::lstat(&u.path("d").join(name)).expect("lstat");
            }
        });
        at_most("a walk", &walked, &[("LOOKUP", 1), ("GETATTR", 1), ("OPENDIR", 1), ("READDIRPLUS", 12)]);
    }

    /// The kernel sends itself no messages.
    fn new_things_cost_few_messages(fs) {
        let u = Union::on(fs).layer("d d\nf d/low \"x\"").mount();
        let counter = Counter::new(u.root());
        support::require!("new_things_cost_few_messages", counter.as_ref().map(drop).map_err(Clone::clone));
        let counter = counter.expect("checked above");
        let _caches = hold_caches(false);
        put(&u.path("d/warm"), "x");
        let created = counter.count(|| put(&u.path("d/new"), "x"));
        at_most("create, write and close", &created, &[
            ("LOOKUP", 1), ("MKNOD", 1), ("GETATTR", 1), ("GETXATTR", 1), ("WRITE", 1),
        ]);
        let file = open(&u.path("d/new"), libc::O_WRONLY);
        file.write_all_at(b"a", 1).expect("write");
        let written = counter.count(|| (2..102).for_each(|at| file.write_all_at(b"b", at).expect("write")));
        at_most("a hundred writes", &written, &[("WRITE", 100)]);
        drop(file);
        let made = counter.count(|| mkdir(&u.path("d/dir")));
        at_most("mkdir", &made, &[("LOOKUP", 1), ("MKDIR", 1), ("GETATTR", 1)]);
        let removed = counter.count(|| unlink(&u.path("d/new")));
        at_most("unlink", &removed, &[("UNLINK", 1), ("GETATTR", 1)]);
        let moved = counter.count(|| rename(&u.path("d/warm"), &u.path("d/other")));
        at_most("rename", &moved, &[("LOOKUP", 1), ("RENAME", 1), ("RENAME2", 1), ("GETATTR", 1)]);
        let changed = counter.count(|| chmod(&u.path("d/low"), 0o600));
        at_most("chmod", &changed, &[("LOOKUP", 1), ("SETATTR", 1), ("GETATTR", 1)]);
    }
}

/// Not even for `security.capability`, about which the kernel asks before the first write to a file.
#[test]
fn without_attributes_nobody_asks_for_them() {
    let name = "without_attributes_nobody_asks_for_them";
    require!(name, crate::subjects::ours().usable());
    let u = Union::on(&crate::subjects::ours()).layer("f low \"x\" x:user.a=b");
    let u = u.option("noxattrs=1").mount();
    let error = set_xattr(&u.path("low"), "user.c", b"d");
    assert_eq!(error, Err(nix::errno::Errno::EOPNOTSUPP));
    assert_eq!(xattrs(&u.path("low")), [""; 0]);
    put(&u.path("warm"), "x");
    let counter = Counter::new(u.root());
    require!(name, counter.as_ref().map(drop).map_err(Clone::clone));
    let counter = counter.expect("checked above");
    let _caches = hold_caches(false);
    let created = counter.count(|| put(&u.path("new"), "x"));
    let most = [("LOOKUP", 1), ("MKNOD", 1), ("GETATTR", 1), ("WRITE", 1)];
    at_most("create, write and close", &created, &most);
}
