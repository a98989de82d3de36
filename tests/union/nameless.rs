//! Files that are made without a name (`O_TMPFILE` of open(2)).

use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags};
use support::Union;
use support::privilege::Actor;
use sys::stat::stat_fd;

use crate::files::*;
use crate::subjects::both;

fn nameless(dir: &Path, more: i32, mode: u32) -> File {
    let flags = libc::O_TMPFILE | libc::O_RDWR | more;
    sys::openat::open_at(AT_FDCWD, dir.as_os_str(), flags, mode).expect("O_TMPFILE").into()
}

fn give_name(file: &File, name: &Path) -> Result<(), Errno> {
    let from = format!("/proc/self/fd/{}", file.as_raw_fd());
    nix::unistd::linkat(AT_FDCWD, from.as_str(), AT_FDCWD, name, AtFlags::AT_SYMLINK_FOLLOW)
}

both! {
    fn o_tmpfile_makes_a_nameless_file(fs) {
        let u = Union::on(fs).layer("d d\nf d/low \"low\"").mount();
        let file = nameless(&u.path("d"), 0, 0o600);
        file.write_all_at(b"content", 0).expect("write");
        file.set_len(3).expect("ftruncate");
        let mut bytes = [0; 3];
        file.read_exact_at(&mut bytes, 0).expect("read");
        assert_eq!(&bytes, b"con");
        file.sync_all().expect("fsync");
        assert_eq!(stat_fd(&file).expect("fstat").nlink, 0);
        assert_eq!(list(&u.path("d")), ["low"]);
        drop(file);
        assert_eq!(list(&u.upper("d")), [""; 0]);
    }

    fn a_nameless_file_can_be_given_a_name(fs) {
        let mut u = Union::on(fs).layer("d d\nf d/low \"low\"").mount();
        unlink(&u.path("d/low"));
        let file = nameless(&u.path("d"), 0, 0o640);
        file.write_all_at(b"content", 0).expect("write");
        let number = stat_fd(&file).expect("fstat").ino;
        give_name(&file, &u.path("new")).expect("a name that was never there");
        give_name(&file, &u.path("d/low")).expect("a name that was removed");
        assert_eq!(give_name(&file, &u.path("new")), Err(Errno::EEXIST));
        let s = stat_fd(&file).expect("fstat");
        assert_eq!((s.nlink, s.ino), (2, number));
        file.write_all_at(b"C", 0).expect("write");
        drop(file);
        for _ in 0..2 {
            assert_eq!([get(&u.path("new")), get(&u.path("d/low"))], ["Content"; 2]);
            let s = stat(&u.path("new"));
            assert_eq!((s.ino, s.nlink, s.mode & 0o7777), (stat(&u.path("d/low")).ino, 2, 0o640));
            u.remount();
        }
    }

    fn a_nameless_file_has_the_owner_and_mode_that_a_named_one_has(fs) {
        let u = Union::on(fs).layer("d d 0777\nd set 2777 0:55").mount();
        for dir in ["d", "set"] {
            let dir = u.path(dir);
            let (without, with) = Actor::USER.run(|| {
                let without = nameless(&dir, 0, 0o666);
                let flags = libc::O_CREAT | libc::O_RDWR;
                let with = sys::openat::open_at(AT_FDCWD, dir.join("n").as_os_str(), flags, 0o666);
                (stat_fd(&without).expect("fstat"), stat_fd(with.expect("create")).expect("fstat"))
            });
            let seen = |s: &sys::stat::Stat| (s.mode, s.uid, s.gid);
            assert_eq!(seen(&without), seen(&with));
            assert_eq!(without.uid, 1234);
        }
    }

    fn with_o_excl_it_never_gets_a_name(fs) {
        let u = Union::on(fs).layer("d d").mount();
        let file = nameless(&u.path("d"), libc::O_EXCL, 0o600);
        assert_eq!(give_name(&file, &u.path("n")), Err(Errno::ENOENT));
        assert!(is_gone(&u.path("n")));
    }

    fn a_read_only_union_makes_none(fs) {
        let u = Union::on(fs).layer("d d").layer("").read_only().mount();
        let made = try_open(&u.path("d"), libc::O_TMPFILE | libc::O_RDWR).map(drop);
        assert_eq!(made, Err(Errno::EROFS));
    }
}
