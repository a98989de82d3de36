//! Layers that others wrote, and ours as others read them.

use std::process::Command;

use support::process::{run, shell};
use support::subject::KernelFeatures;
use support::tree::{Show, Tree, assert_same};
use support::{Subject, Union, require};

use crate::files::*;
use crate::subjects::{both, only_ours, ours};

const LOWER: &str = r#"
    f a "a" x:user.n=v
    h a2 =a
    f b 4755 3:4 "b"
    f d/f "f"
    f d/g "g"
    d d/e
    f d/e/h "h"
    f gone/x "x"
    f again/old "old"
    l s ->a
    f big size=100000
"#;

/// Every way to leave a mark in an upper layer.
const CHANGES: &str = "
    rm d/f; rm -r gone; rm -r again; mkdir again; touch again/new
    echo more >> a; chmod 600 b; mv d/g d/moved; ln s s2; ln big big2; mkdir -p n/m; mv n d/
    rm -r d/e; echo file > d/e; mkfifo p; chown 7:8 s; touch -d @1234567890 big
";

const KERNEL: Subject = Subject::Kernel(KernelFeatures::Contract);
const KERNEL_DEFAULT: Subject = Subject::Kernel(KernelFeatures::Default);
const KERNEL_ALL: Subject = Subject::Kernel(KernelFeatures::All);

/// Shows everything that both sides must agree on.
fn look(u: &Union) -> String {
    Tree::read(u.root()).text(&Show { nlink: true, ..Show::default() })
}

/// Makes the changes with one file system and reads them with another.
fn read_by(u: &mut Union, changes: &str, reader: &Subject) {
    shell(u.root(), changes);
    let written = look(u);
    u.swap(reader);
    assert_same("as the other reads it", &written, &look(u));
}

#[test]
fn we_read_what_the_kernel_wrote() {
    require!("we_read_what_the_kernel_wrote", KERNEL.usable(), ours().usable());
    let mut u = Union::on(&KERNEL).layer(LOWER).layer("f d/e/below \"\"").mount();
    read_by(&mut u, CHANGES, &ours());
}

#[test]
fn the_kernel_reads_what_we_wrote() {
    require!("the_kernel_reads_what_we_wrote", KERNEL.usable(), ours().usable());
    let mut u = Union::on(&ours()).layer(LOWER).layer("f d/e/below \"\"").mount();
    read_by(&mut u, CHANGES, &KERNEL);
}

#[test]
fn the_layer_goes_to_and_fro() {
    require!("the_layer_goes_to_and_fro", KERNEL.usable(), ours().usable());
    let mut u = Union::on(&KERNEL).layer(LOWER).mount();
    read_by(&mut u, "rm d/f; echo k >> a", &ours());
    read_by(&mut u, "rm -r d; mkdir d; echo o >> a2; mv b c", &KERNEL);
    read_by(&mut u, "touch d/f; mv c b; rm a; ln big a", &ours());
    read_by(&mut u, "rm -r again; mv s d/; echo x > again", &KERNEL);
}

#[test]
fn we_follow_the_kernels_redirects_and_metacopies() {
    require!("we_follow_the_kernels_redirects", KERNEL_ALL.usable(), ours().usable());
    let mut u = Union::on(&KERNEL_ALL).layer(LOWER).layer("f d/e/below \"b\"").mount();
    let changes = "mv -T d z; mv -T z/e z/e2; mv -T gone again/deep; chmod 640 big; chown 5:6 b
                   mv big z/e2/big; touch z/e2/new; rm z/e2/h";
    read_by(&mut u, changes, &ours());
}

