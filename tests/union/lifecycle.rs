//! From start to end: detaching, signals, every way to unmount, quick cycles.

use std::path::Path;
use std::process::Command;

use nix::mount::{MntFlags, umount2};
use nix::sys::signal::Signal;
use nix::sys::wait::WaitStatus;
use support::process::{daemon_of, reap, run, shell};
use support::scratch::mounts_below;
use support::{Scratch, Union, require};

use crate::files::*;
use crate::subjects::{needs_a_daemon, only_ours, ours};

fn ended_well(status: WaitStatus) -> bool {
    matches!(status, WaitStatus::Exited(_, 0))
}

/// Returns type and source of the mount at `point`, from /proc/self/mounts.
fn mounted_as(point: &Path) -> Option<(String, String, String)> {
    let mounts = std::fs::read_to_string("/proc/self/mounts").expect("read the mounts");
    mounts.lines().find_map(|line| {
        let fields: Vec<_> = line.split(' ').collect();
        (Path::new(fields[1]) == point)
            .then(|| (fields[2].to_owned(), fields[0].to_owned(), fields[3].to_owned()))
    })
}

only_ours! {
    /// The kernel's mount needs no process.
    fn sigterm_and_sigint_unmount(fs) {
        needs_a_daemon(fs);
        for signal in [Signal::SIGTERM, Signal::SIGINT] {
            let mut u = Union::on(fs).layer("f f \"x\"").mount();
            put(&u.path("new"), "n");
            let status = u.take_mount().signal(signal);
            assert!(ended_well(status), "{status:?}");
            assert!(mounts_below(u.root()).is_empty(), "it is unmounted");
            assert_eq!(list(u.root()), [""; 0]);
            u.mount();
            assert_eq!(get(&u.path("new")), "n");
        }
    }

    /// A client with an open file keeps the kernel's mount.
    fn sigterm_unmounts_also_while_a_file_is_open(fs) {
        needs_a_daemon(fs);
        let mut u = Union::on(fs).layer("f f \"x\"").mount();
        let file = open(&u.path("f"), libc::O_RDONLY);
        let status = u.take_mount().signal(Signal::SIGTERM);
        assert!(ended_well(status), "{status:?}");
        assert!(mounts_below(u.root()).is_empty());
        drop(file);
    }

    /// Nothing ends when the kernel's own is unmounted.
    fn umount_ends_the_daemon(fs) {
        needs_a_daemon(fs);
        let mut u = Union::on(fs).layer("f f \"x\"").mount();
        let status = u.take_mount().unmount();
        assert!(status.is_some_and(ended_well), "{status:?}");
    }

    /// Nothing ends when the kernel's own is unmounted.
    fn a_lazy_umount_ends_the_daemon_with_the_last_user(fs) {
        needs_a_daemon(fs);
        let mut u = Union::on(fs).layer("f f \"content\"").mount();
        let file = open(&u.path("f"), libc::O_RDONLY);
        umount2(u.root(), MntFlags::MNT_DETACH).expect("umount -l");
        assert!(mounts_below(u.root()).is_empty());
        let mut text = String::new();
        std::io::Read::read_to_string(&mut &file, &mut text).expect("the file is still served");
        assert_eq!(text, "content");
        drop(file);
        let status = u.take_mount().ended();
        assert!(status.is_some_and(ended_well), "{status:?}");
    }

    /// fusermount3 unmounts FUSE only.
    fn fusermount3_unmounts(fs) {
        needs_a_daemon(fs);
        require!("fusermount3_unmounts", support::privilege::installed("fusermount3"));
        let mut u = Union::on(fs).layer("f f \"x\"").mount();
        shell(Path::new("/"), &format!("fusermount3 -u '{}'", u.root().display()));
        let status = u.take_mount().ended();
        assert!(status.is_some_and(ended_well), "{status:?}");
    }

    /// Callers match the type that mount shows.
    fn it_is_mounted_as_fuse_with_a_subtype(fs) {
        needs_a_daemon(fs);
        let u = Union::on(fs).layer("").mount();
        let (kind, _, options) = mounted_as(u.root()).expect("a mount");
        assert!(kind.starts_with("fuse."), "{kind}");
        assert!(options.contains("default_permissions") && options.contains("allow_other"), "{options}");
        let named = Union::on(fs).layer("").option("fsname=some-name").mount();
        assert_eq!(mounted_as(named.root()).map(|m| m.1), Some("some-name".into()));
    }

    /// fuse-overlayfs 2.0 lost 18 of 100: it unmounts its successor.
    fn a_hundred_quick_cycles_lose_no_mount(fs) {
        needs_a_daemon(fs);
        let mut u = Union::on(fs).layer("f f \"x\"").mount();
        for _ in 0..100 {
            // Mounted again at once, while the daemon before still ends.
            let before = u.take_mount();
            support::mount::unmount_when_free(u.root()).expect("unmount");
            u.mount();
            assert_eq!(get(&u.path("f")), "x");
            drop_ended(before);
            assert_eq!(get(&u.path("f")), "x", "the mount outlives the daemon before it");
        }
    }

    /// The daemon's own work.
    fn what_was_written_is_there_after_sigterm(fs) {
        needs_a_daemon(fs);
        let mut u = Union::on(fs).layer("f f size=1000000").mount();
        shell(u.root(), "for i in $(seq 50); do echo $i > n$i; done; cat f f f > big; rm f");
        u.take_mount().signal(Signal::SIGTERM);
        u.mount();
        assert_eq!((list(u.root()).len(), stat(&u.path("big")).size), (51, 3_000_000));
    }

    /// The kernel opens layers before mounting too, but refuses these.
    fn layers_may_contain_the_mount_point(fs) {
        let scratch = Scratch::new();
        let (lower, work) = (scratch.dir("tree"), scratch.dir("work"));
        let (upper, point) = (scratch.dir("tree/upper"), scratch.dir("tree/mnt"));
        put(&lower.join("f"), "x");
        let layers = support::subject::Layers {
            lowers: vec![lower.clone()],
            upper: Some((upper.clone(), work)),
            options: Vec::new(),
        };
        let mounted = support::Mounted::new(fs, &layers, &point).expect("mount");
        assert_eq!(get(&point.join("f")), "x");
        assert_eq!(list(&point.join("mnt")), [""; 0], "the union isn't in itself");
        append(&point.join("f"), "y");
        mounted.unmount();
        assert_eq!(get(&upper.join("f")), "xy");
    }

    /// There is no daemon in the kernel.
    fn the_daemon_leaves_its_callers_terminal_and_directory(fs) {
        needs_a_daemon(fs);
        let u = Union::on(fs).layer("").mount();
        let pid = u.mounted().daemon().expect("a daemon");
        let link = |what: &str| std::fs::read_link(format!("/proc/{pid}/{what}")).expect("readlink");
        assert_eq!(link("cwd"), Path::new("/"));
        for fd in 0..3 {
            assert_eq!(link(&format!("fd/{fd}")), Path::new("/dev/null"));
        }
    }

    /// There is no daemon in the kernel.
    fn a_client_with_many_open_files_takes_none_of_the_daemons(fs) {
        needs_a_daemon(fs);
        let lower: String = (0..600).map(|i| format!("f f{i} \"{i}\"\n")).collect();
        let u = Union::on(fs).layer(&lower).mount();
        let pid = u.mounted().daemon().expect("a daemon");
        let count = || std::fs::read_dir(format!("/proc/{pid}/fd")).expect("list descriptors").count();
        let files: Vec<_> = (0..600).map(|i| open(&u.path(&format!("f{i}")), libc::O_RDONLY)).collect();
        assert_eq!(std::io::read_to_string(&files[599]).expect("read"), "599");
        let held = count();
        assert!(held < 300, "{held} descriptors for 600 open files");
    }

    /// As Apptainer starts it; the kernel's has no daemon.
    fn the_mount_point_given_as_a_descriptor_is_served(fs) {
        let program = needs_a_daemon(fs);
        let scratch = Scratch::new();
        let dirs = ["lower", "upper", "work", "mnt"].map(|n| scratch.dir(n));
        put(&dirs[0].join("f"), "x");
        // As Apptainer does it: the caller opens the device and mounts, the daemon only serves.
        let script = format!(
            "exec 7<>/dev/fuse
             mount -i -t fuse -o fd=7,rootmode=40000,user_id=0,group_id=0,allow_other,default_permissions fuse mnt
             '{}' -o lowerdir=lower,upperdir=upper,workdir=work /dev/fd/7
             exec 7<&-
             cat mnt/f; echo y > mnt/g; umount mnt; cat upper/g",
            program.display()
        );
        support::process::adopt_orphans();
        assert_eq!(shell(scratch.path(), &script), "xy\n");
        if let Some(pid) = daemon_of(Path::new("/dev/fd/7")) {
            assert!(reap(pid).is_some(), "the daemon ends with the mount");
        }
    }
}

