//! Inode numbers and link counts, before and after copy-up, rename and remount.

use std::ffi::OsString;
use std::fs::File;

use support::process::shell;
use support::tree::listing_agrees_with_stat;
use support::{Scratch, Union, require};
use sys::xattr;

use crate::files::*;
use crate::subjects::{both, ours};

const LINKS: &str = "f a \"old\"\nh b =a\nh d/c =a";

fn inodes(u: &Union, names: &[&str]) -> Vec<u64> {
    names.iter().map(|n| stat(&u.path(n)).ino).collect()
}

both! {
    fn lower_hard_links_have_one_inode_and_the_right_count(fs) {
        let mut u = Union::on(fs).layer(LINKS).mount();
        for _ in 0..2 {
            let stats = ["b", "d/c", "a"].map(|n| stat(&u.path(n)));
            assert_eq!(stats.map(|s| s.nlink), [3, 3, 3]);
            assert!(stats.iter().all(|s| s.ino == stats[0].ino));
            u.remount();
        }
    }

    fn writes_to_one_name_are_read_by_all(fs) {
        let mut u = Union::on(fs).layer(LINKS).mount();
        let ino = stat(&u.path("a")).ino;
        put(&u.path("a"), "first");
        append(&u.path("b"), " second");
        for _ in 0..2 {
            let read = ["a", "b", "d/c"].map(|n| get(&u.path(n)));
            assert!(read.iter().all(|text| text == "first second"), "{read:?}");
            assert_eq!(["d/c", "a", "b"].map(|n| stat(&u.path(n)).nlink), [3, 3, 3]);
            assert_eq!(inodes(&u, &["a", "b", "d/c"]), [ino, ino, ino]);
            u.remount();
        }
    }

    fn a_new_name_of_a_lower_file_counts(fs) {
        let mut u = Union::on(fs).layer("f a \"x\"").mount();
        let ino = stat(&u.path("a")).ino;
        link(&u.path("a"), &u.path("z"));
        for _ in 0..2 {
            assert_eq!(inodes(&u, &["z", "a"]), [ino, ino]);
            assert_eq!(["a", "z"].map(|n| stat(&u.path(n)).nlink), [2, 2]);
            u.remount();
        }
        unlink(&u.path("a"));
        assert_eq!(stat(&u.path("z")).nlink, 1);
    }

    fn removing_names_counts_down_to_nothing(fs) {
        let mut u = Union::on(fs).layer(LINKS).mount();
        unlink(&u.path("b"));
        assert_eq!(stat(&u.path("a")).nlink, 2);
        put(&u.path("a"), "new");
        u.remount();
        assert_eq!((stat(&u.path("d/c")).nlink, get(&u.path("d/c"))), (2, "new".into()));
        unlink(&u.path("a"));
        assert_eq!((stat(&u.path("d/c")).nlink, get(&u.path("d/c"))), (1, "new".into()));
        u.remount();
        unlink(&u.path("d/c"));
        assert_eq!(list(u.root()), ["d"]);
    }

    fn a_replaced_link_leaves_the_others(fs) {
        let mut u = Union::on(fs).layer(LINKS).mount();
        put(&u.path("n"), "n");
        rename(&u.path("n"), &u.path("a"));
        rename(&u.path("b"), &u.path("e"));
        for _ in 0..2 {
            assert_eq!(["a", "e", "d/c"].map(|n| get(&u.path(n))), ["n", "old", "old"]);
            assert_eq!(["a", "e", "d/c"].map(|n| stat(&u.path(n)).nlink), [1, 2, 2]);
            u.remount();
        }
    }

    fn inode_numbers_survive_copy_up_rename_and_remount(fs) {
        let mut u = Union::on(fs).layer("f f \"x\"\nl s ->f\np p\nd d\nf d/f \"y\"").mount();
        let before = inodes(&u, &["f", "s", "p", "d", "d/f"]);
        append(&u.path("f"), "x");
        chown(&u.path("s"), 1, 1);
        chmod(&u.path("p"), 0o600);
        chmod(&u.path("d"), 0o700);
        append(&u.path("d/f"), "x");
        assert_eq!(inodes(&u, &["f", "s", "p", "d", "d/f"]), before);
        rename(&u.path("f"), &u.path("f2"));
        rename(&u.path("s"), &u.path("d/s"));
        let now = ["f2", "d/s", "p", "d", "d/f"];
        assert_eq!(inodes(&u, &now), before);
        u.remount();
        assert_eq!(inodes(&u, &now), before);
    }

    /// Where attributes of the user have to do, nothing can be noted on these.
    fn inode_numbers_of_symlinks_and_fifos_stay_while_mounted(fs) {
        let u = Union::on(fs).layer("l s ->f\np p\ns k\nd d").mount();
        let before = inodes(&u, &["s", "p", "k"]);
        for name in ["s", "p", "k"] {
            chown(&u.path(name), 1, 1);
            rename(&u.path(name), &u.path(&format!("d/{name}")));
        }
        assert_eq!(inodes(&u, &["d/s", "d/p", "d/k"]), before);
        listing_agrees_with_stat(u.root()).expect("the listings agree");
        chown(&u.path("d/s"), 2, 2);
        unlink(&u.path("d/p"));
        mknod(&u.path("d/p"), libc::S_IFIFO | 0o600, 0).expect("mkfifo");
        assert_eq!(inodes(&u, &["d/s", "d/k"]), [before[0], before[2]]);
    }

    fn listings_have_the_inode_numbers_of_stat(fs) {
        let mut u = Union::on(fs)
            .layer("f a \"1\"\nd d\nf d/x \"1\"\nl l ->a")
            .layer("f b \"2\"\nf d/y \"2\"\nh d/z =b\nf only/here \"2\"\np p")
            .mount();
        for _ in 0..2 {
            listing_agrees_with_stat(u.root()).expect("the listings agree");
            append(&u.path("b"), "x");
            put(&u.path("d/new"), "x");
            chmod(&u.path("only"), 0o711);
            rename(&u.path("d/x"), &u.path("only/x"));
            listing_agrees_with_stat(u.root()).expect("the listings agree");
            u.remount();
            listing_agrees_with_stat(u.root()).expect("the listings agree");
            rename(&u.path("only/x"), &u.path("d/x"));
        }
    }

    fn objects_of_different_layers_have_different_inodes(fs) {
        // On file systems of their own, layers have the same numbers.
        let (one, two) = (Scratch::of_size(1 << 20), Scratch::of_size(1 << 20));
        let layers = "f l/f \"x\"\nf l/g \"x\"";
        support::tree::write(one.path(), layers);
        support::tree::write(two.path(), "f l/h \"x\"\nf l/i \"x\"");
        let mut builder = Union::on(fs).layer("");
        builder = builder.lower_at(&one.path().join("l")).lower_at(&two.path().join("l"));
        let mut u = builder.mount();
        put(&u.path("new"), "x");
        let names = ["f", "g", "h", "i", "new"];
        let found = inodes(&u, &names);
        let mut unique = found.clone();
        unique.sort();
        unique.dedup();
        assert_eq!(unique.len(), names.len(), "{found:?}");
        let devices = names.map(|n| stat(&u.path(n)).dev);
        assert!(devices.iter().all(|d| *d == devices[0]));
        listing_agrees_with_stat(u.root()).expect("the listing agrees");
        u.remount();
        assert_eq!(inodes(&u, &names), found);
    }

    fn du_and_tar_see_hard_links_as_one_file(fs) {
        let u = Union::on(fs).layer(LINKS).mount();
        append(&u.path("b"), "x");
        let listed = shell(u.root(), "tar c . | tar tv | grep -c 'link to' || true");
        assert_eq!(listed.trim(), "2");
    }
}

