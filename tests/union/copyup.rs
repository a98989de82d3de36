//! What survives copy-up, and what it leaves behind.

use std::os::unix::fs::FileExt;
use std::process::Command;

use nix::errno::Errno;
use support::privilege::installed;
use support::process::{run, shell};
use support::tree::{OLD, Show, Tree};
use support::{Scratch, Union, require};

use crate::files::*;
use crate::subjects::{both, only_ours};

/// Everything that a file can carry; a version 2 capability is 20 bytes.
const FULL: &str = r#"
    d d 2775 5:6 x:user.d=dir
    f d/f 4755 7:8 "content" x:user.f=file mtime=1100000000
    f d/cap 0755 0:0 "x" x:security.capability=\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00
    d d/private 0700 9:9
    f d/private/f "x"
    d d/sticky 1777
    f d/sticky/f "x"
"#;

fn exact(dir: &std::path::Path) -> String {
    Tree::read(dir).text(&Show { mtimes_until: Some(i64::MAX), ..Show::default() })
}

both! {
    fn a_change_of_times_copies_up_everything_else_as_it_was(fs) {
        let u = Union::on(fs).layer(FULL).mount();
        let before = exact(u.root());
        for name in ["d/f", "d/cap", "d/private/f", "d/sticky/f"] {
            set_mtime(&u.path(name), 1_200_000_000);
            assert!(u.upper(name).exists(), "{name} is copied up");
        }
        for (name, time) in [("d/f", 1_100_000_000), ("d/cap", OLD), ("d/private/f", OLD), ("d/sticky/f", OLD)] {
            set_mtime(&u.path(name), time);
        }
        support::tree::assert_same("after copy-up", &before, &exact(u.root()));
    }

    fn directories_keep_mode_owner_and_time_when_a_child_is_copied_up(fs) {
        let mut u = Union::on(fs).layer(FULL).mount();
        append(&u.path("d/private/f"), "y");
        append(&u.path("d/sticky/f"), "y");
        u.remount();
        let modes = ["d", "d/private", "d/sticky"].map(|d| mode(&u.path(d)));
        assert_eq!(modes, [0o2775, 0o700, 0o1777]);
        assert_eq!(stat(&u.path("d")).gid, 6);
        assert_eq!(stat(&u.path("d/private")).mtime.sec, OLD);
        assert_eq!(xattr(&u.path("d"), "user.d").as_deref(), Some(&b"dir"[..]));
    }

    fn the_suid_bit_survives_a_change_of_times(fs) {
        let u = Union::on(fs).layer("f f 4755 1234:1234 \"x\"").mount();
        set_mtime(&u.path("f"), 1_300_000_000);
        assert_eq!((mode(&u.path("f")), stat(&u.path("f")).uid), (0o4755, 1234));
    }

    fn access_control_lists_survive(fs) {
        require!("access_control_lists_survive", installed("setfacl"));
        let u = Union::on(fs).layer("f f 0640 \"x\"\nd d").mount();
        // Set on the layer before it is looked at through the union.
        shell(&u.lower(0, ""), "setfacl -m u:77:rw f; setfacl -d -m g:88:rx d; setfacl -m u:77:x d");
        let before = shell(u.root(), "getfacl -n f d");
        append(&u.path("f"), "y");
        put(&u.path("d/new"), "y");
        assert!(u.upper("f").exists() && u.upper("d").exists());
        assert_eq!(shell(u.root(), "getfacl -n f d"), before);
        assert!(before.contains("user:77:rw-") && before.contains("default:group:88:r-x"));
    }

    fn a_symlink_keeps_owner_and_time(fs) {
        let u = Union::on(fs).layer("l s ->gone 7:8 mtime=1100000000\nl t ->gone 7:8").mount();
        chown(&u.path("s"), 9, 8);
        set_mtime(&u.path("t"), 1_200_000_000);
        let (s, t) = (stat(&u.path("s")), stat(&u.path("t")));
        assert_eq!((s.uid, s.gid, s.mtime.sec), (9, 8, 1_100_000_000));
        assert_eq!((t.uid, t.gid, t.mtime.sec), (7, 8, 1_200_000_000));
    }

    fn fifos_and_devices_can_be_linked_and_changed(fs) {
        let u = Union::on(fs).layer("p p 0600 3:4\nc c 0660 dev=1:3\nb b dev=7:9\ns s").mount();
        for name in ["p", "c", "b", "s"] {
            chown(&u.path(name), 11, 12);
            link(&u.path(name), &u.path(&format!("{name}2")));
        }
        u.assert_tree("", "p p 0600 11:12\nh p2 =p\nc c 0660 11:12 dev=1:3\nh c2 =c\n\
                           b b 11:12 dev=7:9\nh b2 =b\ns s 11:12\nh s2 =s");
    }

    fn holes_stay_holes(fs) {
        let u = Union::on(fs).layer("f f hole=209715200").mount();
        let lower = std::fs::File::options().write(true).open(u.lower(0, "f")).expect("open");
        lower.write_all_at(b"data", 100 << 20).expect("write into the hole");
        drop(lower);
        append(&u.path("f"), "end");
        let blocks = stat(&u.upper("f")).blocks * 512;
        assert!(blocks <= 4 << 20, "{blocks} bytes allocated for a file of 7 bytes of data");
        let mut word = [0; 4];
        open(&u.path("f"), libc::O_RDONLY).read_exact_at(&mut word, 100 << 20).expect("read");
        assert_eq!(&word, b"data");
    }

    fn a_full_disk_leaves_the_file_as_it_was(fs) {
        let small = Scratch::of_size(8 << 20);
        let u = Union::on(fs).layer("f f size=20000000").upper_in(small.path()).mount();
        let before = u.text();
        let opened = try_open(&u.path("f"), libc::O_RDWR).map(std::fs::File::from);
        // The error comes with the open, or with the first write where copy-up is put off to it.
        let failed = opened.and_then(|f| f.write_at(b"x", 0).map_err(errno));
        assert_eq!(failed, Err(Errno::ENOSPC));
        support::tree::assert_same("after the failure", &before, &u.text());
        put(&u.path("small"), "there is room again");
        assert_eq!(get(&u.path("small")), "there is room again");
        assert!(is_gone(&u.upper("f")), "no trace in the upper layer");
    }

    fn leftovers_of_a_crash_in_the_work_directory_do_no_harm(fs) {
        let mut u = Union::on(fs).layer("f f \"12345\"").mount();
        u.unmount();
        for n in 0..20 {
            put(&u.work(&format!("work/{n}")), &"stale".repeat(1000));
            put(&u.work(&format!("work/#{n:x}")), &"stale".repeat(1000));
        }
        u.mount();
        append(&u.path("f"), "6");
        assert_eq!(get(&u.path("f")), "123456");
        u.unmount();
        assert_eq!(list(&u.work("work")), [""; 0]);
    }

    fn lower_layers_stay_untouched(fs) {
        let mut u = Union::on(fs).layer(FULL).layer("d d\nf d/below \"x\"\nf g \"y\"").mount();
        let show = Show { mtimes_until: Some(i64::MAX), nlink: true, marks: true };
        let look = |u: &Union| [0, 1].map(|n| Tree::read(&u.lower(n, "")).text(&show));
        let before = look(&u);
        append(&u.path("d/f"), "y");
        chmod(&u.path("d/below"), 0o600);
        rename(&u.path("g"), &u.path("d/g"));
        shell(u.root(), "rm -r d; mkdir d; touch d/f");
        u.remount();
        shell(u.root(), "rm -r d");
        assert_eq!(look(&u), before);
    }

    fn removing_copies_nothing_up(fs) {
        let small = Scratch::of_size(2 << 20);
        let spec = "f f size=20000000\nd d\nf d/g size=20000000";
        let u = Union::on(fs).layer(spec).upper_in(small.path()).mount();
        unlink(&u.path("f"));
        shell(u.root(), "rm -r d");
        assert_eq!(list(u.root()), [""; 0]);
    }

    fn a_database_in_wal_mode_survives_copy_up(fs) {
        require!("a_database_in_wal_mode_survives_copy_up", installed("sqlite3"));
        let mut u = Union::on(fs).layer("").mount();
        let fill = "PRAGMA journal_mode=WAL; CREATE TABLE t(k INTEGER PRIMARY KEY, v BLOB);
            WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i < 2000)
            INSERT INTO t SELECT i, zeroblob(1000) FROM n;";
        let sql = |u: &Union, dir: &std::path::Path, text: &str| {
            let out = run(Command::new("sqlite3").arg(dir.join("db")).arg(text));
            assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
            assert!(u.lower(0, "db").exists());
            String::from_utf8_lossy(&out.stdout).trim().to_owned()
        };
        u.unmount();
        let made = run(Command::new("sqlite3").arg(u.lower(0, "db")).arg(fill));
        assert!(made.status.success());
        u.mount();
        // One reader has the lower file open while writers copy it up and checkpoint.
        assert_eq!(sql(&u, u.root(), "SELECT count(*) FROM t"), "2000");
        for round in 0..5 {
            let change = format!(
                "BEGIN; UPDATE t SET v = randomblob(1500) WHERE k % 5 = {round}; COMMIT;
                 PRAGMA wal_checkpoint(TRUNCATE); SELECT count(*) FROM t WHERE length(v) = 1500;"
            );
            let said = sql(&u, u.root(), &change);
            assert_eq!(said.lines().last(), Some(&*format!("{}", 400 * (round + 1))));
        }
        u.remount();
        assert_eq!(sql(&u, u.root(), "PRAGMA integrity_check"), "ok");
        assert_eq!(sql(&u, u.root(), "SELECT sum(length(v)) FROM t"), "3000000");
    }

    fn two_descriptors_see_each_others_writes(fs) {
        let u = Union::on(fs).layer("f f \"lower\"").mount();
        let (a, b) = (open(&u.path("f"), libc::O_RDWR), open(&u.path("f"), libc::O_RDWR));
        a.write_all_at(b"AAAAA", 0).expect("write");
        let mut seen = [0; 5];
        b.read_exact_at(&mut seen, 0).expect("read");
        assert_eq!(&seen, b"AAAAA");
        b.write_all_at(b"BB", 5).expect("write");
        assert_eq!(get(&u.path("f")), "AAAAABB");
    }

    fn truncation_at_open_empties_the_file(fs) {
        let mut u = Union::on(fs).layer("f f size=100000").mount();
        drop(open(&u.path("f"), libc::O_WRONLY | libc::O_TRUNC));
        assert_eq!(stat(&u.path("f")).size, 0);
        u.remount();
        assert_eq!(get(&u.path("f")), "");
    }

    fn a_descriptor_from_before_the_copy_up_sees_new_data(fs) {
        let u = Union::on(fs).layer("f f \"old\"").mount();
        let reader = open(&u.path("f"), libc::O_RDONLY);
        let mut seen = [0; 3];
        reader.read_exact_at(&mut seen, 0).expect("read");
        put(&u.path("f"), "new");
        reader.read_exact_at(&mut seen, 0).expect("read");
        assert_eq!(&seen, b"new");
    }
}

only_ours! {
    /// The kernel copies up when it opens.
    fn opening_for_writing_without_writing_copies_nothing(fs) {
        let u = Union::on(fs).layer("f f \"x\"").mount();
        drop(open(&u.path("f"), libc::O_RDWR));
        assert!(is_gone(&u.upper("f")));
    }
}
