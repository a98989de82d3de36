//! Known limits: what the kernel's overlayfs does and ours doesn't, each with its reason.

use std::os::unix::fs::FileExt;

use nix::errno::Errno;
use support::Union;
use support::privilege::Actor;

use crate::files::*;
use crate::subjects::limits;

limits! {
    /// The library that speaks FUSE, fuser 0.18, doesn't decode the TMPFILE request. Programs fall
    /// back to a named file, as on other FUSE file systems and on old kernels.
    fn o_tmpfile_makes_a_nameless_file(fs) {
        let u = Union::on(fs).layer("d d").mount();
        let made = try_open(&u.path("d"), libc::O_TMPFILE | libc::O_RDWR).map(drop);
        assert_eq!(made, Ok(()));
    }

    /// The answer to the kernel's GETATTR has no place for it, and fuser 0.18 doesn't decode the
    /// STATX request.
    fn statx_tells_the_time_of_birth(fs) {
        let u = Union::on(fs).layer("f f \"x\"").mount();
        let born = std::fs::metadata(u.path("f")).and_then(|m| m.created());
        assert!(born.is_ok(), "{born:?}");
    }

    /// Whether the bit stays depends on the writer's supplementary groups, which a FUSE daemon isn't
    /// told; a file with group execution loses it always, as it must.
    fn a_strangers_write_clears_setgid_without_group_execution(fs) {
        let u = Union::on(fs).layer("f f 2666 0:55 \"x\"").mount();
        let file = u.path("f");
        Actor::USER.run(|| open(&file, libc::O_WRONLY).write_all_at(b"y", 0).expect("write"));
        assert_eq!(mode(&file), 0o666);
    }

    /// The kernel turns it into a change of mode, which it refuses; to a FUSE daemon it sends a
    /// request that changes nothing.
    fn chown_to_nobody_new_of_a_strangers_suid_file_is_refused(fs) {
        let u = Union::on(fs).layer("f f 4755 0:0 \"x\"").mount();
        let file = u.path("f");
        let here = nix::fcntl::AT_FDCWD;
        let result = Actor::USER.run(|| sys::name::chown_at(here, file.as_os_str(), None, None));
        assert_eq!((result, mode(&file)), (Err(Errno::EPERM), 0o4755));
    }
}
