//! `unionctl convert`: what it prints, and what goes wrong on the way.

use support::privilege::Unprivileged;

use super::*;

#[test]
fn conversions_are_counted_and_go_both_ways() {
    support::require!("conversions_are_counted_and_go_both_ways", ours().usable());
    let u = changed(
        "f d/f \"f\"\nf d/g \"g\"\nf o/old \"o\"",
        "rm d/f; rm -r o; mkdir o; touch o/new; mv d/g d/h",
    );
    let listed = || ctl(home(&u), "diff --upper upper --lower lower0").well();
    let before = listed();
    let on_disk = |script: &str| shell(&u.upper(""), script);
    for (words, said, look, shown) in [
        (
            "--whiteouts dot-wh",
            "2 whiteouts and 1 marks converted\n",
            "ls -A d o",
            "d:\n.wh.f\n.wh.g\nh\n\no:\n.wh..wh..opq\nnew\n",
        ),
        (
            "--whiteouts dot-wh",
            "0 whiteouts and 0 marks converted\n",
            "ls -A d",
            ".wh.f\n.wh.g\nh\n",
        ),
        (
            "--whiteouts attribute",
            "2 whiteouts and 1 marks converted\n",
            "ls -A d o; getfattr --only-values -n trusted.overlay.opaque d",
            "d:\nf\ng\nh\n\no:\nnew\nx",
        ),
        (
            "--whiteouts device",
            "2 whiteouts and 0 marks converted\n",
            "stat -c %F d/f; getfattr --only-values -n trusted.overlay.opaque o",
            "character special file\ny",
        ),
    ] {
        assert_eq!(
            ctl(home(&u), &format!("convert --work work {words} upper")).well(),
            said,
            "{words}"
        );
        assert_eq!(on_disk(look), shown, "{words}");
        assert_eq!(listed(), before, "{words}: it means the same");
    }
    let said = ctl(home(&u), "convert --work work --marks user upper").well();
    assert!(said.starts_with("0 whiteouts and ") && !said.contains(" 0 marks"), "{said}");
    assert_eq!(on_disk("getfattr -R -d -m trusted.overlay . | wc -l"), "0\n");
    assert_eq!(listed(), before, "user marks mean the same");
    let both = ctl(home(&u), "convert --work work --marks trusted --whiteouts dot-wh upper").well();
    assert!(both.starts_with("2 whiteouts and "), "{both}");
    assert_eq!(listed(), before);
}

#[test]
fn marks_that_a_symlink_cannot_have_are_dropped_with_a_warning() {
    let l = layers("ln -s x upper/l; setfattr -h -n trusted.overlay.origin -v 0x00 upper/l");
    let said = ctl(l.path(), "convert --marks user upper");
    assert_eq!((said.code, said.out.as_str()), (Some(0), "0 whiteouts and 0 marks converted\n"));
    assert_eq!(
        said.err,
        "unionctl: warning: 1 marks of symlinks and nodes were dropped: they can't have user attributes\n"
    );
}

#[test]
fn what_was_interrupted_is_gone_on_with() {
    // A part of a whiteout that got no name yet, beside those that wait.
    let l = layers("touch upper/.wh.a upper/.wh.b upper/.unionctl-part; touch lower/a lower/b");
    assert_eq!(
        ctl(l.path(), "convert --whiteouts device upper").well(),
        "2 whiteouts and 0 marks converted\n"
    );
    assert_eq!(crate::files::list(&l.path().join("upper")), ["a", "b"]);
    assert_eq!(ctl(l.path(), "diff --upper upper --lower lower").well(), "D /a\nD /b\n");
}

#[test]
fn without_the_right_to_convert_nothing_is_lost() {
    let user = Unprivileged::find();
    support::require!("without_the_right_to_convert_nothing_is_lost", user.clone().map(drop));
    let user = user.expect("found above");
    let l = layers(
        "touch upper/.wh.a lower/a upper/f; setfattr -n user.overlay.origin -v 0x00 upper/f
         mkdir roots; touch roots/.wh.a",
    );
    let program = l.path().join("unionctl");
    let built = Path::new(env!("CARGO_BIN_EXE_unionctl-under-test"));
    support::process::copy_program(built, &program);
    user.own(&l.path().join("upper"));
    shell(l.path(), "chmod 755 .");
    let call = |words: &str| {
        let program = program.to_str().expect("a plain path");
        said(run(user.command(program).args(words.split(' ')).current_dir(l.path())))
    };
    let err = call("convert --whiteouts device roots").failed(1);
    assert_eq!(err, "unionctl: convert roots/: permission denied\n");
    let err = call("convert --marks trusted upper").failed(1);
    assert_eq!(err, "unionctl: convert upper/f: operation not permitted\n");
    let marks = "ls -A roots; getfattr -n user.overlay.origin --only-values upper/f | od -An -tx1";
    assert_eq!(shell(l.path(), marks), ".wh.a\n 00\n");
    // What needs no right is done.
    assert_eq!(
        call("convert --whiteouts device upper").well(),
        "1 whiteouts and 0 marks converted\n"
    );
    assert_eq!(call("diff --upper upper --lower lower").well(), "D /a\nA /f\n");
}
