//! Every cell of the rename table.

use nix::errno::Errno;
use support::process::shell;
use support::subject::KernelFeatures;
use support::{Subject, Union, require};

use crate::files::*;
use crate::subjects::both;

const TREE: &str = r#"
    f a "a"
    f b "b"
    f d/f "f"
    d d/e
    f d/e/g "g"
    d empty
"#;

both! {
    fn a_lower_file_moves(fs) {
        let mut u = Union::on(fs).layer("f a 0640 3:4 \"a\" x:user.n=v\nd d").mount();
        let ino = stat(&u.path("a")).ino;
        rename(&u.path("a"), &u.path("d/z"));
        assert_eq!(stat(&u.path("d/z")).ino, ino, "the inode number goes with the file");
        let expected = "d d\nf d/z 0640 3:4 \"a\" x:user.n=v";
        u.assert_tree("", expected);
        u.remount();
        u.assert_tree("", expected);
    }

    fn a_lower_file_replaces_another(fs) {
        let mut u = Union::on(fs).layer(TREE).mount();
        rename(&u.path("a"), &u.path("b"));
        rename(&u.path("b"), &u.path("d/f"));
        u.remount();
        u.assert_tree("", "f d/f \"a\"\nd d/e\nf d/e/g \"g\"\nd empty");
    }

    fn a_directory_with_a_lower_part_gives_exdev(fs) {
        let u = Union::on(fs).layer(TREE).mount();
        assert_eq!(try_rename(&u.path("d"), &u.path("z"), 0), Err(Errno::EXDEV));
        assert_eq!(try_rename(&u.path("empty"), &u.path("z"), 0), Err(Errno::EXDEV));
        put(&u.path("d/new"), "n");
        assert_eq!(try_rename(&u.path("d"), &u.path("z"), 0), Err(Errno::EXDEV));
        let exchange = libc::RENAME_EXCHANGE;
        assert_eq!(try_rename(&u.path("d"), &u.path("empty"), exchange), Err(Errno::EXDEV));
        assert_eq!(try_rename(&u.path("d"), &u.path("a"), exchange), Err(Errno::EXDEV));
        assert!(is_gone(&u.path("z")));
    }

    fn mv_of_a_lower_directory_ends_right(fs) {
        let mut u = Union::on(fs).layer(TREE).mount();
        shell(u.root(), "mv d z");
        let expected = "f a \"a\"\nf b \"b\"\nd empty\nf z/f \"f\"\nd z/e\nf z/e/g \"g\"";
        u.assert_tree("", expected);
        u.remount();
        u.assert_tree("", expected);
    }

    fn a_new_directory_moves_with_all_below(fs) {
        let mut u = Union::on(fs).layer(TREE).mount();
        shell(u.root(), "mkdir -p n/m; echo 1 > n/m/f");
        let inside = open(&u.path("n/m/f"), libc::O_RDONLY);
        rename(&u.path("n"), &u.path("d/n"));
        assert_eq!(get(&u.path("d/n/m/f")), "1\n");
        assert_eq!(sys::stat::stat_fd(&inside).expect("fstat").ino, stat(&u.path("d/n/m/f")).ino);
        drop(inside);
        u.remount();
        assert_eq!(get(&u.path("d/n/m/f")), "1\n");
    }

    fn a_directory_replaces_only_an_empty_one(fs) {
        let mut u = Union::on(fs).layer(TREE).mount();
        mkdir(&u.path("n"));
        put(&u.path("n/f"), "n");
        assert_eq!(try_rename(&u.path("n"), &u.path("d"), 0), Err(Errno::ENOTEMPTY));
        assert_eq!(try_rename(&u.path("n"), &u.path("a"), 0), Err(Errno::ENOTDIR));
        assert_eq!(try_rename(&u.path("a"), &u.path("n"), 0), Err(Errno::EISDIR));
        rename(&u.path("n"), &u.path("empty"));
        assert_eq!(list(&u.path("empty")), ["f"]);
        u.remount();
        assert_eq!(list(&u.path("empty")), ["f"]);
    }

    fn a_directory_does_not_move_below_itself(fs) {
        let u = Union::on(fs).layer("").mount();
        shell(u.root(), "mkdir -p n/m");
        assert_eq!(try_rename(&u.path("n"), &u.path("n/m/x"), 0), Err(Errno::EINVAL));
    }

    fn two_lower_files_are_exchanged(fs) {
        let mut u = Union::on(fs).layer(TREE).mount();
        let inos = [stat(&u.path("a")).ino, stat(&u.path("d/f")).ino];
        let done = try_rename(&u.path("a"), &u.path("d/f"), libc::RENAME_EXCHANGE);
        assert_eq!(done, Ok(()));
        assert_eq!([stat(&u.path("d/f")).ino, stat(&u.path("a")).ino], inos);
        u.remount();
        assert_eq!((get(&u.path("a")), get(&u.path("d/f"))), ("f".into(), "a".into()));
    }

    fn a_file_and_a_new_directory_are_exchanged(fs) {
        let mut u = Union::on(fs).layer(TREE).mount();
        mkdir(&u.path("n"));
        put(&u.path("n/f"), "n");
        assert_eq!(try_rename(&u.path("a"), &u.path("n"), libc::RENAME_EXCHANGE), Ok(()));
        u.remount();
        assert_eq!((get(&u.path("n")), get(&u.path("a/f"))), ("a".into(), "n".into()));
    }

    fn an_exchange_with_nothing_gives_enoent(fs) {
        let u = Union::on(fs).layer(TREE).mount();
        let exchange = libc::RENAME_EXCHANGE;
        assert_eq!(try_rename(&u.path("a"), &u.path("z"), exchange), Err(Errno::ENOENT));
        unlink(&u.path("b"));
        assert_eq!(try_rename(&u.path("a"), &u.path("b"), exchange), Err(Errno::ENOENT));
    }

    fn noreplace_replaces_nothing_but_takes_a_deleted_name(fs) {
        let mut u = Union::on(fs).layer(TREE).mount();
        let noreplace = libc::RENAME_NOREPLACE;
        assert_eq!(try_rename(&u.path("a"), &u.path("b"), noreplace), Err(Errno::EEXIST));
        unlink(&u.path("b"));
        assert_eq!(try_rename(&u.path("a"), &u.path("b"), noreplace), Ok(()));
        u.remount();
        assert_eq!(get(&u.path("b")), "a");
        assert!(is_gone(&u.path("a")));
    }

    fn a_rename_onto_a_hard_link_of_itself_does_nothing(fs) {
        let u = Union::on(fs).layer("f a \"a\"\nh b =a").mount();
        rename(&u.path("a"), &u.path("b"));
        assert_eq!(list(u.root()), ["a", "b"]);
    }

    fn a_symlink_and_a_fifo_move(fs) {
        let mut u = Union::on(fs).layer("l s ->to 1:2\np p 0600 3:4").mount();
        rename(&u.path("s"), &u.path("s2"));
        rename(&u.path("p"), &u.path("p2"));
        u.remount();
        u.assert_tree("", "l s2 ->to 1:2\np p2 0600 3:4");
    }

    fn parents_get_new_times_and_the_file_keeps_its_own(fs) {
        let u = Union::on(fs).layer(TREE).mount();
        rename(&u.path("d/f"), &u.path("empty/f"));
        let old = support::tree::OLD;
        assert_eq!(stat(&u.path("empty/f")).mtime.sec, old);
        assert!(stat(&u.path("d")).mtime.sec > old && stat(&u.path("empty")).mtime.sec > old);
    }
}