#[test]
fn an_upper_of_a_kernel_mount_becomes_our_lower() {
    require!("an_upper_of_a_kernel_mount_becomes_our_lower", KERNEL_ALL.usable(), ours().usable());
    let mut u = Union::on(&KERNEL_ALL).layer(LOWER).mount();
    shell(u.root(), "mv -T d z; rm a; rm -r again; mkdir again; chmod 640 big");
    let written = look(&u);
    u.unmount();
    let mut builder = Union::on(&ours()).lower_at(&u.upper(""));
    builder = builder.lower_at(&u.lower(0, ""));
    let over = builder.mount();
    let show = Show::default();
    // Link counts of what an upper layer linked differ below another upper.
    let without_count = |text: &str| -> String {
        let words = |l: &str| {
            let all: Vec<_> = l.split(' ').filter(|w| !w.starts_with("nlink=")).collect();
            all.join(" ") + "\n"
        };
        text.lines().map(words).collect()
    };
    assert_same("as a lower", &without_count(&written), &Tree::read(over.root()).text(&show));
}

both! {
    /// As a kernel's upper layer does when it becomes a lower one.
    fn marks_in_a_directory_of_one_layer_lead_to_the_layers_below(fs) {
        let with = Union::on(fs).layer("f new/f hole=100000\nd new/d").layer("f f size=100000\nf d/g \"g\"");
        let top = with.layers().lowers[0].join("new");
        set_xattr(&top.join("f"), "trusted.overlay.metacopy", b"").expect("mark");
        set_xattr(&top.join("f"), "trusted.overlay.redirect", b"/f").expect("redirect");
        set_xattr(&top.join("d"), "trusted.overlay.redirect", b"/d").expect("redirect");
        let u = with.option("redirect_dir=on").option("metacopy=on").mount();
        assert!(std::fs::read(u.path("new/f")).expect("read") == support::tree::pattern(100_000));
        assert_eq!(list(&u.path("new/d")), ["g"]);
    }

    /// Layers unpacked without privileges mark whiteouts by attributes (Linux 6.7).
    fn whiteouts_made_of_attributes_hide(fs) {
        let top = "d d x:trusted.overlay.opaque=x\nf d/a \"\" x:trusted.overlay.whiteout=y\nf d/c \"c\"";
        let u = Union::on(fs).layer(top).layer("f d/a \"a\"\nf d/b \"b\"").mount();
        assert_eq!(list(&u.path("d")), ["b", "c"]);
        assert!(is_gone(&u.path("d/a")));
        assert_eq!(xattrs(&u.path("d")), [""; 0]);
    }

    fn a_whiteout_of_nothing_hides_itself(fs) {
        let u = Union::on(fs).layer("d d\nw d/w").layer("f d/f \"x\"").mount();
        assert_eq!(list(&u.path("d")), ["f"]);
        assert!(is_gone(&u.path("d/w")));
        put(&u.path("d/w"), "new");
        assert_eq!(get(&u.path("d/w")), "new");
    }

    fn overlayfs_can_lie_on_it(fs) {
        let below = Union::on(fs).layer("f a \"a\"\nf d/f \"f\"").mount();
        put(&below.path("new"), "n");
        let over = Union::on(&KERNEL_DEFAULT).lower_at(below.root()).mount();
        append(&over.path("a"), "b");
        unlink(&over.path("d/f"));
        assert_eq!((get(&over.path("a")), get(&over.path("new"))), ("ab".into(), "n".into()));
        assert_eq!(get(&below.path("a")), "a");
    }

    fn it_can_lie_on_overlayfs_and_on_itself(fs) {
        for lower in [&KERNEL, fs] {
            let below = Union::on(lower).layer("f a \"a\"\nf d/f \"f\"").mount();
            let over = Union::on(fs).lower_at(below.root()).mount();
            append(&over.path("a"), "b");
            shell(over.root(), "rm -r d; mkdir d");
            assert_eq!((get(&over.path("a")), list(&over.path("d"))), ("ab".into(), vec![]));
            assert_eq!((get(&below.path("a")), get(&below.path("d/f"))), ("a".into(), "f".into()));
        }
    }

    /// After two colons (Linux 6.5).
    fn data_only_layers_give_data_and_no_names(fs) {
        let with = Union::on(fs).layer("f f hole=100000").layer("f blobs/f size=100000");
        // The layers that the builder has laid out, and the second as one for data.
        let [top, data] = [0, 1].map(|n| with.layers().lowers[n].clone());
        set_xattr(&top.join("f"), "trusted.overlay.metacopy", b"").expect("mark");
        set_xattr(&top.join("f"), "trusted.overlay.redirect", b"/blobs/f").expect("redirect");
        let over = Union::on(fs).lower_at(&top).lower_at("".as_ref()).lower_at(&data);
        let u = over.option("redirect_dir=on").option("metacopy=on").mount();
        assert_eq!(list(u.root()), ["f"]);
        assert!(std::fs::read(u.path("f")).expect("read") == support::tree::pattern(100_000));
        append(&u.path("f"), "end");
        assert_eq!(stat(&u.path("f")).size, 100_003);
    }

    /// What a crash may have left incomplete isn't used by mistake.
    fn a_volatile_mount_is_marked_and_not_mounted_again(fs) {
        let mut u = Union::on(fs).layer("f f \"x\"").option("volatile").mount();
        append(&u.path("f"), "y");
        let mark = u.work("work/incompat/volatile");
        assert!(mark.exists(), "the kernel's mark");
        u.unmount();
        let again = support::Mounted::new(fs, u.layers(), u.root());
        assert!(again.is_err(), "it may be incomplete");
        shell(&u.work("work"), "rm -r incompat");
        u.mount();
        assert_eq!(get(&u.path("f")), "xy");
    }
}

