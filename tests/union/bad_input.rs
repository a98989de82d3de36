//! Mistakes of whoever starts the daemon: one line that says what is wrong, a code that isn't zero,
//! nothing left mounted.

use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Output};

use support::process::run;
use support::scratch::mounts_below;
use support::{Scratch, require};

use crate::files::put;
use crate::subjects::ours;

/// Directories with the usual names, in a scratch.
fn directories() -> Scratch {
    let scratch = Scratch::new();
    for name in ["lower", "upper", "work", "mnt"] {
        scratch.dir(name);
    }
    scratch
}

/// Starts the daemon in a scratch directory, with words as they would be typed there.
fn start(scratch: &Scratch, words: &[&str]) -> Output {
    support::process::adopt_orphans();
    let program = ours().program().expect("a program");
    run(Command::new(program).args(words).current_dir(scratch.path()))
}

const USUAL: &str = "lowerdir=lower,upperdir=upper,workdir=work";

/// Asserts that the daemon refuses, and says `needles` in one line.
#[track_caller]
fn refuses(scratch: &Scratch, words: &[&str], needles: &[&str]) {
    let out = start(scratch, words);
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(!out.status.success(), "{words:?} succeeds, saying: {said}");
    assert_eq!(out.status.signal(), None, "{words:?} ends by a signal");
    let lines: Vec<_> = said.lines().filter(|l| !l.trim().is_empty()).collect();
    assert_eq!(lines.len(), 1, "one line, not: {said}");
    for needle in needles {
        assert!(said.contains(needle), "`{needle}` is missing in: {said}");
    }
    assert!(!said.contains("panicked"), "{said}");
    assert!(mounts_below(scratch.path()).is_empty(), "something is left mounted");
}

#[test]
fn a_missing_lower_layer_is_named() {
    require!("a_missing_lower_layer_is_named", ours().usable());
    let s = directories();
    refuses(&s, &["-o", "lowerdir=lower:absent,upperdir=upper,workdir=work", "mnt"], &["absent"]);
}

#[test]
fn a_missing_upper_layer_is_named() {
    require!("a_missing_upper_layer_is_named", ours().usable());
    let s = directories();
    refuses(&s, &["-o", "lowerdir=lower,upperdir=absent,workdir=work", "mnt"], &["absent"]);
    refuses(&s, &["-o", "lowerdir=lower,upperdir=upper,workdir=absent", "mnt"], &["absent"]);
}

#[test]
fn a_layer_must_be_a_directory() {
    require!("a_layer_must_be_a_directory", ours().usable());
    let s = directories();
    put(&s.path().join("file"), "x");
    refuses(&s, &["-o", "lowerdir=file,upperdir=upper,workdir=work", "mnt"], &["file"]);
    refuses(&s, &["-o", "lowerdir=lower,upperdir=file,workdir=work", "mnt"], &["file"]);
}

#[test]
fn an_upper_layer_needs_a_work_directory() {
    require!("an_upper_layer_needs_a_work_directory", ours().usable());
    refuses(&directories(), &["-o", "lowerdir=lower,upperdir=upper", "mnt"], &["workdir"]);
}

#[test]
fn lower_layers_are_needed() {
    require!("lower_layers_are_needed", ours().usable());
    refuses(&directories(), &["-o", "upperdir=upper,workdir=work", "mnt"], &["lowerdir"]);
}

#[test]
fn the_work_directory_must_be_on_the_upper_layers_file_system() {
    require!("the_work_directory_must_be_on", ours().usable());
    let (s, other) = (directories(), Scratch::of_size(1 << 20));
    let work = other.dir("work");
    let options = format!("lowerdir=lower,upperdir=upper,workdir={}", work.display());
    refuses(&s, &["-o", &options, "mnt"], &["workdir"]);
}

#[test]
fn the_work_directory_must_not_be_inside_the_upper_layer() {
    require!("the_work_directory_must_not_be_inside", ours().usable());
    let s = directories();
    s.dir("upper/work");
    refuses(&s, &["-o", "lowerdir=lower,upperdir=upper,workdir=upper/work", "mnt"], &["workdir"]);
    refuses(&s, &["-o", "lowerdir=lower,upperdir=upper,workdir=upper", "mnt"], &["workdir"]);
}