/// On another disk another file has the number that a copy says it had in the lower.
#[test]
fn files_stay_apart_when_layers_were_moved() {
    require!("files_stay_apart_when_layers_were_moved", ours().usable());
    let mut u = Union::on(&ours()).layer("f a \"aa\"\nf b \"bb\"").mount();
    let other = stat(&u.path("b")).ino.to_le_bytes();
    append(&u.path("a"), " 1");
    append(&u.path("b"), " 2");
    u.unmount();
    for prefix in ["trusted", "user"] {
        let name = |mark: &str| OsString::from(format!("{prefix}.overlay.{mark}"));
        let b = File::open(u.upper("b")).expect("open");
        if let Ok(Some(origin)) = xattr::get(xattr::of(&b), &name("origin")) {
            let a = File::open(u.upper("a")).expect("open");
            xattr::set(xattr::of(&a), &name("origin"), &origin, 0).expect("setxattr");
            xattr::set(xattr::of(&a), &name("number"), &other, 0).expect("setxattr");
        }
    }
    std::fs::remove_file(u.upper("b")).expect("remove");
    for names in [["a", "b"], ["b", "a"]] {
        u.mount();
        let mut read = names.map(|n| get(&u.path(n)));
        read.sort();
        assert_eq!(read, ["aa 1", "bb"], "{names:?}");
        u.unmount();
    }
    u.mount();
    assert_eq!(get(&u.path("a")), "aa 1");
    append(&u.path("b"), " 3");
    u.remount();
    assert_eq!(["b", "a"].map(|n| get(&u.path(n))), ["bb 3", "aa 1"]);
}
