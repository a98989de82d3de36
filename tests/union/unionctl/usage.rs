//! Help, exit codes, and errors that name what was wrong.

use super::*;

#[test]
fn help_explains_each_command_and_each_exit_code() {
    let scratch = Scratch::new();
    let help = ctl(scratch.path(), "--help").well();
    for word in [
        "diff",
        "export",
        "fsck",
        "convert",
        "0 all is well",
        "1 it failed",
        "2 wrong",
        "3 fsck",
        r"\ooo",
    ] {
        assert!(help.contains(word), "{word}: {help}");
    }
    let version = ctl(scratch.path(), "--version").well();
    assert_eq!(version, format!("unionctl {}\n", env!("CARGO_PKG_VERSION")));
    for (command, options) in [
        ("diff", &["--upper", "--lower", "--exclude", "--json", "path_hex"][..]),
        (
            "export",
            &["--upper", "--lower", "--exclude", "--whiteouts", "oci", "overlay", "--output"],
        ),
        ("fsck", &["--upper", "--lower", "--work", "--repair", "--json"]),
        (
            "convert",
            &[
                "--whiteouts",
                "device",
                "attribute",
                "dot-wh",
                "--marks",
                "trusted",
                "user",
                "--work",
            ],
        ),
    ] {
        let help = ctl(scratch.path(), &format!("{command} --help")).well();
        for option in options {
            assert!(help.contains(option), "{command} {option}: {help}");
        }
    }
}

#[test]
fn wrong_usage_is_2_and_names_the_option() {
    let l = layers("touch file");
    for (words, part) in [
        ("frobnicate", "'frobnicate'"),
        ("diff", "--upper <DIR>"),
        ("diff --upper upper --frobnicate", "'--frobnicate'"),
        (
            "diff --upper upper --lower lower::lower",
            "'--lower <DIR:DIR...>': a list of directories with an empty name",
        ),
        ("diff --upper upper extra", "'extra'"),
        ("export --upper upper --whiteouts aufs", "possible values: oci, overlay"),
        ("fsck --upper upper --repair", "--work <DIR>"),
        ("convert upper", "<--whiteouts <FORM>|--marks <NAMESPACE>>"),
        ("convert --whiteouts device", "<LAYER>"),
        ("convert --whiteouts aufs upper", "possible values: device, attribute, dot-wh"),
        ("convert --marks root upper", "possible values: trusted, user"),
    ] {
        let err = ctl(l.path(), words).failed(2);
        assert!(err.contains(part), "{words}: {err}");
    }
    assert_eq!(unionctl(l.path(), [""; 0]).code, Some(2), "no command");
}

#[test]
fn what_fails_is_1_and_names_the_path_and_what_was_done() {
    let l = layers("touch file; echo x >upper/new; mkdir dir; mkdir readonly");
    for (words, line) in [
        ("diff --upper none", "upper none: No such file or directory: create it first"),
        ("diff --upper file", "upper file: Not a directory: give a directory"),
        (
            "diff --upper upper --lower lower:none",
            "lower layer none: No such file or directory: create it first",
        ),
        ("export --upper none", "upper none: No such file or directory: create it first"),
        ("export --upper upper -o none/x", "write none/x: No such file or directory (os error 2)"),
        ("export --upper upper -o dir", "write dir: is a directory"),
        (
            "export --upper upper -o /dev/full",
            "write /dev/full: No space left on device (os error 28)",
        ),
        ("fsck --upper none", "open upper none: no such file or directory"),
        (
            "fsck --upper upper --lower none",
            "lower layer none: No such file or directory: create it first",
        ),
        ("fsck --upper upper --work none", "open work directory none: no such file or directory"),
        ("fsck --upper upper --work file", "open work directory file: not a directory"),
        ("convert --whiteouts device none", "open layer none: no such file or directory"),
        ("convert --whiteouts device file", "open layer file: not a directory"),
        (
            "convert --whiteouts device --work none upper",
            "open work directory none: no such file or directory",
        ),
    ] {
        assert_eq!(ctl(l.path(), words).failed(1), format!("unionctl: {line}\n"), "{words}");
    }
    assert_eq!(crate::files::list(l.path()).len(), 6, "nothing is left behind");
    assert_eq!(crate::files::list(&l.path().join("upper")), ["new"]);
}

#[test]
fn output_that_nobody_takes_is_an_error_and_a_closed_pipe_is_none() {
    let l = layers("echo x >upper/new");
    for words in ["diff --upper upper", "diff --json --upper upper", "export --upper upper"] {
        let full = std::fs::File::create("/dev/full").expect("open /dev/full");
        let out = command(l.path()).args(words.split(' ')).stdout(full).output().expect("run it");
        let err = "unionctl: write to standard output: No space left on device (os error 28)\n";
        assert_eq!(
            said(out),
            Said { code: Some(1), out: String::new(), err: err.into() },
            "{words}"
        );
        let (reader, writer) = nix::unistd::pipe().expect("a pipe");
        drop(reader);
        let out = command(l.path()).args(words.split(' ')).stdout(writer).output().expect("run it");
        assert_eq!(said(out).well(), "", "{words}");
    }
}

#[test]
fn a_terminal_gets_no_archive() {
    let l = layers("echo x >upper/new");
    let call = format!("{} export --upper upper", env!("CARGO_BIN_EXE_unionctl-under-test"));
    let out = run(Command::new("script").args(["-qec", &call, "/dev/null"]).current_dir(l.path()));
    let shown = said(out);
    assert_eq!(shown.code, Some(1), "{shown:?}");
    assert!(
        shown.out.contains("not for a terminal: send it to a file, or use --output"),
        "{shown:?}"
    );
}

#[test]
fn what_is_mounted_is_left_alone() {
    support::require!("what_is_mounted_is_left_alone", ours().usable());
    let u = Union::on(&ours()).layer("f a \"a\"").mount();
    crate::files::unlink(&u.path("a"));
    for words in [
        "fsck --upper upper --work work --lower lower0",
        "fsck --upper upper --work work --lower lower0 --repair",
        "convert --whiteouts dot-wh --work work upper",
    ] {
        let err = ctl(home(&u), words).failed(1);
        assert_eq!(err, "unionctl: work directory work: in use by a mount: unmount that first\n");
    }
    // To look is allowed.
    assert_eq!(ctl(home(&u), "diff --upper upper --lower lower0").well(), "D /a\n");
    assert!(crate::files::is_gone(&u.path("a")));
}
