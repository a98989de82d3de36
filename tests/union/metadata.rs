//! Modes, owners and limits: umask, set-id bits, default ACLs, permission checks, names.

use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;

use nix::errno::Errno;
use nix::sys::stat::Mode;
use support::Union;
use support::privilege::{Actor, installed};
use support::process::shell;
use support::require;

use crate::files::*;
use crate::subjects::both;

/// Makes a file, a directory and a FIFO with full permissions asked for; returns their modes.
fn made_modes(dir: &std::path::Path) -> [u32; 3] {
    let path = |n: &str| dir.join(n);
    let file = sys::openat::open_at(
        nix::fcntl::AT_FDCWD,
        path("file").as_os_str(),
        libc::O_CREAT | libc::O_WRONLY,
        0o777,
    );
    drop(file.expect("create"));
    mkdir(&path("dir"));
    mknod(&path("fifo"), libc::S_IFIFO | 0o666, 0).expect("mkfifo");
    ["file", "dir", "fifo"].map(|n| mode(&path(n)))
}

both! {
    fn the_umask_is_taken_off(fs) {
        let u = Union::on(fs).layer("d a\nd b\nd c\nd d\nw x\nf c/file \"\"").mount();
        unlink(&u.path("c/file"));
        let modes = |mask, dir: &str| Actor::ROOT.umask(mask).run(|| made_modes(&u.path(dir)));
        assert_eq!(modes(0o077, "a"), [0o700, 0o700, 0o600]);
        assert_eq!(modes(0o022, "b"), [0o755, 0o755, 0o644]);
        assert_eq!(modes(0o027, "c"), [0o750, 0o750, 0o640], "also over a whiteout");
        assert_eq!(modes(0, "d"), [0o777, 0o777, 0o666]);
    }

    fn a_setgid_directory_gives_its_group(fs) {
        let mut u = Union::on(fs).layer("d low 2775 5:6\nf low/f \"x\"").mount();
        mkdir(&u.path("new"));
        chown(&u.path("new"), 5, 7);
        chmod(&u.path("new"), 0o2775);
        unlink(&u.path("low/f"));
        for dir in ["low", "new"] {
            mkdir(&u.path(&format!("{dir}/d")));
            put(&u.path(&format!("{dir}/f")), "over a whiteout or not");
            shell(&u.path(dir), "ln -s t l; mkfifo p");
        }
        u.remount();
        for (dir, gid) in [("low", 6), ("new", 7)] {
            let d = stat(&u.path(&format!("{dir}/d")));
            assert_eq!((d.gid, d.mode & 0o7777), (gid, 0o2755), "{dir}");
            let groups = ["f", "l", "p"].map(|n| stat(&u.path(&format!("{dir}/{n}"))).gid);
            assert_eq!(groups, [gid; 3], "{dir}");
        }
    }

    fn what_a_user_makes_is_the_users(fs) {
        let mut u = Union::on(fs).layer("d d 0777").mount();
        let modes = Actor::USER.run(|| made_modes(&u.path("d")));
        assert_eq!(modes, [0o755, 0o755, 0o644]);
        u.remount();
        let owners = ["file", "dir", "fifo"].map(|n| stat(&u.path("d").join(n)));
        assert_eq!(owners.map(|s| (s.uid, s.gid)), [(1234, 1234); 3]);
    }

    fn a_users_write_clears_set_id_bits(fs) {
        let u = Union::on(fs).layer("f low 6777 \"low\"").mount();
        put(&u.path("new"), "new");
        chmod(&u.path("new"), 0o6777);
        for name in ["low", "new"] {
            let file = u.path(name);
            Actor::USER.run(|| open(&file, libc::O_WRONLY).write_all_at(b"x", 0).expect("write"));
            assert_eq!(mode(&file), 0o777, "{name}");
        }
    }

    /// Whether the bit stays depends on the writer's groups.
    fn a_strangers_write_clears_setgid_without_group_execution(fs) {
        let u = Union::on(fs).layer("f f 2666 0:55 \"x\"\nf g 2666 0:1234 \"x\"").mount();
        let (file, own) = (u.path("f"), u.path("g"));
        for path in [&file, &own] {
            Actor::USER.run(|| open(path, libc::O_WRONLY).write_all_at(b"y", 0).expect("write"));
        }
        assert_eq!(mode(&file), 0o666);
        assert_eq!(mode(&own), 0o2666, "the writer's own group");
    }

    /// The kernel makes a change of mode of it, which is refused.
    fn chown_to_nobody_new_is_for_the_owner_of_a_suid_file(fs) {
        let layer = "f f 4755 0:0 \"x\"\nf own 4755 1234:1234 \"x\"\nf open 4777 0:0 \"x\"
            f plain 0755 0:0 \"x\"\nf data 2666 5:5 \"x\"";
        let u = Union::on(fs).layer(layer).mount();
        let chown = |name: &str| {
            let file = u.path(name);
            let here = nix::fcntl::AT_FDCWD;
            (sys::name::chown_at(here, file.as_os_str(), None, None), mode(&file))
        };
        Actor::USER.run(|| {
            assert_eq!(chown("f"), (Err(Errno::EPERM), 0o4755));
            assert_eq!(chown("open"), (Err(Errno::EPERM), 0o4777));
            assert_eq!(chown("own"), (Ok(()), 0o755));
            assert_eq!(chown("plain"), (Ok(()), 0o755));
        });
        assert_eq!(chown("f"), (Ok(()), 0o755));
        assert_eq!(chown("data"), (Ok(()), 0o2666), "it says nothing of execution");
    }

    fn statx_tells_the_time_of_birth(fs) {
        let u = Union::on(fs).layer("f f \"x\"").mount();
        let born = |path: &std::path::Path| std::fs::metadata(path).and_then(|m| m.created());
        let lower = born(&u.path("f")).expect("the time of birth of a lower file");
        assert_eq!(lower, born(&u.lower(0, "f")).expect("the layer's own"));
        put(&u.path("new"), "x");
        let new = born(&u.path("new")).expect("the time of birth of a new file");
        assert_eq!(new, born(&u.upper("new")).expect("the upper's own"));
    }

    fn a_users_truncation_clears_set_id_bits(fs) {
        let u = Union::on(fs).layer("f low 6777 \"low\"\nf low2 6777 \"low\"").mount();
        put(&u.path("new"), "new");
        chmod(&u.path("new"), 0o6777);
        for name in ["low", "new"] {
            let file = u.path(name);
            Actor::USER.run(|| nix::unistd::truncate(&file, 1).expect("truncate"));
            assert_eq!(mode(&file), 0o777, "{name}");
        }
        let file = u.path("low2");
        Actor::USER.run(|| drop(open(&file, libc::O_WRONLY | libc::O_TRUNC)));
        assert_eq!(mode(&file), 0o777, "by O_TRUNC");
    }

    fn a_new_owner_clears_set_id_bits(fs) {
        let u = Union::on(fs).layer("f low 6775 \"x\"\nf data 2644 \"x\"\nd d 6775").mount();
        chown(&u.path("low"), 1, 1);
        chown(&u.path("data"), 1, 1);
        chown(&u.path("d"), 1, 1);
        assert_eq!(mode(&u.path("low")), 0o775);
        assert_eq!(mode(&u.path("data")), 0o2644, "no group execution: the bit means something else");
        assert_eq!(mode(&u.path("d")), 0o6775, "a directory keeps them");
    }

    fn a_write_drops_capabilities(fs) {
        let cap = "x:security.capability=\\x01\\x00\\x00\\x02\\x00\\x20\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00";
        let u = Union::on(fs).layer(&format!("f f 0777 \"x\" {cap}\nf g 0777 \"x\" {cap}")).mount();
        assert!(xattr(&u.path("f"), "security.capability").is_some());
        append(&u.path("f"), "y");
        assert_eq!(xattr(&u.path("f"), "security.capability"), None);
        chown(&u.path("g"), 3, 3);
        assert_eq!(xattr(&u.path("g"), "security.capability"), None);
    }

    fn a_group_one_is_not_in_gives_no_setgid(fs) {
        let u = Union::on(fs).layer("f f 0755 1234:55 \"x\"\nf own 0755 1234:1234 \"x\"").mount();
        let (f, own) = (u.path("f"), u.path("own"));
        Actor::USER.run(|| {
            chmod(&f, 0o2755);
            chmod(&own, 0o2755);
        });
        assert_eq!((mode(&f), mode(&own)), (0o755, 0o2755));
    }

    fn users_may_do_what_modes_allow(fs) {
        let u = Union::on(fs)
            .layer("f secret 0600 \"x\"\nd closed 0700\nf closed/f \"x\"\nd sticky 1777\nf sticky/f 0666 \"x\"\nf mine 0600 1234:1234 \"x\"")
            .mount();
        let path = |n: &str| u.path(n);
        Actor::USER.run(|| {
            let denied = Err(Errno::EACCES);
            assert_eq!(try_open(&path("secret"), libc::O_RDONLY).map(drop), denied);
            assert_eq!(try_stat(&path("closed/f")).map(drop), denied);
            assert_eq!(try_open(&path("new"), libc::O_CREAT | libc::O_WRONLY).map(drop), denied);
            assert_eq!(try_rename(&path("mine"), &path("moved"), 0), denied);
            let not_owner = Err(Errno::EPERM);
            assert_eq!(try_chmod(&path("secret"), 0o644), not_owner);
            assert_eq!(try_rename(&path("sticky/f"), &path("sticky/g"), 0), not_owner);
            let here = nix::fcntl::AT_FDCWD;
            let give = sys::name::chown_at(here, path("mine").as_os_str(), Some(0), None);
            assert_eq!(give, not_owner);
            append(&path("mine"), "y");
            put(&path("sticky/new"), "n");
        });
        assert_eq!(stat(&path("mine")).uid, 1234);
    }

    fn default_acls_are_inherited_instead_of_the_umask(fs) {
        require!("default_acls_are_inherited", installed("setfacl"));
        let mut u = Union::on(fs).layer("d d").mount();
        shell(u.root(), "setfacl -d -m u::rwx,g::rx,o::-,u:77:rwx d");
        let dir = u.path("d");
        Actor::ROOT.umask(0o077).run(|| made_modes(&dir));
        u.remount();
        let acl = |name: &str| shell(&u.path("d"), &format!("getfacl -cn {name}"));
        let sub = acl("dir");
        assert!(sub.contains("\nuser:77:rwx\n") && sub.contains("default:user:77:rwx"), "{sub}");
        assert!(acl("file").contains("user:77:rwx"), "{}", acl("file"));
        assert_eq!(mode(&u.path("d/file")), 0o770, "the umask doesn't count");
        assert_eq!(mode(&u.path("d/fifo")), 0o660);
        Actor { uid: 77, gid: 99, umask: 0 }.run(|| put(&dir.join("dir/by-acl"), "x"));
    }

    fn access_acls_decide(fs) {
        require!("access_acls_decide", installed("setfacl"));
        let u = Union::on(fs).layer("f f 0600 \"x\"").mount();
        shell(u.root(), "setfacl -m u:1234:rw f");
        let file = u.path("f");
        Actor::USER.run(|| append(&file, "y"));
        let other = Actor { uid: 4321, gid: 4321, umask: 0 };
        let denied = other.run(|| try_open(&file, libc::O_RDONLY).map(drop));
        assert_eq!(denied, Err(Errno::EACCES));
        assert_eq!(get(&file), "xy");
    }

    fn names_may_have_255_bytes_and_no_more(fs) {
        let long = "n".repeat(255);
        let odd = "ü".repeat(122) + "\u{1}";
        let spec = format!("f {long} \"x\"");
        let mut u = Union::on(fs).layer(&spec).mount();
        assert_eq!(get(&u.path(&long)), "x");
        put(&u.path(&odd), "y");
        u.remount();
        assert_eq!(get(&u.path(&odd)), "y");
        append(&u.path(&long), "z");
        unlink(&u.path(&long));
        u.remount();
        assert!(is_gone(&u.path(&long)));
        mkdir(&u.path(&long));
        let longer = try_open(&u.path(&"n".repeat(256)), libc::O_CREAT | libc::O_WRONLY);
        assert_eq!(longer.map(drop), Err(Errno::ENAMETOOLONG));
        let told = nix::sys::statvfs::statvfs(u.root()).expect("statvfs").name_max();
        assert_eq!(told, 255);
    }

    fn names_of_any_bytes_are_kept(fs) {
        let name = std::ffi::OsStr::from_bytes(b"\xff\xfe \n\\:,=");
        let mut u = Union::on(fs).layer("").mount();
        std::fs::write(u.root().join(name), "x").expect("create");
        u.remount();
        assert_eq!(std::fs::read(u.root().join(name)).expect("read"), b"x");
    }

    fn times_are_set_and_kept_to_the_nanosecond(fs) {
        use sys::name::{SetTime, utimens_at};
        use sys::stat::Time;
        let mut u = Union::on(fs).layer("f f \"x\"\nd d").mount();
        let (a, m) = (Time { sec: 5, nsec: 999_999_999 }, Time { sec: 1_600_000_000, nsec: 1 });
        for name in ["f", "d"] {
            let path = u.path(name);
            utimens_at(nix::fcntl::AT_FDCWD, path.as_os_str(), SetTime::At(a), SetTime::At(m))
                .expect("utimens");
        }
        u.remount();
        for name in ["f", "d"] {
            let s = stat(&u.path(name));
            assert_eq!((s.atime, s.mtime), (a, m), "{name}");
        }
    }

    fn statfs_tells_of_the_upper_layer(fs) {
        let u = Union::on(fs).layer("").mount();
        let ours = nix::sys::statvfs::statvfs(u.root()).expect("statvfs");
        let upper = nix::sys::statvfs::statvfs(&u.upper("")).expect("statvfs");
        assert_eq!((ours.blocks(), ours.files()), (upper.blocks(), upper.files()));
    }

    fn a_read_only_union_refuses_every_change(fs) {
        let u = Union::on(fs).layer("f f \"x\"\nd d").layer("").read_only().mount();
        let refused = Err(Errno::EROFS);
        assert_eq!(try_open(&u.path("f"), libc::O_WRONLY).map(drop), refused);
        assert_eq!(try_open(&u.path("n"), libc::O_CREAT | libc::O_WRONLY).map(drop), refused);
        assert_eq!(try_rename(&u.path("f"), &u.path("g"), 0), refused);
        assert_eq!(try_rmdir(&u.path("d")), refused);
        assert_eq!(try_chmod(&u.path("f"), 0o600), refused);
        assert_eq!(set_xattr(&u.path("f"), "user.x", b"y"), refused);
        assert_eq!(get(&u.path("f")), "x");
    }

    fn fchmod_reaches_the_file_behind_a_descriptor(fs) {
        let u = Union::on(fs).layer("f f \"x\"").mount();
        let file = open(&u.path("f"), libc::O_RDONLY);
        nix::sys::stat::fchmod(&file, Mode::from_bits_truncate(0o640)).expect("fchmod");
        assert_eq!(mode(&u.path("f")), 0o640);
    }
}