#[test]
fn a_missing_mount_point_is_named() {
    require!("a_missing_mount_point_is_named", ours().usable());
    refuses(&directories(), &["-o", USUAL, "absent"], &["absent"]);
}

#[test]
fn a_mount_point_must_be_a_directory() {
    require!("a_mount_point_must_be_a_directory", ours().usable());
    let s = directories();
    put(&s.path().join("file"), "x");
    refuses(&s, &["-o", USUAL, "file"], &["file", "directory"]);
}

#[test]
fn a_mount_point_is_needed() {
    require!("a_mount_point_is_needed", ours().usable());
    let out = start(&directories(), &["-o", USUAL]);
    assert!(!out.status.success() && !out.stderr.is_empty());
}

#[test]
fn without_dev_fuse_it_says_what_to_do() {
    require!("without_dev_fuse_it_says_what_to_do", ours().usable());
    let s = directories();
    let program = ours().program().expect("a program");
    // In a mount namespace of its own, where /dev is empty but for what a process needs.
    let script = format!(
        "mount -t tmpfs tmpfs /dev && mknod -m 666 /dev/null c 1 3 && exec {} -o {USUAL} mnt",
        program.display()
    );
    let out = run(Command::new("unshare").args(["-m", "sh", "-c", &script]).current_dir(s.path()));
    let said = String::from_utf8_lossy(&out.stderr);
    assert!(!out.status.success(), "{said}");
    assert!(said.contains("/dev/fuse") && said.trim().lines().count() == 1, "{said}");
}

#[test]
fn a_value_that_makes_no_sense_is_refused() {
    require!("a_value_that_makes_no_sense_is_refused", ours().usable());
    for option in ["uidmapping=nonsense", "timeout=soon", "xattr_permissions=7"] {
        let name = option.split('=').next().unwrap_or("");
        refuses(&directories(), &["-o", &format!("{option},{USUAL}"), "mnt"], &[name]);
    }
}

#[test]
fn unknown_options_are_warned_about_and_ignored() {
    require!("unknown_options_are_warned_about", ours().usable());
    let s = directories();
    put(&s.path().join("lower/f"), "x");
    let out = start(&s, &["-o", &format!("frobnicate,thing=7,{USUAL},"), "overlay", "mnt"]);
    let said = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "{said}");
    assert!(said.contains("frobnicate") && said.contains("thing"), "{said}");
    let point = s.path().join("mnt");
    assert_eq!(std::fs::read(point.join("f")).expect("read through the mount"), b"x");
    end(&point);
}

/// Unmounts what a test has started by itself, and waits for its daemon.
fn end(point: &Path) {
    // Relative mount points show as they were typed.
    let daemon = support::process::daemon_of(point)
        .or_else(|| support::process::daemon_of(Path::new(point.file_name().expect("a name"))));
    support::mount::unmount_when_free(point).expect("unmount");
    if let Some(pid) = daemon {
        assert!(support::process::reap(pid).is_some(), "the daemon ends");
    }
}

#[test]
fn options_that_engines_pass_are_known() {
    require!("options_that_engines_pass_are_known", ours().usable());
    let s = directories();
    let passed = "rw,nodev,nosuid,noexec,noatime,allow_other,default_permissions,metacopy=on,\
                  index=off,userxattr,volatile,squash_to_root,noacl,xino=on,fsync=0,static_nlink";
    let out = start(&s, &["-o", passed, "-o", USUAL, "mnt"]);
    let said = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "{said}");
    let point = s.path().join("mnt");
    put(&point.join("f"), "x");
    end(&point);
}

#[test]
fn version_and_help_are_said_on_standard_output() {
    require!("version_and_help_are_said", ours().usable());
    for word in ["-V", "--version", "-h", "--help"] {
        let out = start(&directories(), &[word]);
        assert!(out.status.success() && !out.stdout.is_empty(), "{word}");
    }
}
