//! What an upper changed, read without a mount: applied to the layers below it gives what users saw.

use std::path::{Path, PathBuf};

use support::process::shell;
use support::subject::KernelFeatures;
use support::tree::{Show, Tree, assert_same};
use support::{Scratch, Subject, Union, require};
use unionfs::offline::{Stack, Whiteouts, changes, export};

use crate::subjects::ours;

const LOWER: &str = r#"
    f a "a" x:user.n=v
    h a2 =a
    h far/away/a3 =a
    f b 4755 3:4 "b"
    f d/f "f"
    f d/g "g"
    d d/e
    f d/e/h "h"
    f gone/x "x"
    f again/old "old"
    l s ->a
    f big size=100000
    f file "file"
    d dir
    f dir/in "in"
"#;

/// Every way to leave a mark in an upper layer.
const CHANGES: &str = "
    rm d/f; rm -r gone; rm -r again; mkdir again; touch again/new; touch -d @1.123456789 again/new
    echo more >> a; chmod 600 b; mv d/g d/moved; ln s s2; ln big big2; mkdir -p n/m; mv n d/
    rm -r d/e; echo file > d/e; mkfifo p; chown 7:8 s; touch -d @1234567890 big
    rm file; mkdir file; rm -r dir; echo now > dir; setfattr -n user.new -v 1 d/moved
    truncate -s 30M holes; echo end >> holes; chmod 2750 d; mknod node c 1 3
    ln -s \"$(printf '%0200d' 0)\" long; touch \"$(printf '%0220d' 1)\"
";

const RENAMES: &str = "
    mv -T d z; mv -T z/e z/e2; mv -T gone again/deep; chmod 640 big; chown 5:6 b
    mv big z/e2/big; touch z/e2/new; rm z/e2/h; mkdir d; touch d/fresh
";

/// All that an upper of a test is opened by.
fn stack(u: &Union) -> Stack {
    let lowers: Vec<PathBuf> = (0..u.layers().lowers.len()).map(|i| u.lower(i, "")).collect();
    Stack::open(&u.upper(""), &lowers).expect("open the layers")
}

/// Applies a layer of an image to a plain copy of what is below it, as image-spec's layer.md says.
fn apply(archive: &Path, to: &Path) {
    let unpacked = Scratch::new();
    let dir = unpacked.dir("layer");
    shell(
        &dir,
        &format!("tar --xattrs --xattrs-include='*' --numeric-owner -xpf {}", archive.display()),
    );
    let script = format!(
        r#"
        find . -depth -name '.wh.*' | while IFS= read -r w; do
            d=$(dirname "$w"); n=$(basename "$w"); rm "$w"
            case $n in
                .wh..wh..opq) if [ -d "{to}/$d" ]; then find "{to}/$d" -mindepth 1 -delete; fi ;;
                *) rm -rf "{to}/$d/${{n#.wh.}}" ;;
            esac
        done
        find . -mindepth 1 | while IFS= read -r f; do
            [ -e "{to}/$f" ] || [ -L "{to}/$f" ] || continue
            if [ -L "$f" ] || [ ! -d "$f" ] || [ -L "{to}/$f" ] || [ ! -d "{to}/$f" ]; then rm -rf "{to}/$f"; fi
        done
        tar --xattrs --xattrs-include='*' --sort=name -cpf - . | tar --xattrs --xattrs-include='*' --numeric-owner -xpf - -C "{to}"
        "#,
        to = to.display()
    );
    shell(&dir, &script);
}

/// Makes changes with a file system, and compares what users see with what the export says.
fn same_by_export(subject: &Subject, script: &str) {
    let mut u =
        Union::on(subject).layer(LOWER).layer("f d/e/below \"below\"\nf top \"top\"").mount();
    let plain = Scratch::new();
    let copy = plain.dir("copy");
    shell(
        &copy,
        &format!(
            "tar --xattrs --xattrs-include='*' -C {} -cpf - . | tar --xattrs --xattrs-include='*' -xpf -",
            u.root().display()
        ),
    );
    shell(u.root(), script);
    let show = Show { nlink: true, ..Show::default() };
    let seen = Tree::read(u.root()).text(&show);
    u.unmount();
    let archive = plain.path().join("layer.tar");
    let file = std::fs::File::create(&archive).expect("create a file");
    export(&stack(&u), Whiteouts::Oci, file).expect("export");
    apply(&archive, &copy);
    assert_same("the layer applied, beside what users saw", &seen, &Tree::read(&copy).text(&show));
}

