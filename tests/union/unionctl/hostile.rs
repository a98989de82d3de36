//! Layers of strangers: names that are made to mislead, links that lead out, trees without an end.

use super::*;

/// Names with line ends, terminal sequences, no UTF-8, and what looks like a way out.
const NAMES: &str = r#"
    cd upper; mkdir d; touch "$(printf 'a\nD ')" "$(printf 'e\033[2Jx')" "$(printf 'n\377')" 'b\012' -- '-o'
    touch d/..data "$(printf 'd/ \t')"
"#;

#[test]
fn each_name_stays_on_its_line_and_can_be_had_back() {
    let l = layers(NAMES);
    let text = ctl(l.path(), "diff --upper upper").well();
    let expected = [
        r"A /-o",
        r"A /a\012D ",
        r"A /b\134012",
        r"A /d",
        r"A /d/ \011",
        r"A /d/..data",
        r"A /e\033[2Jx",
        r"A /n\377",
    ];
    assert_eq!(text.lines().collect::<Vec<_>>(), expected);
    let json: serde_json::Value =
        serde_json::from_str(&ctl(l.path(), "diff --json --upper upper").well()).expect("JSON");
    let with_bytes: Vec<_> =
        json.as_array().expect("a list").iter().filter_map(|e| e["path_hex"].as_str()).collect();
    assert_eq!(with_bytes, ["2f6eff"], "only what is no UTF-8 needs its bytes");
    assert_eq!(json[1]["path"], "/a\nD ");
    let script = format!(
        "mkdir back; {} export --upper upper | tar -C back -xf -; diff -r upper back",
        env!("CARGO_BIN_EXE_unionctl-under-test")
    );
    assert_eq!(shell(l.path(), &script), "", "the archive has the names as they are");
}

#[test]
fn findings_and_errors_print_names_in_the_same_way() {
    let l = layers(r#"mknod "$(printf 'upper/w\nwell')" c 0 0; touch lower/x"#);
    let found = ctl(l.path(), "fsck --upper upper --lower lower");
    let line = "useless-whiteout /w\\012well: no layer below has the name\n";
    assert_eq!(found, Said { code: Some(3), out: line.into(), err: String::new() });
    let err = unionctl(l.path(), ["export", "--upper", "upper", "-o", "no\u{1b}/x"]).failed(1);
    assert_eq!(err, "unionctl: write no\\033/x: No such file or directory (os error 2)\n");
}

#[test]
fn links_and_redirects_do_not_lead_out() {
    let l = layers(
        "mkdir secret; echo secret >secret/f; echo secret >lower/hidden
         ln -s ../secret upper/dir; ln -s ../secret lower/dir2; mkdir upper/r1 upper/r2 upper/r3 upper/dir2
         setfattr -n trusted.overlay.redirect -v ../secret upper/r1
         setfattr -n trusted.overlay.redirect -v /../secret upper/r2
         setfattr -n trusted.overlay.redirect -v /dir2 upper/r3",
    );
    let found = ctl(l.path(), "fsck --upper upper --lower lower");
    assert_eq!(found.code, Some(3), "{found:?}");
    for name in ["r1", "r2", "r3"] {
        assert!(
            found.out.contains(&format!("dangling-redirect /{name}: ")),
            "{name}: {}",
            found.out
        );
    }
    for command in ["diff", "export"] {
        let out = ctl(l.path(), &format!("{command} --upper upper --lower lower"));
        assert!(!out.out.contains("secret\n") && out.code.is_some(), "{command}: {out:?}");
    }
    // Nor is anything outside changed.
    ctl(l.path(), "convert --whiteouts dot-wh upper").well();
    assert_eq!(crate::files::get(&l.path().join("secret/f")), "secret\n");
}

#[test]
fn trees_without_an_end_are_refused_and_end_nothing_else() {
    let dig = |levels: u32| {
        format!(
            "python3 -c 'import os\nd = os.open(\"upper\", os.O_RDONLY)\nfor _ in range({levels}):\n os.mkdir(\"d\", dir_fd=d); n = os.open(\"d\", os.O_RDONLY, dir_fd=d); os.close(d); d = n'"
        )
    };
    // As deep as a path can say.
    let l = layers(&dig(2000));
    for words in [
        "fsck --upper upper --lower lower --work work",
        "convert --whiteouts dot-wh upper",
        "export --upper upper -o out.tar",
    ] {
        ctl(l.path(), words).code.filter(|&c| c == 0).unwrap_or_else(|| panic!("{words}"));
    }
    assert_eq!(ctl(l.path(), "diff --upper upper").well().lines().count(), 2000);
    let l = layers(&dig(6000));
    for words in [
        "diff --upper upper",
        "export --upper upper -o out.tar",
        "fsck --upper upper --lower lower --work work",
        "convert --whiteouts dot-wh upper",
    ] {
        let err = ctl(l.path(), words).failed(1);
        let is_clear = err.contains("name too long") || err.contains("more than 4096 directories");
        assert!(is_clear, "{words}: {err}");
    }
    assert!(!l.path().join("out.tar").exists());
}

#[test]
fn marks_that_make_no_sense_are_survived() {
    let l = layers(
        "touch upper/f upper/g lower/f; mkdir upper/d
         setfattr -n trusted.overlay.nlink -v garbage upper/f
         setfattr -n trusted.overlay.origin -v 0xffffffffffffffffff upper/f
         setfattr -n trusted.overlay.metacopy upper/g
         setfattr -n trusted.overlay.redirect -v a/b/c upper/g
         setfattr -n trusted.overlay.redirect -v '' upper/d
         setfattr -n trusted.overlay.opaque -v zzz upper/d
         setfattr -n user.containers.override_stat -v 99999999999:x:y upper/f",
    );
    for words in [
        "diff --upper upper --lower lower",
        "export --upper upper --lower lower",
        "fsck --upper upper --lower lower --work work",
        "fsck --upper upper --lower lower --work work --repair",
        "convert --whiteouts attribute --marks user upper",
    ] {
        let said = ctl(l.path(), words);
        assert!(matches!(said.code, Some(0 | 1 | 3)), "{words}: {said:?}");
        assert!(!said.err.contains("panicked"), "{words}: {said:?}");
    }
}
