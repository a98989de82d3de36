//! Listing directories: large, changing, deep; and removing whole trees.

use std::collections::BTreeSet;
use std::os::fd::AsFd;

use support::Union;
use support::process::shell;

use crate::files::*;
use crate::subjects::both;

/// Names per source of a large directory.
const MANY: usize = 3000;

/// Returns a literal with `n` empty files in `d`.
fn files(prefix: &str, n: usize) -> String {
    (0..n).map(|i| format!("f d/{prefix}{i:05} \"\"\n")).collect()
}

both! {
    fn a_large_merged_directory_lists_each_name_once(fs) {
        let mut u = Union::on(fs)
            .layer(&files("both", MANY))
            .layer(&(files("both", MANY) + &files("low", MANY)))
            .mount();
        for i in 0..MANY {
            put(&u.path(&format!("d/up{i:05}")), "");
        }
        for i in (0..MANY).step_by(2) {
            unlink(&u.path(&format!("d/low{i:05}")));
        }
        for _ in 0..2 {
            let names = list(&u.path("d"));
            let unique: BTreeSet<_> = names.iter().collect();
            assert_eq!((names.len(), unique.len()), (2 * MANY + MANY / 2, 2 * MANY + MANY / 2));
            u.remount();
        }
    }

    fn a_directory_read_while_it_is_emptied_ends_up_empty(fs) {
        let u = Union::on(fs).layer(&files("low", MANY)).mount();
        for i in 0..MANY {
            put(&u.path(&format!("d/up{i:05}")), "");
        }
        let dir = open(&u.path("d"), libc::O_RDONLY);
        let mut listed = BTreeSet::new();
        sys::getdents::for_each(&dir, |e| {
            assert!(listed.insert(e.name.to_owned()), "{:?} is listed once", e.name);
            sys::name::unlink(dir.as_fd(), e.name)
        })
        .expect("list and remove");
        assert_eq!(listed.len(), 2 * MANY);
        drop(dir);
        assert_eq!(list(&u.path("d")), [""; 0]);
        rmdir(&u.path("d"));
    }

    fn names_made_while_listing_disturb_no_others(fs) {
        let u = Union::on(fs).layer(&files("low", MANY)).mount();
        let dir = open(&u.path("d"), libc::O_RDONLY);
        let mut listed = BTreeSet::new();
        let mut made = 0;
        sys::getdents::for_each(&dir, |e| {
            let name = e.name.to_string_lossy().into_owned();
            if name.starts_with("low") {
                assert!(listed.insert(name), "{:?} is listed once", e.name);
                if made < 500 {
                    put(&u.path(&format!("d/new{made}")), "");
                    made += 1;
                }
            }
            Ok(())
        })
        .expect("list and make");
        assert_eq!(listed.len(), MANY);
        drop(dir);
        assert_eq!(list(&u.path("d")).len(), MANY + 500);
    }

    fn rewinding_shows_what_changed(fs) {
        let u = Union::on(fs).layer("f d/low \"\"").mount();
        let dir = open(&u.path("d"), libc::O_RDONLY);
        let look = || {
            let mut names = BTreeSet::new();
            // Starts with a seek to 0.
            sys::getdents::for_each(&dir, |e| { names.insert(e.name.to_owned()); Ok(()) })
                .expect("list");
            names
        };
        assert_eq!(look().len(), 1);
        put(&u.path("d/new"), "");
        assert_eq!(look().len(), 2);
        unlink(&u.path("d/low"));
        assert_eq!(look().len(), 1);
    }

    fn dot_and_dot_dot_are_listed(fs) {
        let u = Union::on(fs).layer("f d/f \"\"").layer("f d/g \"\"").mount();
        assert_eq!(shell(&u.path("d"), "ls -a").split_whitespace().collect::<Vec<_>>(), [".", "..", "f", "g"]);
        assert_eq!(stat(&u.path("d/..")).ino, stat(u.root()).ino);
    }

    fn a_deep_tree_is_made_moved_and_removed(fs) {
        let deep = "x/".repeat(100);
        let mut u = Union::on(fs).layer(&format!("f low/{deep}f \"deep\"")).mount();
        assert_eq!(get(&u.path(&format!("low/{deep}f"))), "deep");
        append(&u.path(&format!("low/{deep}f")), "er");
        shell(u.root(), &format!("mkdir -p new/{deep}; mv low/{deep}f new/{deep}; rm -r low"));
        u.remount();
        assert_eq!(get(&u.path(&format!("new/{deep}f"))), "deeper");
        shell(u.root(), "rm -r new");
        assert_eq!(list(u.root()), [""; 0]);
    }

    fn rm_r_removes_everything_after_a_storm(fs) {
        let lower: String = (0..40)
            .map(|i| format!("f t/d{}/e{}/f{i} \"{i}\"\nd t/d{}/g{i}\n", i % 4, i % 3, i % 5))
            .collect();
        let mut u = Union::on(fs).layer(&lower).layer(&lower.replace("/f", "/low")).mount();
        shell(
            u.root(),
            "cd t; for d in d*; do touch $d/new; mkdir $d/sub; mv $d/new $d/sub/; done
             find . -name 'f1*' -delete; rm -r d1; mkdir d1; mv d1 d0/e0/; cp -a d2 d2copy
             for f in $(find . -name 'f2*'); do mv $f $f.moved; echo x > $f; ln $f $f.link; done
             find . -type d -name 'g*' -exec rmdir {} +; mkdir -p d3/g3/h; chmod -R g+w .",
        );
        u.remount();
        shell(u.root(), "rm -r t");
        assert_eq!(list(u.root()), [""; 0]);
        mkdir(&u.path("t"));
        assert_eq!(list(&u.path("t")), [""; 0]);
        u.remount();
        assert_eq!(list(&u.path("t")), [""; 0]);
    }

    fn listing_takes_no_more_than_a_seek_to_go_on(fs) {
        use nix::unistd::{Whence, lseek};
        let u = Union::on(fs).layer(&files("low", 500)).layer(&files("low2", 500)).mount();
        // Small reads through the C library, with telldir and seekdir between them.
        let said = shell(&u.path("d"), "ls -U | sort | uniq -c | awk '$1 != 1' | wc -l; ls -U | wc -l");
        assert_eq!(said.split_whitespace().collect::<Vec<_>>(), ["0", "1000"]);
        let dir = open(&u.path("d"), libc::O_RDONLY);
        let first = count(&dir);
        assert_eq!(lseek(&dir, 0, Whence::SeekSet), Ok(0));
        assert_eq!((first, count(&dir)), (1000, 1000));
    }
}

fn count(dir: &std::fs::File) -> usize {
    let mut n = 0;
    sys::getdents::for_each(dir, |_| {
        n += 1;
        Ok(())
    })
    .expect("list");
    n
}
