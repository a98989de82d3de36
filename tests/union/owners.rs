//! Owners that are shown otherwise than the layers have them.

use std::path::Path;

use support::privilege::{Actor, installed, kernel_at_least, root};
use support::{Subject, Union, require};

use crate::files::*;
use crate::subjects::{needs_a_daemon, only_ours, ours};

fn owner(path: &Path) -> (u32, u32) {
    let s = stat(path);
    (s.uid, s.gid)
}

only_ours! {
    /// As fuse-overlayfs: `DISK:SHOWN:LENGTH`, any number of ranges. The kernel has idmapped mounts.
    fn uidmapping_and_gidmapping_take_several_ranges(fs) {
        needs_a_daemon(fs);
        let lower = "f a 100:300 \"\"\nf b 105:301 \"\"\nf c 2000:4009 \"\"\nf d 0644 2004:4000 \"\"";
        let mut u = Union::on(fs)
            .layer(lower)
            .option("uidmapping=100:0:10:2000:50:5:0:1000:1")
            .option("gidmapping=300:0:2:4000:70:10:0:1000:1")
            .mount();
        let shown = || ["a", "b", "c", "d"].map(|n| owner(&u.path(n)));
        assert_eq!(shown(), [(0, 0), (5, 1), (50, 79), (54, 70)]);
        chown(&u.path("a"), 51, 71);
        put(&u.path("new"), "n");
        u.remount();
        assert_eq!((owner(&u.path("a")), owner(&u.path("new"))), ((51, 71), (0, 0)));
        assert_eq!((owner(&u.upper("a")), owner(&u.upper("new"))), ((2001, 4001), (100, 300)));
    }

    /// An option of fuse-overlayfs; the kernel has none.
    fn squash_to_root_shows_root_as_owner_of_all(fs) {
        needs_a_daemon(fs);
        let u = Union::on(fs).layer("f f 5:6 \"\"\nd d 7:8").option("squash_to_root").mount();
        assert_eq!((owner(&u.path("f")), owner(&u.path("d"))), ((0, 0), (0, 0)));
    }

    /// Options of fuse-overlayfs; the kernel has none.
    fn squash_to_uid_and_gid_show_one_owner_of_all(fs) {
        needs_a_daemon(fs);
        let with = Union::on(fs).layer("f f 5:6 \"\"\nd d 7:8");
        let u = with.option("squash_to_uid=33").option("squash_to_gid=44").mount();
        assert_eq!((owner(&u.path("f")), owner(&u.path("d"))), ((33, 44), (33, 44)));
    }

    /// As fuse-overlayfs; the kernel has no such option.
    fn squashing_changes_what_is_shown_and_not_what_is_written(fs) {
        needs_a_daemon(fs);
        let with = Union::on(fs).layer("f f 5:6 \"x\"\nf g 5:6 \"x\"");
        let u = with.option("squash_to_uid=33").option("squash_to_gid=44").mount();
        put(&u.path("new"), "n");
        mkdir(&u.path("dir"));
        append(&u.path("f"), "y");
        chown(&u.path("g"), 51, 71);
        for name in ["new", "dir", "f", "g"] {
            assert_eq!(owner(&u.path(name)), (33, 44), "{name}");
        }
        let written = ["new", "dir", "f", "g"].map(|name| owner(&u.upper(name)));
        assert_eq!(written, [(0, 0), (0, 0), (5, 6), (51, 71)]);
    }
}

/// Returns a user namespace that has 65,536 users from 100,000 on.
fn user_namespace() -> std::fs::File {
    let mut child = std::process::Command::new("unshare")
        .args(["--user", "sleep", "60"])
        .spawn()
        .expect("start unshare");
    let of = |name: &str| format!("/proc/{}/{name}", child.id());
    let link = |path: &str| std::fs::read_link(path).expect("read the namespace");
    while link(&of("ns/user")) == link("/proc/self/ns/user") {
        std::thread::yield_now();
    }
    for map in ["uid_map", "gid_map"] {
        std::fs::write(of(map), "0 100000 65536").expect("write the map");
    }
    let namespace = std::fs::File::open(of("ns/user")).expect("open the namespace");
    child.kill().and_then(|()| child.wait()).expect("end unshare");
    namespace
}

