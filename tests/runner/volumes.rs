//! Volumes: directories and files of the host, seen inside.

use std::fs;

use crate::for_each_user;

for_each_user! {
    a_volume_is_shared_with_the_host: |host| {
        let data = host.home_dir("data");
        fs::write(data.join("in"), "from outside\n").unwrap();
        let volume = format!("{}:/data", data.display());
        let out = host.ok(["-v", &volume, "--", "sh", "-c", "cat /data/in; echo inside > /data/out"]);
        assert_eq!(out, "from outside\n");
        assert_eq!(fs::read_to_string(data.join("out")).unwrap(), "inside\n");
    };

    a_read_only_volume_can_t_be_written: |host| {
        let data = host.home_dir("data");
        let volume = format!("{}:/data:ro", data.display());
        let out = host.run(["-v", &volume, "--", "touch", "/data/x"]);
        assert_eq!(out.status.code(), Some(1));
        assert!(String::from_utf8_lossy(&out.stderr).contains("Read-only"));
        assert!(!data.join("x").exists());
    };

    mount_points_are_made_as_deep_as_needed: |host| {
        let data = host.home_dir("data");
        fs::write(data.join("f"), "file\n").unwrap();
        let (dir, file) =
            (format!("{}:/new/deep/dir", data.display()), format!("{}/f:/new/f", data.display()));
        let out = host.ok(["-v", &dir, "-v", &file, "--", "cat", "/new/deep/dir/f", "/new/f"]);
        assert_eq!(out, "file\nfile\n");
    };

    a_relative_source_is_found_from_where_one_stands: |host| {
        let data = host.home_dir("data");
        fs::write(data.join("f"), "here\n").unwrap();
        let mut command = host.command();
        command.args(["-v", "./data:/mnt:ro", "--", "cat", "/mnt/f"]);
        let out = support::process::run(command.current_dir(data.parent().unwrap()));
        assert_eq!(String::from_utf8_lossy(&out.stdout), "here\n");
    };

    bad_volumes_are_refused: |host| {
        let rows = [
            ("/no/such/dir:/x", "/no/such/dir"),
            (".data:/x", "name"),
            ("/tmp:x", "slash"),
            ("/tmp:/", "--rootfs"),
            ("/tmp:/x:q", "ro, rw"),
            ("/tmp:/../x", ".."),
            ("/a:/b:ro:x", "SRC:DST"),
        ];
        for (volume, hint) in rows {
            let said = host.fails(125, ["-v", volume, "--", "true"]);
            assert!(said.contains(hint), "{volume}: {said}");
        }
    };
}
