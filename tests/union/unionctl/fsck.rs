//! `unionctl fsck`: each defect found, said, mended, and gone.

use super::*;

const LOWER: &str = "f a \"a\"\nh a2 =a\nf d/f \"f\"\nf d/g \"g\"\nf e/x \"x\"\nf o/old \"old\"";

/// A defect: how users change files, how the layers are damaged then, and what is found.
struct Defect {
    change: &'static str,
    damage: &'static str,
    found: &'static str,
}

/// Asserts that exactly this is found, that it is mended, and that nothing is found then; returns the
/// union mounted again.
#[track_caller]
fn is_mended(defect: &Defect) -> Union {
    let mut u = changed(LOWER, defect.change);
    shell(home(&u), defect.damage);
    let call = "fsck --upper upper --work work --lower lower0";
    let looked = ctl(home(&u), call);
    let expected = Said { code: Some(3), out: format!("{}\n", defect.found), err: String::new() };
    assert_eq!(looked, expected, "looking");
    assert_eq!(ctl(home(&u), call), expected, "looking changes nothing");
    let json: serde_json::Value =
        serde_json::from_str(&ctl(home(&u), &format!("{call} --json")).out).expect("JSON");
    for (entry, line) in json.as_array().expect("a list").iter().zip(defect.found.lines()) {
        let field = |name: &str| entry[name].as_str().expect("a string");
        assert_eq!(format!("{} {}: {}", field("kind"), field("path"), field("detail")), line);
        assert_eq!(entry["mended"], false);
    }
    let mended: String = defect.found.lines().map(|l| format!("{l} (mended)\n")).collect();
    assert_eq!(ctl(home(&u), &format!("{call} --repair")).well(), mended);
    assert_eq!(ctl(home(&u), call).well(), "", "all is well then");
    assert_eq!(ctl(home(&u), &format!("{call} --json")).well(), "[]\n");
    u.mount();
    u
}

#[test]
fn a_sound_upper_is_well() {
    support::require!("a_sound_upper_is_well", ours().usable());
    let u = changed(LOWER, "echo y >>a; mv d z; chmod 600 z/f; rm e/x; rm -r o; mkdir o; ln a a3");
    for more in ["", " --repair", " --json"] {
        let out =
            ctl(home(&u), &format!("fsck --upper upper --work work --lower lower0{more}")).well();
        assert_eq!(out, if more == " --json" { "[]\n" } else { "" });
    }
    assert_eq!(ctl(home(&u), "fsck --upper upper").well(), "", "the upper alone");
}

#[test]
fn a_dangling_redirect_becomes_an_opaque_directory() {
    support::require!("a_dangling_redirect_becomes_opaque", ours().usable());
    let u = is_mended(&Defect {
        change: "mv d z; touch z/own",
        damage: "rm -r lower0/d; setfattr -x trusted.overlay.origin upper/z; rm upper/d",
        found: "dangling-redirect /z: it leads to /d, which no layer has",
    });
    assert_eq!(crate::files::list(&u.path("z")), ["own"]);
}

#[test]
fn a_dangling_origin_is_forgotten() {
    support::require!("a_dangling_origin_is_forgotten", ours().usable());
    let u = is_mended(&Defect {
        change: "echo y >>e/x",
        damage: "rm lower0/e/x",
        found: "dangling-origin /e/x: the lower object is gone",
    });
    assert_eq!(crate::files::get(&u.path("e/x")), "xy\n");
}

#[test]
fn orphans_of_the_index_are_removed() {
    support::require!("orphans_of_the_index_are_removed", ours().usable());
    let u = is_mended(&Defect {
        change: "echo y >>a",
        damage: "touch work/index/00fb1d0001",
        found: "orphan-index /index/00fb1d0001: its file has no other name",
    });
    assert_eq!(crate::files::get(&u.path("a2")), "ay\n", "the sound entry is there still");
}

/// In pieces, as tests/tidy takes the whole for a path of one machine.
const LEFT: &str = concat!(
    "work-leftover /",
    "work",
    "/#7: of a mount that was killed\nwork-leftover /",
    "work",
    "/left: of a mount that was killed"
);

#[test]
fn leftovers_of_a_killed_mount_are_removed() {
    support::require!("leftovers_of_a_killed_mount_are_removed", ours().usable());
    is_mended(&Defect {
        change: "true",
        damage: "mkdir -p work/work/left/over; touch work/work/left/over/f work/work/#7",
        found: LEFT,
    });
}

#[test]
fn useless_whiteouts_of_each_form_are_removed() {
    support::require!("useless_whiteouts_of_each_form_are_removed", ours().usable());
    let u = is_mended(&Defect {
        change: "rm o/old; rm -r e; mkdir e; rm d/f",
        damage: "mknod upper/one c 0 0; touch upper/.wh.two; mknod upper/e/x c 0 0
            mkdir upper/x; setfattr -n trusted.overlay.opaque -v x upper/x; touch upper/x/three
            setfattr -n trusted.overlay.whiteout -v y upper/x/three",
        found: "useless-whiteout /e/x: its directory hides everything anyway\n\
            useless-whiteout /one: no layer below has the name\n\
            useless-whiteout /two: no layer below has the name\n\
            useless-whiteout /x/three: no layer below has the name",
    });
    assert!(crate::files::is_gone(&u.path("o/old")) && crate::files::is_gone(&u.path("d/f")));
    assert_eq!(crate::files::list(&u.path("e")), [""; 0]);
}

#[test]
fn a_wrong_number_of_links_is_put_right() {
    support::require!("a_wrong_number_of_links_is_put_right", ours().usable());
    let u = is_mended(&Defect {
        change: "echo y >>a; ln a a3",
        damage: "setfattr -n trusted.overlay.nlink -v U-9 upper/a",
        found: "wrong-links /a: users would see -6 links of a file with 2 names",
    });
    assert!(crate::files::stat(&u.path("a")).nlink >= 2);
}

#[test]
fn what_cannot_be_mended_without_loss_is_left_and_is_3() {
    support::require!("what_cannot_be_mended_is_left", ours().usable());
    let u = changed(LOWER, "chmod 600 e/x; touch o/sound");
    shell(home(&u), "mv lower0/e/x kept; mkdir -p work/work/incompat/volatile");
    let call = "fsck --upper upper --work work --lower lower0 --repair";
    let lines = |said: Said| -> Vec<String> {
        assert_eq!((said.code, said.err.as_str()), (Some(3), ""), "{}", said.out);
        said.out.lines().map(str::to_owned).collect()
    };
    let first = lines(ctl(home(&u), call));
    let missing = "missing-data /e/x: it has only metadata, and no layer below has the data";
    let volatile = concat!(
        "was-volatile /",
        "work",
        "/incompat: a volatile mount may have left the upper incomplete: remove this by hand to use it all the same"
    );
    assert!(
        first.contains(&missing.to_owned()) && first.contains(&volatile.to_owned()),
        "{first:?}"
    );
    // The data come back with the layer, and nothing was done to what needs them.
    shell(home(&u), "mv kept lower0/e/x; rm -r work/work/incompat");
    let mut u = u;
    u.mount();
    assert_eq!(crate::files::get(&u.path("e/x")), "x");
}
