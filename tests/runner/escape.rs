//! Ways out of a container that others have had, and that must be closed here.

use std::fs;
use std::os::unix::fs::symlink;

use crate::fixture::text;
use crate::for_each_user;

for_each_user! {
    the_runner_s_own_program_can_t_be_written_from_inside: |host| {
        // CVE-2019-5736: process 1 is the runner's program, and so is what starts as /proc/self/exe.
        let program = host.dir().join("container-tool");
        let before = fs::read(&program).unwrap();
        let out = host.run(["--", "sh", "-c", "echo x > /proc/1/exe"]);
        assert!(!out.status.success());
        let out = host.run(["--", "/proc/self/exe", "--version"]);
        let said = text(&out.stdout) + &text(&out.stderr);
        let script = "ln -s /proc/self/exe /e; exec 9</proc/1/exe; echo x >/proc/self/fd/9";
        let second = host.run(["--", "sh", "-c", script]);
        assert!(!second.status.success(), "{said}");
        assert_eq!(fs::read(&program).unwrap(), before);
    };

    no_descriptor_of_the_host_s_directories_leaks: |host| {
        // CVE-2024-21626: a working directory by way of an inherited descriptor.
        for n in 3..12 {
            let out = host.run(["-w", &format!("/proc/self/fd/{n}"), "--", "cat", "etc/hostname"]);
            assert_eq!(out.status.code(), Some(125), "{n}: {}", text(&out.stdout));
        }
        let leak = host.dir().join("leak");
        fs::create_dir(&leak).unwrap();
        let script = "exec 7<\"$1\"; shift; exec \"$@\"";
        let mut command = std::process::Command::new("sh");
        command.args(["-c", script, "sh"]).arg(&leak);
        let inner = host.command();
        command.arg(inner.get_program()).args(inner.get_args());
        let out = support::process::run(command.args(["--", "ls", "/proc/self/fd/7/"]));
        assert!(!out.status.success());
    };

    symlinks_of_an_image_stay_inside: |host| {
        // CVE-2021-30465 and its kin: mount points that lead out.
        let rootfs = host.home_dir("rootfs");
        crate::root::small_root(&rootfs);
        let outside = host.home_dir("outside");
        symlink(&outside, rootfs.join("data")).unwrap();
        let data = host.home_dir("data");
        fs::write(data.join("f"), "volume\n").unwrap();
        let volume = format!("{}:/data/v", data.display());
        let args = ["--rootfs", rootfs.to_str().unwrap(), "-v", &volume, "--", "cat", "/data/v/f"];
        let out = host.run(args);
        // Either the mount lands inside or it is refused; the host's directory stays empty.
        assert!(out.status.success() || out.status.code() == Some(125), "{}", text(&out.stderr));
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
    };

    a_dev_that_is_a_symlink_is_refused_or_kept_inside: |host| {
        // CVE-2026-41579: device nodes made at the symlink's target on the host.
        let rootfs = host.home_dir("rootfs");
        crate::root::small_root(&rootfs);
        let outside = host.home_dir("outside");
        symlink(&outside, rootfs.join("dev")).unwrap();
        host.run(["--rootfs", rootfs.to_str().unwrap(), "--", "true"]);
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
    };

    a_proc_that_is_a_symlink_is_refused_or_kept_inside: |host| {
        let rootfs = host.home_dir("rootfs");
        crate::root::small_root(&rootfs);
        let outside = host.home_dir("outside");
        symlink(&outside, rootfs.join("proc")).unwrap();
        host.run(["--rootfs", rootfs.to_str().unwrap(), "--", "true"]);
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
    };

    the_host_s_root_and_processes_are_out_of_reach: |host| {
        let out = host.sh("ls /proc | grep -c '^[0-9]'; cat /proc/1/comm");
        let count: usize = out.lines().next().unwrap().parse().unwrap();
        assert!(count <= 6, "{out}");
        let out = host.run(["--", "sh", "-c", "mount -t tmpfs x /mnt || umount /proc || chroot /proc/1/root"]);
        assert!(!out.status.success());
    };
}
