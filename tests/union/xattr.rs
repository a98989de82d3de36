//! Extended attributes and file flags.

use nix::errno::Errno;
use support::Union;
use support::tree::unescape;

use crate::files::*;
use crate::subjects::both;

both! {
    fn any_bytes_may_be_in_names_and_values(fs) {
        let mut u = Union::on(fs).layer("f f \"x\" x:user.\\xff\\xfe=low\\x00").mount();
        assert_eq!(xattr(&u.path("f"), "user.\\xff\\xfe").as_deref(), Some(&b"low\0"[..]));
        set_xattr(&u.path("f"), "user.\\x80", b"\x00\xff").expect("set");
        append(&u.path("f"), "y");
        u.remount();
        let names = xattrs(&u.path("f"));
        assert_eq!(names, [unescape("user.\\x80"), unescape("user.\\xff\\xfe")]);
        assert_eq!(xattr(&u.path("f"), "user.\\x80").as_deref(), Some(&b"\0\xff"[..]));
    }

    fn attributes_of_a_dangling_symlink_are_its_own(fs) {
        let mut u = Union::on(fs).layer("l s ->gone x:trusted.t=low").mount();
        assert_eq!(xattr(&u.path("s"), "trusted.t").as_deref(), Some(&b"low"[..]));
        set_xattr(&u.path("s"), "trusted.u", b"new").expect("set");
        assert_eq!(set_xattr(&u.path("s"), "user.u", b"new"), Err(Errno::EPERM));
        u.remount();
        assert_eq!(xattrs(&u.path("s")), ["trusted.t", "trusted.u"]);
    }

    fn setting_and_removing_copies_up_and_lasts(fs) {
        let mut u = Union::on(fs).layer("f f \"x\" x:user.a=1 x:user.b=2\nd d x:user.a=1\np p").mount();
        set_xattr(&u.path("f"), "user.a", b"changed").expect("set");
        set_xattr(&u.path("d"), "user.n", b"").expect("set");
        set_xattr(&u.path("p"), "trusted.n", b"v").expect("set");
        let parent = open(u.root(), libc::O_RDONLY);
        let at = sys::xattr::Target::At(std::os::fd::AsFd::as_fd(&parent), "f".as_ref());
        sys::xattr::remove(at, "user.b".as_ref()).expect("remove");
        assert_eq!(sys::xattr::remove(at, "user.b".as_ref()), Err(Errno::ENODATA));
        drop(parent);
        u.remount();
        assert_eq!(xattrs(&u.path("f")), ["user.a"]);
        assert_eq!(xattr(&u.path("f"), "user.a").as_deref(), Some(&b"changed"[..]));
        assert_eq!(xattrs(&u.path("d")), ["user.a", "user.n"]);
        assert_eq!(xattrs(&u.path("p")), ["trusted.n"]);
    }

    fn create_and_replace_are_obeyed(fs) {
        let u = Union::on(fs).layer("f f \"x\" x:user.a=1").mount();
        let parent = open(u.root(), libc::O_RDONLY);
        let at = sys::xattr::Target::At(std::os::fd::AsFd::as_fd(&parent), "f".as_ref());
        let set = |name: &str, flags| sys::xattr::set(at, name.as_ref(), b"v", flags);
        assert_eq!(set("user.a", libc::XATTR_CREATE), Err(Errno::EEXIST));
        assert_eq!(set("user.b", libc::XATTR_REPLACE), Err(Errno::ENODATA));
        assert_eq!(set("user.a", libc::XATTR_REPLACE), Ok(()));
        assert_eq!(set("user.b", libc::XATTR_CREATE), Ok(()));
        let mut small = [0; 0];
        assert_eq!(sys::xattr::get_into(at, "user.a".as_ref(), &mut small), Ok(1), "asked for its size");
        set_xattr(&u.path("f"), "user.a", b"longer").expect("set");
        let short = sys::xattr::get_into(at, "user.a".as_ref(), &mut [0; 2]);
        assert_eq!(short, Err(Errno::ERANGE));
    }

    fn our_own_marks_are_hidden(fs) {
        let mut u = Union::on(fs).layer("f a \"x\"\nh b =a\nf d/f \"x\"").mount();
        append(&u.path("a"), "y");
        put(&u.path("d/n"), "x");
        unlink(&u.path("d/f"));
        rmdir_all(&u.path("d"));
        mkdir(&u.path("d"));
        u.remount();
        for name in [".", "a", "b", "d"] {
            assert_eq!(xattrs(&u.root().join("x").with_file_name(name)), [""; 0], "{name}");
        }
    }

    /// So that a union can lie on a union.
    fn names_like_our_marks_are_stored_escaped(fs) {
        let mut u = Union::on(fs).layer("d d\nf d/f \"x\"").mount();
        set_xattr(&u.path("d"), "trusted.overlay.opaque", b"y").expect("set");
        assert_eq!(xattr(&u.path("d"), "trusted.overlay.opaque").as_deref(), Some(&b"y"[..]));
        assert_eq!(xattrs(&u.path("d")), ["trusted.overlay.opaque"]);
        u.remount();
        assert_eq!(list(&u.path("d")), ["f"], "it means nothing to this union");
        assert_eq!(xattr(&u.path("d"), "trusted.overlay.opaque").as_deref(), Some(&b"y"[..]));
        assert_eq!(
            xattr(&u.upper("d"), "trusted.overlay.overlay.opaque").as_deref(),
            Some(&b"y"[..])
        );
    }

    fn absent_attributes_are_enodata(fs) {
        let u = Union::on(fs).layer("f f \"x\"").mount();
        let parent = open(u.root(), libc::O_RDONLY);
        let at = sys::xattr::Target::At(std::os::fd::AsFd::as_fd(&parent), "f".as_ref());
        for name in ["user.none", "trusted.none", "security.none", "system.posix_acl_access"] {
            let got = sys::xattr::get_into(at, name.as_ref(), &mut [0; 16]);
            assert_eq!(got, Err(Errno::ENODATA), "{name}");
        }
        let got = sys::xattr::get_into(at, "nonsense".as_ref(), &mut [0; 16]);
        assert_eq!(got, Err(Errno::EOPNOTSUPP));
    }

    fn file_flags_can_be_read_and_set(fs) {
        const NODUMP: u32 = 0x40;
        let mut u = Union::on(fs).layer("f f \"x\"").mount();
        let before = sys::copy::file_flags(open(&u.path("f"), libc::O_RDONLY)).expect("lsattr");
        append(&u.path("f"), "y");
        let file = open(&u.path("f"), libc::O_RDWR);
        sys::copy::set_file_flags(&file, before | NODUMP).expect("chattr +d");
        drop(file);
        u.remount();
        let after = sys::copy::file_flags(open(&u.path("f"), libc::O_RDONLY)).expect("lsattr");
        assert_eq!(after & NODUMP, NODUMP);
    }
}

fn rmdir_all(path: &std::path::Path) {
    std::fs::remove_dir_all(path).expect("rm -r");
}