only_ours! {
    /// As engines unpack image layers; the kernel doesn't know this dialect.
    fn aufs_whiteouts_hide(fs) {
        let top = "f .wh.a \"\"\nf d/.wh..wh..opq \"\"\nf d/new \"n\"\nf e/.wh.f \"\"";
        let mut u = Union::on(fs).layer(top).layer("f a \"x\"\nf d/old \"o\"\nf e/f \"x\"\nf e/g \"g\"").mount();
        for _ in 0..2 {
            u.assert_tree("", "d d\nf d/new \"n\"\nd e\nf e/g \"g\"");
            u.remount();
        }
        put(&u.path("a"), "back");
        put(&u.path("e/f"), "back");
        u.remount();
        assert_eq!((get(&u.path("a")), list(&u.path("e"))), ("back".into(), vec!["f".into(), "g".into()]));
    }

    /// The kernel reads one of the three, by mount option.
    fn opaque_directories_of_every_dialect_hide(fs) {
        let top = "d a x:user.overlay.opaque=y\nd b x:user.fuseoverlayfs.opaque=y\nd c x:trusted.overlay.opaque=y";
        let u = Union::on(fs).layer(top).layer("f a/f \"\"\nf b/f \"\"\nf c/f \"\"").mount();
        u.assert_tree("", "d a\nd b\nd c");
    }

    /// The dialect of fuse-overlayfs and of podman's layers with `force_mask`.
    fn owners_and_modes_recorded_in_attributes_are_shown(fs) {
        let lower = "d . x:user.containers.override_stat=0:0:0755\n\
                     f f 0700 \"x\" x:user.containers.override_stat=5:6:04755";
        let u = Union::on(fs).layer(lower).option("xattr_permissions=2").mount();
        let s = stat(&u.path("f"));
        assert_eq!((s.uid, s.gid, s.mode & 0o7777), (5, 6, 0o4755));
        assert_eq!(xattrs(&u.path("f")), [""; 0]);
    }
}

#[test]
fn we_read_what_fuse_overlayfs_wrote() {
    let peer = Subject::FuseOverlayfs;
    require!("we_read_what_fuse_overlayfs_wrote", peer.usable(), ours().usable());
    let mut u = Union::on(&peer).layer(LOWER).mount();
    // What it does right: no hard links, no owner of a symlink.
    let changes = "rm d/f; rm -r gone; rm -r again; mkdir again; touch again/new
                   chmod 600 b; mv d/g d/moved; mkdir -p n/m; mv n d/; rm -r d/e; echo file > d/e";
    shell(u.root(), changes);
    let show = Show::default();
    let written = Tree::read(u.root()).text(&show);
    u.swap(&ours());
    assert_same("as we read it", &written, &Tree::read(u.root()).text(&show));
}

/// Each way of making something where a whiteout of the other dialect stands in the upper itself.
const OVER_WHITEOUTS: &str = "mkdir d; printf f > f; ln other l; mv other r; mkdir m; mv m e";

