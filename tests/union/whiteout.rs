//! Removal, re-creation, opaque directories.

use nix::errno::Errno;
use support::Union;
use support::process::shell;
use support::tree::{Show, Tree};

use crate::files::*;
use crate::subjects::both;

/// Returns the upper layer, with overlayfs's marks.
fn upper(u: &Union) -> String {
    let text = Tree::read(&u.upper("")).text(&Show { marks: true, ..Show::default() });
    // The root carries what the kernel remembers of its layers.
    text.lines().skip(1).map(|l| format!("{l}\n")).collect()
}

fn names(text: &str) -> Vec<String> {
    text.lines().map(|l| l.split(' ').take(2).collect::<Vec<_>>().join(" ")).collect()
}

both! {
    fn a_removed_tree_stays_removed_when_its_directory_is_made_again(fs) {
        let mut u = Union::on(fs).layer("f d/f \"x\"\nd d/e\nf d/e/g \"y\"").mount();
        shell(u.root(), "rm -r d");
        assert!(is_gone(&u.path("d")));
        mkdir(&u.path("d"));
        assert_eq!(list(&u.path("d")), [""; 0]);
        assert!(is_gone(&u.path("d/f")) && is_gone(&u.path("d/e")));
        u.remount();
        assert_eq!(list(&u.path("d")), [""; 0]);
        assert!(is_gone(&u.path("d/f")) && is_gone(&u.path("d/e")));
        mkdir(&u.path("d/e"));
        assert_eq!(list(&u.path("d/e")), [""; 0]);
    }

    fn a_name_can_come_back_as_anything(fs) {
        let mut u = Union::on(fs).layer("f a \"x\"\nf b \"x\"\nf c \"x\"\nf d/f \"x\"\nf e/f \"x\"").mount();
        shell(u.root(), "rm -r a b c d e; mkdir a; ln -s t b; mkfifo c; echo file > d; mkdir e");
        let expected = "d a\nl b ->t\np c\nf d \"file\\x0a\"\nd e";
        u.assert_tree("", expected);
        u.remount();
        u.assert_tree("", expected);
    }

    fn what_is_removed_is_removed_in_all_layers(fs) {
        let mut u = Union::on(fs).layer("f a \"1\"\nf d/x \"1\"").layer("f a \"2\"\nf d/y \"2\"").layer("f a \"3\"").mount();
        unlink(&u.path("a"));
        shell(u.root(), "rm -r d");
        u.assert_tree("", "");
        u.remount();
        u.assert_tree("", "");
    }

    fn removing_what_only_the_upper_has_leaves_nothing(fs) {
        let u = Union::on(fs).layer("d d").mount();
        put(&u.path("f"), "x");
        unlink(&u.path("f"));
        mkdir(&u.path("e"));
        rmdir(&u.path("e"));
        put(&u.path("a"), "x");
        rename(&u.path("a"), &u.path("b"));
        unlink(&u.path("b"));
        assert_eq!(upper(&u), "", "no needless whiteouts");
    }

    fn replacing_a_file_as_sed_does_leaves_one_file(fs) {
        let u = Union::on(fs).layer("f f \"old\"").mount();
        put(&u.path("sedXyz"), "new");
        rename(&u.path("sedXyz"), &u.path("f"));
        assert_eq!(names(&upper(&u)), ["f f"]);
        assert_eq!(get(&u.path("f")), "new");
    }

    fn a_whiteout_goes_when_the_name_comes_back(fs) {
        let u = Union::on(fs).layer("f f \"old\"").mount();
        unlink(&u.path("f"));
        assert_eq!(names(&upper(&u)), ["c f"]);
        put(&u.path("f"), "new");
        assert_eq!(names(&upper(&u)), ["f f"]);
    }

    fn an_emptied_directory_becomes_one_whiteout(fs) {
        let u = Union::on(fs).layer("f d/a \"x\"\nf d/b \"x\"").mount();
        unlink(&u.path("d/a"));
        unlink(&u.path("d/b"));
        rmdir(&u.path("d"));
        assert_eq!(names(&upper(&u)), ["c d"]);
    }

    fn a_directory_with_only_whiteouts_is_empty_and_goes(fs) {
        let mut u = Union::on(fs).layer("f d/a \"x\"").mount();
        assert_eq!(try_rmdir(&u.path("d")), Err(Errno::ENOTEMPTY));
        unlink(&u.path("d/a"));
        u.remount();
        rmdir(&u.path("d"));
        assert!(is_gone(&u.path("d")));
        u.remount();
        assert!(is_gone(&u.path("d")));
    }

    fn a_directory_moved_over_an_emptied_one_hides_it(fs) {
        let mut u = Union::on(fs).layer("f d/gone \"x\"").mount();
        unlink(&u.path("d/gone"));
        mkdir(&u.path("new"));
        put(&u.path("new/f"), "y");
        rename(&u.path("new"), &u.path("d"));
        assert_eq!(list(&u.path("d")), ["f"]);
        u.remount();
        assert_eq!(list(&u.path("d")), ["f"]);
    }

    fn moving_away_a_directory_that_was_made_again_shows_nothing_old(fs) {
        let mut u = Union::on(fs).layer("f d/old \"x\"").mount();
        shell(u.root(), "rm -r d; mkdir d; touch d/new; mv d e");
        assert_eq!(list(u.root()), ["e"]);
        u.remount();
        assert_eq!(list(u.root()), ["e"]);
        assert_eq!(list(&u.path("e")), ["new"]);
        shell(u.root(), "mkdir d");
        assert_eq!(list(&u.path("d")), [""; 0]);
    }

    fn a_rename_over_a_whiteout_shows_what_was_renamed(fs) {
        let mut u = Union::on(fs).layer("f a \"a\"\nf b \"b\"\nf d/f \"x\"").mount();
        unlink(&u.path("a"));
        rename(&u.path("b"), &u.path("a"));
        shell(u.root(), "rm -r d; mkdir e; mv e d");
        u.assert_tree("", "f a \"b\"\nd d");
        u.remount();
        u.assert_tree("", "f a \"b\"\nd d");
    }

    /// Whether such a name may be made is a matter of taste; that it hides nothing isn't.
    fn a_file_called_like_a_whiteout_hides_nothing(fs) {
        let mut u = Union::on(fs).layer("f foo \"x\"").mount();
        let made = try_open(&u.path(".wh.foo"), libc::O_CREAT | libc::O_WRONLY);
        let kept = made.is_ok();
        drop(made);
        assert_eq!(get(&u.path("foo")), "x");
        u.remount();
        assert_eq!(get(&u.path("foo")), "x");
        assert_eq!(!is_gone(&u.path(".wh.foo")), kept, "what was made stays");
        assert_eq!(list(u.root()).len(), 1 + usize::from(kept));
    }

    fn nobody_can_make_a_whiteout_device(fs) {
        let u = Union::on(fs).layer("f f \"x\"").mount();
        assert_eq!(mknod(&u.path("w"), libc::S_IFCHR | 0o600, 0), Err(Errno::EPERM));
        assert!(is_gone(&u.path("w")) && is_gone(&u.upper("w")));
    }

    fn nothing_is_left_in_the_work_directory(fs) {
        let mut u = Union::on(fs).layer("f d/e/f \"x\"\nf d/g \"y\"\nf h \"z\"").mount();
        shell(u.root(), "rm -r d; mkdir d; touch d/n; mv d e; rm -r e; mv h i; ln i j; rm i j");
        shell(u.root(), "mkdir a b; mv -T a b; touch c; mv c h; rm h; mkdir h; rmdir h");
        u.unmount();
        assert_eq!(list(&u.work("work")), [""; 0]);
    }

    fn a_lower_file_named_over_a_lower_directory_hides_it(fs) {
        let u = Union::on(fs).layer("f n \"file\"\nd m").layer("f n/below \"x\"\nf m \"x\"").mount();
        u.assert_tree("", "f n \"file\"\nd m");
    }

    fn lower_whiteouts_and_opaque_directories_hide(fs) {
        let top = "w a\no d\nf d/new \"n\"\nd e\nw e/f";
        let u = Union::on(fs).layer(top).layer("f a \"x\"\nf d/old \"o\"\nf e/f \"x\"\nf e/g \"g\"").mount();
        u.assert_tree("", "d d\nf d/new \"n\"\nd e\nf e/g \"g\"");
    }
}

#[test]
fn names_are_read_from_lines() {
    assert_eq!(names("c f 0000 0:0 dev=0:0\n"), ["c f"]);
}