#[test]
fn an_export_is_what_users_saw() {
    require!("an_export_is_what_users_saw", ours().usable());
    same_by_export(&ours(), CHANGES);
}

#[test]
fn an_export_has_what_redirects_and_metacopies_lead_to() {
    require!("an_export_has_what_redirects_lead_to", ours().usable());
    let both = |u: &str| format!("{u}\n");
    let subject = ours();
    let mut u = Union::on(&subject)
        .layer(LOWER)
        .layer("f d/e/below \"below\"")
        .option("redirect_dir=on")
        .option("metacopy=on")
        .mount();
    let plain = Scratch::new();
    let copy = plain.dir("copy");
    shell(&copy, &format!("cp -a {}/. .", u.root().display()));
    shell(u.root(), &both(RENAMES));
    let seen = Tree::read(u.root()).text(&Show::default());
    u.unmount();
    let archive = plain.path().join("layer.tar");
    let file = std::fs::File::create(&archive).expect("create a file");
    export(&stack(&u), Whiteouts::Oci, file).expect("export");
    apply(&archive, &copy);
    assert_same("the layer applied", &seen, &Tree::read(&copy).text(&Show::default()));
}

#[test]
fn an_export_of_the_kernels_upper_is_what_users_saw() {
    let kernel = Subject::Kernel(KernelFeatures::All);
    require!("an_export_of_the_kernels_upper", kernel.usable());
    same_by_export(&kernel, RENAMES);
    same_by_export(&kernel, CHANGES);
}

#[test]
fn an_export_in_overlays_dialect_is_an_upper_again() {
    require!("an_export_in_overlays_dialect_is_an_upper_again", ours().usable());
    let mut u = Union::on(&ours()).layer(LOWER).mount();
    shell(u.root(), CHANGES);
    let seen = Tree::read(u.root()).text(&Show::default());
    u.unmount();
    let scratch = Scratch::new();
    let archive = scratch.path().join("layer.tar");
    let file = std::fs::File::create(&archive).expect("create a file");
    export(&stack(&u), Whiteouts::Overlay, file).expect("export");
    let upper = scratch.dir("upper");
    shell(
        &upper,
        &format!("tar --xattrs --xattrs-include='*' --numeric-owner -xpf {}", archive.display()),
    );
    let again = Union::on(&ours()).lower_at(&upper).lower_at(&u.lower(0, "")).read_only().mount();
    assert_same("as a layer again", &seen, &Tree::read(again.root()).text(&Show::default()));
}

#[test]
fn a_list_of_changes_names_each_once() {
    require!("a_list_of_changes_names_each_once", ours().usable());
    let mut u = Union::on(&ours()).layer(LOWER).mount();
    shell(
        u.root(),
        "rm d/f; echo x > d/new; chmod 600 b; rm -r again; mkdir again; touch again/new; rm -r gone; echo y >> a",
    );
    u.unmount();
    let list = changes(&stack(&u)).expect("list");
    let lines: Vec<String> =
        list.iter().map(|c| format!("{} {}", c.kind.letter(), c.path.display())).collect();
    let expected = [
        "C /a",
        "C /a2",
        "C /again",
        "A /again/new",
        "D /again/old",
        "C /b",
        "C /d",
        "D /d/f",
        "A /d/new",
        "C /far",
        "C /far/away",
        "C /far/away/a3",
        "D /gone",
    ];
    assert_eq!(lines, expected);
    let without = stack(&u).without(["/d".into(), "/again/new".into()]);
    let list = changes(&without).expect("list");
    assert!(list.iter().all(|c| !c.path.starts_with("/d") && c.path != Path::new("/again/new")));
    assert_eq!(list.len(), expected.len() - 4);
}

#[test]
fn only_the_upper_is_walked() {
    require!("only_the_upper_is_walked", ours().usable());
    let mut u = Union::on(&ours()).layer(LOWER).mount();
    shell(u.root(), "echo x > d/new; rm d/f");
    u.unmount();
    // What can't be read below is not needed, unless a name leads there.
    let broken = u.lower(0, "far");
    std::fs::set_permissions(&broken, std::os::unix::fs::PermissionsExt::from_mode(0o000))
        .expect("chmod");
    let mut bytes = Vec::new();
    let done = export(&stack(&u), Whiteouts::Oci, &mut bytes).expect("export");
    assert_eq!(done.entries, 4, "root, d, d/.wh.f, d/new");
    let mut again = Vec::new();
    export(&stack(&u), Whiteouts::Oci, &mut again).expect("export again");
    assert!(bytes == again, "equal content gives equal bytes");
}