#[test]
fn whiteouts_that_somebody_else_put_into_the_upper_are_taken_over() {
    require!("whiteouts_that_somebody_else_put_into_the_upper_are_taken_over", ours().usable());
    let lower: String = ["d", "f", "l", "r", "e"].map(|n| format!("f {n} \"low\"\n")).concat();
    let expected = "d d\nf f \"f\"\nf l \"o\"\nh r =l\nd e";
    let plain = ["d", "f", "l", "r", "e"].map(|n| format!("f .wh.{n} \"\"\n")).concat();
    let devices = ["d", "f", "l", "r", "e"].map(|n| format!("c {n} 0:0\n")).concat();
    let scratch = support::Scratch::new();
    let script = scratch.path().join("with-dot-whiteouts");
    let program = ours().program().expect("a program");
    let text = format!(
        "#!/bin/sh\nFUSE_OVERLAYFS_DISABLE_OVL_WHITEOUT=1 exec {} \"$@\"\n",
        program.display()
    );
    std::fs::write(&script, text).expect("write a script");
    chmod(&script, 0o755);
    for (upper, program) in [(plain, ours()), (devices, Subject::Ours(script))] {
        let with = Union::on(&program).layer(&lower).upper(&format!("{upper}f other \"o\""));
        let mut u = with.mount();
        assert_eq!(list(u.root()), ["other"]);
        shell(u.root(), OVER_WHITEOUTS);
        for _ in 0..2 {
            u.assert_tree("", expected);
            u.remount();
        }
        u.unmount();
        let mut left = list(&u.upper(""));
        left.sort();
        assert_eq!(left, ["d", "e", "f", "l", "r"], "no whiteout is left beside what hides it");
    }
}

#[test]
fn an_unprivileged_kernel_mount_and_we_read_each_other() {
    let peer = Subject::Kernel(KernelFeatures::UserXattr);
    require!("an_unprivileged_kernel_mount_and_we", peer.usable(), ours().usable());
    let mut u = Union::on(&peer).layer("f d/f \"x\"\nf a \"a\"").mount();
    read_by(&mut u, "rm -r d; mkdir d; echo b >> a", &ours());
    assert_eq!(list(&u.path("d")), [""; 0]);
}

#[test]
fn five_hundred_layers_are_mounted() {
    require!("five_hundred_layers_are_mounted", ours().usable());
    let mut builder = Union::on(&ours());
    for n in 0..500 {
        builder = builder.layer(&format!("f own{n} \"{n}\"\nf d/own{n} \"\"\nf shared \"{n}\""));
    }
    let u = builder.mount();
    assert_eq!(list(u.root()).len(), 502);
    assert_eq!(list(&u.path("d")).len(), 500);
    assert_eq!((get(&u.path("shared")), get(&u.path("own499"))), ("0".into(), "499".into()));
    append(&u.path("own250"), "x");
    shell(u.root(), "rm -r d");
    assert_eq!(list(u.root()).len(), 501);
}

#[test]
fn colons_commas_and_backslashes_in_paths_are_escaped() {
    require!("colons_in_paths_are_escaped", ours().usable());
    let scratch = support::Scratch::new();
    let (lower, upper) = (scratch.dir("lo:w,e\\r"), scratch.dir("up,per"));
    let (work, point) = (scratch.dir("work"), scratch.dir("mnt"));
    put(&lower.join("f"), "x");
    let path = scratch.path().display();
    let data =
        format!("lowerdir={path}/lo\\:w\\,e\\\\r,upperdir={path}/up\\,per,workdir={path}/work");
    support::process::adopt_orphans();
    let program = ours().program().expect("a program");
    let out = run(Command::new(program).args(["-o", &data]).arg(&point));
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    append(&point.join("f"), "y");
    assert_eq!((get(&upper.join("f")), work.exists()), ("xy".into(), true));
    let daemon = support::process::daemon_of(&point).expect("a daemon");
    support::mount::unmount_when_free(&point).expect("unmount");
    assert!(support::process::reap(daemon).is_some());
}
