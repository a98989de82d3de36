//! Without privileges: in a user namespace, and through fusermount3.

use std::path::Path;
use std::process::{Command, Output};

use support::privilege::{Unprivileged, installed};
use support::process::run;
use support::{Scratch, require};

use crate::files::{get, put};
use crate::subjects::ours;

/// A tree of an unprivileged user: `lower`, `upper`, `work`, `mnt`.
fn home(user: &Unprivileged) -> Scratch {
    let scratch = Scratch::new();
    for name in ["lower/d", "upper", "work", "mnt"] {
        scratch.dir(name);
    }
    put(&scratch.path().join("lower/f"), "lower");
    put(&scratch.path().join("lower/d/g"), "g");
    user.own(scratch.path());
    scratch
}

/// A copy of the program where everybody can execute it.
fn program(scratch: &Scratch) -> String {
    let copy = scratch.path().join("unionfs-copy");
    support::process::copy_program(&ours().program().expect("a program"), &copy);
    copy.display().to_string()
}

/// Runs a script in `dir`; `before` are the words before `sh`.
fn script(user: &Unprivileged, dir: &Path, before: &[&str], text: &str) -> Output {
    let mut command = match before {
        [] => user.command("sh"),
        [first, rest @ ..] => {
            let mut command = user.command(first);
            command.args(rest).arg("sh");
            command
        }
    };
    run(command.args(["-euc", text]).current_dir(dir))
}

/// What users do in both ways of mounting; ends with an unmounted file system.
const WORK: &str = "
    cat mnt/f; echo -n ' changed' >> mnt/f; cat mnt/f; echo
    rm -r mnt/d; mkdir mnt/d; ls mnt/d; ln mnt/f mnt/h; chmod 700 mnt/f; mv mnt/h mnt/d/i
    stat -c '%h %a %U' mnt/d/i
";

const DONE: &str = "lowerlower changed\n2 700";

#[test]
fn in_a_user_namespace_everything_works() {
    let user = Unprivileged::find();
    require!("in_a_user_namespace_everything_works", ours().usable(), user.clone().map(drop));
    let user = user.expect("found above");
    let scratch = home(&user);
    let start = format!(
        "{} -o lowerdir=lower,upperdir=upper,workdir=work mnt\n{WORK}\n
         {0} -V > /dev/null; touch mnt/new; mkfifo mnt/p; setfattr -n user.x -v y mnt/new
         umount mnt; ls upper",
        program(&scratch)
    );
    let out = script(&user, scratch.path(), &["unshare", "-Urm"], &start);
    let (said, errors) =
        (String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    assert!(out.status.success(), "{said}{errors}");
    assert!(said.starts_with(DONE), "{said}{errors}");
    assert_eq!(get(&scratch.path().join("upper/f")), "lower changed");
}

#[test]
fn with_subordinate_ids_owners_are_kept() {
    let user = Unprivileged::find();
    require!(
        "with_subordinate_ids_owners_are_kept",
        ours().usable(),
        user.clone().map(drop),
        installed("newuidmap")
    );
    let user = user.expect("found above");
    let scratch = home(&user);
    let text = format!(
        "{} -o lowerdir=lower,upperdir=upper,workdir=work mnt
         chown 5:6 mnt/f; mkdir mnt/n; chown 7:8 mnt/n; touch mnt/n/x; stat -c '%u:%g' mnt/f mnt/n mnt/n/x
         umount mnt
         {0} -o lowerdir=lower,upperdir=upper,workdir=work mnt; stat -c '%u:%g' mnt/f; umount mnt",
        program(&scratch)
    );
    let before = ["unshare", "-m", "--map-root-user", "--map-auto"];
    let out = script(&user, scratch.path(), &before, &text);
    let (said, errors) =
        (String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    assert_eq!(said, "5:6\n7:8\n0:0\n5:6\n", "{errors}");
}

#[test]
fn whiteouts_of_an_unprivileged_mount_last() {
    let user = Unprivileged::find();
    require!("whiteouts_of_an_unprivileged_mount_last", ours().usable(), user.clone().map(drop));
    let user = user.expect("found above");
    let scratch = home(&user);
    let mount = format!("{} -o lowerdir=lower,upperdir=upper,workdir=work mnt", program(&scratch));
    let text = format!(
        "{mount}; rm mnt/f; rm -r mnt/d; mkdir mnt/d; umount mnt; {mount}; find mnt | sort; umount mnt"
    );
    let out = script(&user, scratch.path(), &["unshare", "-Urm"], &text);
    let (said, errors) =
        (String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    assert_eq!(said, "mnt\nmnt/d\n", "{errors}");
}

#[test]
fn with_fusermount3_everything_works() {
    let user = Unprivileged::find();
    require!(
        "with_fusermount3_everything_works",
        ours().usable(),
        user.clone().map(drop),
        installed("fusermount3")
    );
    let user = user.expect("found above");
    let scratch = home(&user);
    let text = format!(
        "{} -o lowerdir=lower,upperdir=upper,workdir=work mnt\n{WORK}\nfusermount3 -u mnt",
        program(&scratch)
    );
    let out = script(&user, scratch.path(), &[], &text);
    let (said, errors) =
        (String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    assert!(out.status.success(), "{said}{errors}");
    assert!(said.starts_with(DONE), "{said}{errors}");
    assert_eq!(get(&scratch.path().join("upper/f")), "lower changed");
}

#[test]
fn without_fusermount3_it_says_what_to_install() {
    let user = Unprivileged::find();
    require!("without_fusermount3_it_says", ours().usable(), user.clone().map(drop));
    let user = user.expect("found above");
    let scratch = home(&user);
    let text = format!(
        "PATH={}; export PATH; exec {} -o lowerdir=lower,upperdir=upper,workdir=work mnt",
        scratch.path().join("nowhere").display(),
        program(&scratch)
    );
    let out = run(user.command("/bin/sh").args(["-euc", &text]).current_dir(scratch.path()));
    let said = String::from_utf8_lossy(&out.stderr);
    assert!(!out.status.success(), "{said}");
    assert!(said.contains("fusermount3") && said.trim().lines().count() == 1, "{said}");
}

#[test]
fn the_mount_is_for_its_owner_alone_unless_asked() {
    let user = Unprivileged::find();
    require!(
        "the_mount_is_for_its_owner_alone",
        ours().usable(),
        user.clone().map(drop),
        installed("fusermount3")
    );
    let user = user.expect("found above");
    let scratch = home(&user);
    let start = format!("{} -o lowerdir=lower,upperdir=upper,workdir=work mnt", program(&scratch));
    let out = script(&user, scratch.path(), &[], &start);
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let seen = Command::new("cat").arg(scratch.path().join("mnt/f")).output().expect("run cat");
    assert!(!seen.status.success(), "root is another user");
    let out = script(&user, scratch.path(), &[], "cat mnt/f; fusermount3 -u mnt");
    assert_eq!(out.stdout, b"lower");
}
