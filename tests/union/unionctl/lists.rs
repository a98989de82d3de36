//! `unionctl diff`: text and JSON say the same.

use super::*;

/// Returns a list in JSON as the lines of the text.
fn as_text(json: &str) -> String {
    let list: serde_json::Value = serde_json::from_str(json).expect("JSON");
    let entries = list.as_array().expect("a list");
    let field = |e: &serde_json::Value, name: &str| e[name].as_str().expect(name).to_owned();
    entries.iter().map(|e| format!("{} {}\n", field(e, "kind"), field(e, "path"))).collect()
}

#[test]
fn text_and_json_list_the_same_changes() {
    support::require!("text_and_json_list_the_same_changes", ours().usable());
    let u = changed(
        "f a \"a\"\nf gone/x \"x\"\nf again/old \"o\"\nf d/f \"f\"\nf d/keep \"k\"\nl s ->a",
        "echo y >>a; rm -r gone; rm -r again; mkdir again; touch again/new; mv d z; chmod 600 z/f; ln s s2",
    );
    let words = "diff --upper upper --lower lower0";
    let expected = "C /a\nC /again\nA /again/new\nD /again/old\nD /d\nD /gone\nC /s\nA /s2\nA /z\nA /z/f\nA /z/keep\n";
    let text = ctl(home(&u), words).well();
    assert_eq!(text, expected);
    assert_eq!(as_text(&ctl(home(&u), &format!("{words} --json")).well()), text);
    let without = ctl(home(&u), &format!("{words} --exclude /z --exclude again/new/")).well();
    let kept: String = expected
        .lines()
        .filter(|l| !l.contains("/z") && !l.contains("/new"))
        .map(|l| format!("{l}\n"))
        .collect();
    assert_eq!(without, kept);
}

#[test]
fn without_lowers_everything_is_new() {
    let l = layers("mkdir upper/d; touch upper/d/f; mknod upper/w c 0 0");
    assert_eq!(ctl(l.path(), "diff --upper upper").well(), "A /d\nA /d/f\n");
    assert_eq!(ctl(l.path(), "diff --upper upper --json --exclude d").well(), "[]\n");
}

#[test]
fn lowers_are_told_apart_at_colons_that_are_not_escaped() {
    let l = layers("mkdir -p 'a:b' c; touch 'a:b/one' c/two upper/one upper/two upper/three");
    let list = unionctl(l.path(), ["diff", "--upper", "upper", "--lower", r"a\:b:c"]).well();
    assert_eq!(list, "C /one\nA /three\nC /two\n");
}