/// Waits for a daemon whose mount is gone.
fn drop_ended(mounted: support::Mounted) {
    let status = mounted.ended();
    assert!(status.is_some_and(ended_well), "{status:?}");
}

#[test]
fn in_the_foreground_it_stays_until_it_is_unmounted() {
    require!("in_the_foreground_it_stays", ours().usable());
    let scratch = Scratch::new();
    for name in ["lower", "upper", "work", "mnt"] {
        scratch.dir(name);
    }
    put(&scratch.path().join("lower/f"), "x");
    let program = ours().program().expect("a program");
    // The byte on descriptor 3 says that the mount is live; the shell waits for it.
    let script = format!(
        "mkfifo ready; '{}' -f --ready-fd 3 -o lowerdir=lower,upperdir=upper,workdir=work mnt 3>ready &
         head -c 1 ready > /dev/null; cat mnt/f; umount mnt; wait $!; echo \" code $?\"",
        program.display()
    );
    assert_eq!(shell(scratch.path(), &script), "x code 0\n");
}

#[test]
fn mount_8_finds_it_by_its_type() {
    require!("mount_8_finds_it_by_its_type", ours().usable());
    let scratch = Scratch::new();
    let dirs = ["lower", "upper", "work", "mnt"].map(|n| scratch.dir(n));
    let program = ours().program().expect("a program");
    let path = scratch.path().display();
    put(&dirs[0].join("f"), "x");
    // mount(8) runs a shell that looks for the program in a fixed PATH: in a mount namespace of its
    // own, one of those directories can have it.
    let script = format!(
        "mkdir bin && ln -s '{}' bin/unionfs && mount --bind bin /usr/local/bin &&
         mount -t fuse.unionfs -o lowerdir={path}/lower,upperdir={path}/upper,workdir={path}/work,nodev unionfs {path}/mnt &&
         cat mnt/f && grep -c 'mnt fuse.unionfs rw,nodev' /proc/self/mounts && umount mnt",
        program.display()
    );
    let out =
        run(Command::new("unshare").args(["-m", "sh", "-ec", &script]).current_dir(scratch.path()));
    let said = String::from_utf8_lossy(&out.stderr);
    assert_eq!(String::from_utf8_lossy(&out.stdout), "x1\n", "{said}");
}

#[test]
fn parallel_mounts_do_not_disturb_each_other() {
    require!("parallel_mounts_do_not_disturb", ours().usable());
    std::thread::scope(|scope| {
        for n in 0..8 {
            scope.spawn(move || {
                let mut u = Union::on(&ours()).layer(&format!("f f \"{n}\"")).mount();
                for _ in 0..5 {
                    assert_eq!(get(&u.path("f")), n.to_string());
                    u.remount();
                }
            });
        }
    });
}

#[test]
fn a_killed_daemon_leaves_layers_that_mount_again() {
    require!("a_killed_daemon_leaves_layers", ours().usable());
    let mut u = Union::on(&ours()).layer("f a \"a\"\nf d/f \"f\"").mount();
    append(&u.path("a"), "b");
    unlink(&u.path("d/f"));
    let status = u.take_mount().signal(Signal::SIGKILL);
    assert!(matches!(status, WaitStatus::Signaled(..)));
    umount2(u.root(), MntFlags::MNT_DETACH).expect("unmount the dead mount");
    u.mount();
    u.assert_tree("", "f a \"ab\"\nd d");
}