/// Renames lower directories in several ways, and looks before and after a remount.
fn directories_move(builder: support::union::Builder) {
    let lower = "f d/e/h \"h\"\nf x/y/z \"z\"";
    let mut u = builder.layer(TREE).layer(lower).mount();
    shell(u.root(), "mv -T d z; mv -T z/e z/e2; mv -T x/y y; echo new > z/e2/new; rm z/e2/g");
    assert_eq!(try_rename(&u.path("z"), &u.path("y"), libc::RENAME_EXCHANGE), Ok(()));
    let expected = "f a \"a\"\nf b \"b\"\nd empty\nd x\nf z/z \"z\"\n\
                    f y/f \"f\"\nf y/e2/h \"h\"\nf y/e2/new \"new\\x0a\"";
    u.assert_tree("", expected);
    assert!(!is_gone(&u.upper("y")) && is_gone(&u.upper("y/f")), "moved, not copied");
    u.remount();
    u.assert_tree("", expected);
    // What the redirects mean is not a matter of who wrote them.
    u.swap(&Subject::Kernel(KernelFeatures::All));
    u.assert_tree("", expected);
}

#[test]
fn with_redirects_the_kernel_moves_lower_directories() {
    let fs = Subject::Kernel(KernelFeatures::All);
    require!("with_redirects_the_kernel_moves_lower_directories", fs.usable());
    directories_move(Union::on(&fs));
}

#[test]
fn with_redirects_we_move_lower_directories() {
    let fs = crate::subjects::ours();
    require!("with_redirects_we_move_lower_directories", fs.usable());
    directories_move(Union::on(&fs).option("redirect_dir=on"));
}

/// One of two exchanged names is a directory in which the other object has another name.
fn a_link_and_its_directory_change_places(with: support::union::Builder) {
    let mut u = with.layer("f x/b \"content\"\nh o =x/b").mount();
    // Known by the name in the directory first.
    assert_eq!(stat(&u.path("x/b")).nlink, 2);
    assert_eq!(try_rename(&u.path("x"), &u.path("o"), libc::RENAME_EXCHANGE), Ok(()));
    for _ in 0..2 {
        u.assert_tree("", "f x \"content\"\nh o/b =x\nd o");
        u.remount();
    }
}

#[test]
fn a_link_and_its_directory_change_places_in_the_kernel() {
    let fs = Subject::Kernel(KernelFeatures::All);
    require!("a_link_and_its_directory_change_places_in_the_kernel", fs.usable());
    a_link_and_its_directory_change_places(Union::on(&fs));
}

#[test]
fn a_link_and_its_directory_change_places_in_ours() {
    let fs = crate::subjects::ours();
    require!("a_link_and_its_directory_change_places_in_ours", fs.usable());
    a_link_and_its_directory_change_places(Union::on(&fs).option("redirect_dir=on"));
}
