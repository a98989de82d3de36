//! The root: layers, what is kept of changes, what is hidden.

use std::fs;
use std::path::Path;

use crate::fixture::Host;
use crate::for_each_user;

for_each_user! {
    nothing_that_is_changed_reaches_the_host: |host| {
        let marker = format!("palimpsest-{}", std::process::id());
        let out = host.sh(&format!(
            "echo x > /etc/{marker}; rm /etc/hostname; echo y >> /etc/hosts; rm -r /usr/share/doc; \
             test -e /etc/{marker} && test ! -e /usr/share/doc && echo changed"
        ));
        assert_eq!(out, "changed\n");
        assert!(!Path::new("/etc").join(&marker).exists());
        assert!(Path::new("/usr/share/doc").exists());
    };

    the_host_s_files_are_root_s: |host| {
        let out = host.ok(["--", "stat", "-c", "%u:%g", "/", "/etc", "/etc/passwd", "/usr/bin/env"]);
        assert_eq!(out, "0:0\n0:0\n0:0\n0:0\n");
    };

    layers_are_merged_the_topmost_first: |host| {
        let (rootfs, layer) = (host.home_dir("rootfs"), host.home_dir("layer"));
        small_root(&rootfs);
        for (dir, name, content) in
            [(&rootfs, "a", "below"), (&rootfs, "b", "below"), (&layer, "a", "above")]
        {
            fs::write(dir.join(name), content).unwrap();
        }
        let layers = format!("{}:{}", layer.display(), rootfs.display());
        let out = host.ok(["--layers", &layers, "--", "sh", "-c", "cat /a /b; rm /b"]);
        assert_eq!(out, "abovebelow");
        assert!(rootfs.join("b").exists());
        // Mount points and files that the image lacks are there, but not in it.
        assert!(!rootfs.join("proc").exists());
    };

    a_root_is_only_read: |host| {
        let rootfs = host.home_dir("rootfs");
        small_root(&rootfs);
        let before = list(&rootfs);
        let arg = rootfs.to_str().unwrap();
        host.ok(["--rootfs", arg, "--", "sh", "-c", "echo x > /new; rm -r /bin"]);
        assert_eq!(list(&rootfs), before);
    };

    changes_are_kept_where_asked: |host| {
        let rootfs = host.home_dir("rootfs");
        small_root(&rootfs);
        let home = host.home_dir("changes");
        let upper = home.join("upper");
        let (root, up) = (rootfs.to_str().unwrap(), upper.to_str().unwrap());
        host.ok(["--rootfs", root, "--upper", up, "--", "sh", "-c", "echo kept > /new; mkdir /d"]);
        assert_eq!(fs::read_to_string(upper.join("new")).unwrap(), "kept\n");
        assert!(upper.join("d").is_dir());
        // The work directory beside it is gone, and files of the init layer are no change.
        assert_eq!(fs::read_dir(&home).unwrap().count(), 1);
        assert!(!upper.join("etc").exists());
        let out = host.ok(["--rootfs", root, "--upper", up, "--", "cat", "/new"]);
        assert_eq!(out, "kept\n");
    };

    a_read_only_root_can_t_be_written: |host| {
        let script = "touch /x 2>&1; touch /etc/x 2>&1; touch /dev/shm/ok && echo shm";
        let out = host.ok(["--read-only", "--", "sh", "-c", script]);
        assert_eq!(out.matches("Read-only file system").count(), 2, "{out}");
        assert!(out.ends_with("shm\n"), "{out}");
    };

    kernel_files_that_tell_of_the_host_are_covered: |host| {
        let out = host.sh("cat /proc/keys /proc/timer_list /proc/interrupts | wc -c; \
                           ls /sys/firmware | wc -l");
        assert_eq!(out, "0\n0\n");
        for path in ["/proc/sys/kernel/hostname", "/proc/sysrq-trigger", "/sys/kernel/profiling"] {
            let out = host.run(["--", "sh", "-c", &format!("echo 1 > {path}")]);
            assert!(!out.status.success(), "{path}");
        }
    };

    our_own_state_is_hidden: |host| {
        let state = host.state();
        let out = host.ok(["--", "ls", "-A", state.to_str().unwrap()]);
        assert_eq!(out, "");
    };

    what_is_mounted_below_a_layer_is_not_part_of_it: |host| {
        // The host's /dev has what a container's must not have.
        let out = host.ok(["--", "sh", "-c", "ls /dev | grep -cE '^(fuse|vda|sda|kmsg|mem)$'; true"]);
        assert_eq!(out, "0\n");
    };
}

#[test]
fn the_kernel_s_overlay_does_the_same() {
    support::require!("root::kernel", support::privilege::root());
    let host = Host::root().expect("root");
    let rootfs = host.home_dir("rootfs");
    small_root(&rootfs);
    let root = rootfs.to_str().unwrap();
    let out =
        host.ok(["--driver", "kernel", "--rootfs", root, "--", "sh", "-c", "echo x > /n; ls /n"]);
    assert_eq!(out, "/n\n");
    assert!(!rootfs.join("n").exists());
    let out = host.ok(["--driver", "kernel", "--", "sh", "-c", "touch /n; stat -c %U /n"]);
    assert_eq!(out, "root\n");
}

/// Lays out a root with a static shell, where one is installed, or else with the host's shell and its
/// libraries.
pub(crate) fn small_root(dir: &Path) {
    let script = "mkdir -p bin lib64 lib root tmp; \
        for p in sh cat ls rm mkdir touch id; do \
          f=$(command -v $p); cp -L $f bin/; \
          ldd $f | grep -o '/[^ ]*' | while read l; do mkdir -p .${l%/*}; cp -L $l .$l; done; \
        done; chmod -R a+rX .";
    support::process::shell(dir, script);
}

fn list(dir: &Path) -> String {
    support::process::shell(dir, "find . -printf '%p %m %s %T@\\n' | sort")
}