/// The kernel's overlayfs can't.
#[test]
fn an_idmapped_copy_of_the_mount_maps_owners() {
    let name = "an_idmapped_copy_of_the_mount_maps_owners";
    require!(name, ours().usable(), root(), kernel_at_least(6, 12), installed("unshare"));
    let layer = "f f 0644 5:6 \"x\"\nd d 0777\nf suid 4777 5:6 \"x\"";
    let u = Union::on(&ours()).layer(layer).mount();
    let open = |path: &Path| std::fs::File::open(path).expect("open");
    let copy = sys::mount::clone_mount(open(u.root())).expect("copy the mount");
    sys::mount::mount_idmap(&copy, user_namespace()).expect("map the copy");
    let at = u.scratch().dir("mapped");
    sys::mount::move_mount(&copy, open(&at)).expect("place the copy");
    assert_eq!([owner(&at.join("f")), owner(&u.path("f"))], [(100_005, 100_006), (5, 6)]);
    let somebody = Actor { uid: 101_234, gid: 101_234, ..Actor::USER };
    somebody.run(|| {
        put(&at.join("d/new"), "x");
        append(&at.join("suid"), "y");
        chmod(&at.join("d/new"), 0o600);
    });
    assert_eq!([owner(&u.path("d/new")), owner(&u.upper("d/new"))], [(1234, 1234); 2]);
    assert_eq!([mode(&u.path("suid")), mode(&u.path("d/new"))], [0o777, 0o600]);
    chown(&at.join("f"), 100_007, 100_008);
    assert_eq!(owner(&u.upper("f")), (7, 8));
    drop(copy);
    sys::mount::umount(at.as_os_str(), 0).expect("unmount the copy");
}

/// Makes a file and a directory whose owners and modes are kept in attributes. Their owners come
/// last: fuse-overlayfs 1.10 forgets an owner when the mode changes.
fn write(u: &Union, dir: &str) {
    let path = |n: &str| u.path(dir).join(n);
    put(&path("f"), "f");
    chmod(&path("f"), 0o640);
    chown(&path("f"), 5, 6);
    mkdir(&path("sub"));
    chmod(&path("sub"), 0o2770);
    chown(&path("sub"), 7, 8);
    assert_eq!(look(u, dir), WRITTEN, "as the writer shows it");
    assert_eq!(owner(&u.upper(dir).join("f")), (0, 0), "kept in an attribute");
}

const WRITTEN: [((u32, u32), u32); 2] = [((5, 6), 0o640), ((7, 8), 0o2770)];

fn look(u: &Union, dir: &str) -> [((u32, u32), u32); 2] {
    ["f", "sub"].map(|n| u.path(dir).join(n)).map(|path| (owner(&path), mode(&path)))
}

/// The peer begins, so that its attribute is the upper layer's; each reads what the other wrote.
fn attributes_go_to_and_fro(option: &str) {
    let peer = Subject::FuseOverlayfs;
    let mut u = Union::on(&peer).layer("d peer\nd ours").option(option).mount();
    write(&u, "peer");
    u.swap(&ours());
    assert_eq!(look(&u, "peer"), WRITTEN, "as we show what the peer wrote");
    write(&u, "ours");
    u.swap(&peer);
    assert_eq!(look(&u, "ours"), WRITTEN, "as the peer shows what we wrote");
    assert_eq!(look(&u, "peer"), WRITTEN);
}

#[test]
fn fuse_overlayfs_and_we_read_each_others_owners_in_attributes() {
    let peer = Subject::FuseOverlayfs;
    require!("fuse_overlayfs_and_we_read_each_others", peer.usable(), ours().usable());
    attributes_go_to_and_fro("xattr_permissions=1");
    attributes_go_to_and_fro("xattr_permissions=2");
}

#[test]
fn fuse_overlayfs_reads_the_owners_of_an_upper_that_we_began() {
    let peer = Subject::FuseOverlayfs;
    require!("fuse_overlayfs_reads_the_owners_of_an_upper", peer.usable(), ours().usable());
    let mut u = Union::on(&ours()).layer("d d").option("xattr_permissions=1").mount();
    write(&u, "d");
    u.swap(&peer);
    assert_eq!(look(&u, "d"), WRITTEN);
}
