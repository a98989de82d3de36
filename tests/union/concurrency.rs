//! Many at once: racing copy-ups, creations, removals, renames and listings.

use std::collections::BTreeSet;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use nix::errno::Errno;
use support::Union;
use support::process::shell;

use crate::files::*;
use crate::subjects::both;

const THREADS: usize = 8;

/// Runs `f` in several threads that start together.
fn at_once(f: impl Fn(usize) + Sync) {
    let barrier = Barrier::new(THREADS);
    std::thread::scope(|scope| {
        for n in 0..THREADS {
            let (f, barrier) = (&f, &barrier);
            scope.spawn(move || {
                barrier.wait();
                f(n);
            });
        }
    });
}

both! {
    fn racing_copy_ups_lose_no_write(fs) {
        let lower: String = (0..50).map(|i| format!("f d{i}/e/f \"start\"\n")).collect();
        let u = Union::on(fs).layer(&lower).mount();
        for i in 0..50 {
            at_once(|n| append(&u.path(&format!("d{i}/e/f")), &format!(" {n}")));
            let text = get(&u.path(&format!("d{i}/e/f")));
            let words: BTreeSet<_> = text.split(' ').collect();
            assert_eq!(words.len(), THREADS + 1, "{text}");
        }
    }

    fn racing_copy_ups_of_hard_links_stay_one_file(fs) {
        let links: String = (1..THREADS).map(|n| format!("h n{n} =n0\n")).collect();
        for _ in 0..20 {
            let u = Union::on(fs).layer(&format!("f n0 \"start\"\n{links}")).mount();
            at_once(|n| append(&u.path(&format!("n{n}")), &format!(" {n}")));
            let text = get(&u.path("n0"));
            let words: BTreeSet<_> = text.split(' ').collect();
            assert_eq!(words.len(), THREADS + 1, "{text}");
            assert_eq!(stat(&u.path("n3")).nlink as usize, THREADS);
        }
    }

    fn one_of_many_makes_a_name(fs) {
        let u = Union::on(fs).layer("f gone \"x\"").mount();
        for round in 0..50 {
            let won = AtomicUsize::new(0);
            let name = u.path(&format!("n{round}"));
            at_once(|n| {
                let made = match n % 2 {
                    0 => try_open(&name, libc::O_CREAT | libc::O_EXCL | libc::O_WRONLY).map(drop),
                    _ => sys::name::mkdir(nix::fcntl::AT_FDCWD, name.as_os_str(), 0o755),
                };
                match made {
                    Ok(()) => { won.fetch_add(1, Ordering::Relaxed); }
                    Err(e) => assert_eq!(e, Errno::EEXIST),
                }
            });
            assert_eq!(won.load(Ordering::Relaxed), 1);
        }
    }

    fn one_of_many_removes_a_name(fs) {
        let lower: String = (0..50).map(|i| format!("f f{i} \"x\"\n")).collect();
        let u = Union::on(fs).layer(&lower).mount();
        for i in 0..50 {
            let won = AtomicUsize::new(0);
            let name = u.path(&format!("f{i}"));
            at_once(|_| match sys::name::unlink(nix::fcntl::AT_FDCWD, name.as_os_str()) {
                Ok(()) => { won.fetch_add(1, Ordering::Relaxed); }
                Err(e) => assert_eq!(e, Errno::ENOENT),
            });
            assert_eq!(won.load(Ordering::Relaxed), 1);
        }
        assert_eq!(list(u.root()), [""; 0]);
    }

    fn threads_in_directories_of_their_own_do_not_disturb(fs) {
        let lower: String = (0..THREADS).map(|n| format!("f t{n}/low/f \"x\"\nd t{n}/e\n")).collect();
        let mut u = Union::on(fs).layer(&lower).mount();
        at_once(|n| {
            let dir = u.path(&format!("t{n}"));
            for i in 0..100 {
                put(&dir.join(format!("f{i}")), &format!("{n} {i}"));
                rename(&dir.join(format!("f{i}")), &dir.join(format!("e/g{i}")));
                mkdir(&dir.join(format!("d{i}")));
                link(&dir.join(format!("e/g{i}")), &dir.join(format!("d{i}/l")));
                if i % 3 == 0 {
                    unlink(&dir.join(format!("d{i}/l")));
                    rmdir(&dir.join(format!("d{i}")));
                }
            }
            append(&dir.join("low/f"), "y");
        });
        u.remount();
        for n in 0..THREADS {
            let dir = u.path(&format!("t{n}"));
            assert_eq!((list(&dir).len(), list(&dir.join("e")).len()), (2 + 66, 100));
            assert_eq!((get(&dir.join("e/g7")), get(&dir.join("low/f"))), (format!("{n} 7"), "xy".into()));
        }
    }

    fn a_file_renamed_to_and_fro_is_always_there_once(fs) {
        let u = Union::on(fs).layer("f d/a \"x\"\nf d/other \"o\"").mount();
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for _ in 0..500 {
                    rename(&u.path("d/a"), &u.path("d/b"));
                    rename(&u.path("d/b"), &u.path("d/a"));
                }
                stop.store(true, Ordering::Release);
            });
            while !stop.load(Ordering::Acquire) {
                let names = list(&u.path("d"));
                assert!(names.contains(&"other".to_owned()), "{names:?}");
                let found = ["a", "b"].iter().filter(|n| !is_gone(&u.path("d").join(n))).count();
                assert!(found <= 2, "looked at while it moves");
            }
        });
        assert_eq!(list(&u.path("d")), ["a", "other"]);
    }

    fn renames_across_each_other_do_not_dead_lock(fs) {
        let u = Union::on(fs).layer("f a/f \"x\"\nf b/f \"x\"").mount();
        shell(u.root(), "mkdir n m n/x m/y");
        at_once(|n| {
            for i in 0..100 {
                let (from, to) = if n % 2 == 0 { ("n", "m") } else { ("m", "n") };
                let file = u.path(&format!("{from}/t{n}-{i}"));
                put(&file, "x");
                rename(&file, &u.path(&format!("{to}/t{n}-{i}")));
                let moved = try_rename(&u.path(&format!("{from}/x")), &u.path(&format!("{to}/x")), 0);
                assert!(matches!(moved, Ok(()) | Err(Errno::ENOENT)), "{moved:?}");
            }
        });
        let names = list(&u.path("n")).len() + list(&u.path("m")).len();
        assert_eq!(names, THREADS * 100 + 2);
    }

    fn a_tree_walked_while_it_is_removed_shows_no_errors_but_enoent(fs) {
        let lower: String = (0..200).map(|i| format!("f t/d{}/f{i} \"x\"\n", i % 10)).collect();
        let u = Union::on(fs).layer(&lower).mount();
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                shell(u.root(), "rm -r t");
                stop.store(true, Ordering::Release);
            });
            while !stop.load(Ordering::Acquire) {
                for i in 0..200 {
                    let seen = try_stat(&u.path(&format!("t/d{}/f{i}", i % 10)));
                    assert!(matches!(seen, Ok(_) | Err(Errno::ENOENT)), "{seen:?}");
                }
            }
        });
        assert_eq!(list(u.root()), [""; 0]);
    }
}
