//! Files and directories that are removed and still open.

use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;

use nix::errno::Errno;
use nix::sys::stat::{Mode, fchmod, futimens};
use support::Union;
use sys::stat::stat_fd;

use crate::files::*;
use crate::subjects::both;

/// Does everything that can be done with a descriptor.
fn use_fully(mut file: std::fs::File, content: &str) {
    let mut text = String::new();
    file.seek(SeekFrom::Start(0)).expect("seek");
    file.read_to_string(&mut text).expect("read");
    assert_eq!(text, content);
    assert_eq!(stat_fd(&file).expect("fstat").nlink, 0);
    file.write_all(b" more").expect("write");
    file.set_len(3).expect("ftruncate");
    fchmod(&file, Mode::from_bits_truncate(0o640)).expect("fchmod");
    nix::unistd::fchown(&file, Some(5.into()), Some(6.into())).expect("fchown");
    let time = nix::sys::time::TimeSpec::new(1_400_000_000, 7);
    futimens(&file, &time, &time).expect("futimens");
    sys::xattr::set(sys::xattr::of(&file), "user.x".as_ref(), b"v", 0).expect("fsetxattr");
    let value = sys::xattr::get(sys::xattr::of(&file), "user.x".as_ref()).expect("fgetxattr");
    assert_eq!(value.as_deref(), Some(&b"v"[..]));
    file.sync_all().expect("fsync");
    let s = stat_fd(&file).expect("fstat");
    assert_eq!((s.mode & 0o7777, s.uid, s.gid, s.size), (0o640, 5, 6, 3));
    assert_eq!(s.mtime.sec, 1_400_000_000);
    let again = sys::openat::reopen(&file, libc::O_RDWR).expect("reopen through /proc");
    let again = std::fs::File::from(again);
    again.write_all_at(b"Z", 0).expect("write through the second descriptor");
    let mut byte = [0];
    file.read_exact_at(&mut byte, 0).expect("read through the first");
    assert_eq!(&byte, b"Z");
}

both! {
    fn a_new_file_works_on(fs) {
        let u = Union::on(fs).layer("").mount();
        put(&u.path("f"), "content");
        let file = open(&u.path("f"), libc::O_RDWR);
        unlink(&u.path("f"));
        use_fully(file, "content");
        assert!(is_gone(&u.path("f")) && is_gone(&u.upper("f")));
    }

    fn a_copied_up_file_works_on(fs) {
        let u = Union::on(fs).layer("f f \"content\"").mount();
        let file = open(&u.path("f"), libc::O_RDWR);
        file.write_all_at(b"C", 0).expect("write");
        unlink(&u.path("f"));
        use_fully(file, "Content");
        assert!(is_gone(&u.path("f")));
    }

    fn a_lower_file_open_for_reading_is_read_on(fs) {
        let u = Union::on(fs).layer("f f size=300000").mount();
        let file = open(&u.path("f"), libc::O_RDONLY);
        unlink(&u.path("f"));
        let mut all = Vec::new();
        (&file).read_to_end(&mut all).expect("read");
        assert!(all == support::tree::pattern(300_000));
        assert_eq!(stat_fd(&file).expect("fstat").size, 300_000);
    }

    fn a_file_replaced_by_rename_works_on(fs) {
        let u = Union::on(fs).layer("f old \"old\"").mount();
        let file = open(&u.path("old"), libc::O_RDWR);
        file.write_all_at(b"O", 0).expect("write");
        put(&u.path("new"), "new");
        rename(&u.path("new"), &u.path("old"));
        use_fully(file, "Old");
        assert_eq!(get(&u.path("old")), "new");
    }

    fn one_of_two_links_leaves_the_other(fs) {
        let u = Union::on(fs).layer("").mount();
        put(&u.path("a"), "x");
        link(&u.path("a"), &u.path("b"));
        let file = open(&u.path("a"), libc::O_RDWR);
        unlink(&u.path("a"));
        assert_eq!(stat_fd(&file).expect("fstat").nlink, 1);
        file.write_all_at(b"y", 0).expect("write");
        assert_eq!(get(&u.path("b")), "y");
    }

    fn a_removed_directory_takes_nothing(fs) {
        let u = Union::on(fs).layer("f low/f \"x\"").mount();
        mkdir(&u.path("new"));
        let dirs = ["low", "new"].map(|d| open(&u.path(d), libc::O_RDONLY));
        unlink(&u.path("low/f"));
        rmdir(&u.path("low"));
        rmdir(&u.path("new"));
        for dir in &dirs {
            let listed = sys::getdents::for_each(dir, |_| Ok(()));
            assert_eq!(listed, Err(Errno::ENOENT), "as for any removed directory");
            assert_eq!(sys::name::mkdir(dir, "sub".as_ref(), 0o755), Err(Errno::ENOENT));
            assert!(stat_fd(dir).expect("fstat").is_dir());
        }
        mkdir(&u.path("low"));
        assert_eq!(sys::name::mkdir(&dirs[0], "sub".as_ref(), 0o755), Err(Errno::ENOENT));
    }

    fn a_name_made_again_is_another_file(fs) {
        let u = Union::on(fs).layer("f f \"low\"").mount();
        let file = open(&u.path("f"), libc::O_RDONLY);
        unlink(&u.path("f"));
        put(&u.path("f"), "new");
        let mut text = String::new();
        (&file).read_to_string(&mut text).expect("read");
        assert_eq!(text, "low");
        assert_ne!(stat_fd(&file).expect("fstat").ino, stat(&u.path("f")).ino);
    }
}
