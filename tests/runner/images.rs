//! Images from files and to files, as podman, docker and skopeo write and read them.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Command, Stdio};

use support::require;

use crate::fixture::{Host, text};
use crate::for_each_user;
use crate::image_fixture::{Archive, Images, busybox, busybox_root, docker_archive};

for_each_user! {
    an_archive_becomes_an_image_with_all_that_it_has: becomes_an_image;
    an_image_survives_the_way_out_and_in: survives;
    whiteouts_of_both_dialects_hide_what_is_below: whiteouts;
    names_are_given_and_taken: names;
    what_no_image_has_is_removed: removed;
}

fn becomes_an_image(host: &Host) {
    let images = Images::new(host);
    let sparse = [vec![b'a'; 512], vec![0; 1 << 20], vec![b'b'; 512]].concat();
    let archive = Archive::default()
        .dir("./")
        .dir("etc/")
        .pax(&[("mtime", "1500000000.123456789"), ("SCHILY.xattr.user.key", "value")])
        .mode("etc/file", 0o4755, b"data")
        .add(b'1', "etc/link", "etc/file", b"")
        .add(b'2', "etc/symlink", "/nowhere", b"")
        .add(b'6', "etc/fifo", "", b"")
        .add(b'0', "etc/sparse", "", &sparse)
        .file(&format!("etc/{}", "n".repeat(90)), "long")
        .end();
    let from = images.file("root.tar", &archive);
    let id = images.ok(["import", from.to_str().expect("a plain path"), "one:1"]);
    assert!(id.starts_with("sha256:"), "{id}");
    assert_eq!(id, format!("sha256:{}", images.id("one:1")));
    let layer = images.layers("one:1");
    let at = |name: &str| Path::new(&layer).join("etc").join(name);
    let file = at("file").symlink_metadata().expect("the file");
    assert_eq!((file.mode() & 0o7777, file.nlink()), (0o4755, 2));
    assert_eq!((file.mtime(), file.mtime_nsec()), (1_500_000_000, 123_456_789));
    assert_eq!(file.ino(), at("link").symlink_metadata().expect("the link").ino());
    let target =
        sys::openat::open_at(nix::fcntl::AT_FDCWD, at("file").as_os_str(), libc::O_PATH, 0);
    let target = target.expect("open the file");
    let value = sys::xattr::get(sys::xattr::of(&target), "user.key".as_ref());
    assert_eq!(value.expect("read an attribute").as_deref(), Some(&b"value"[..]));
    let holes = at("sparse").symlink_metadata().expect("the sparse file");
    assert_eq!(holes.len(), sparse.len() as u64);
    assert!(holes.blocks() * 512 < sparse.len() as u64 / 2, "{} blocks", holes.blocks());
    assert_eq!(std::fs::read(at("sparse")).expect("read"), sparse);
    assert_eq!(std::fs::read_link(at("symlink")).expect("a link"), Path::new("/nowhere"));
}

fn survives(host: &Host) {
    let images = Images::new(host);
    let layers = [
        Archive::default().file("a", "1").end(),
        Archive::default().file("b", "2").add(b'0', ".wh.a", "", b"").end(),
    ];
    let from = images.file("two.tar", &docker_archive("two:1", &layers));
    let from = from.to_str().expect("a plain path");
    assert_eq!(images.ok(["load", "-i", from]), "Loaded image: localhost/two:1");
    let id = images.id("two:1");
    let out = images.dir("out");
    let other = images.other();
    for (format, name) in [("docker-archive", "d"), ("oci-archive", "o"), ("oci-dir", "l")] {
        let to = out.join(name);
        let to = to.to_str().expect("a plain path");
        images.ok(["save", "--format", format, "-o", to, "two:1"]);
        assert_eq!(other.ok(["load", "-i", to]), "Loaded image: localhost/two:1", "{format}");
        assert_eq!(other.id("two:1"), id, "{format}");
        assert_eq!(other.layers("two:1").split(':').count(), 2);
        other.ok(["rmi", "two:1"]);
    }
    // To standard output, compressed by somebody else, and in from standard input.
    let saved = images.run(["save", "two:1"]).stdout;
    let packed = support::process::feed(Command::new("gzip").arg("-c"), &saved).stdout;
    let out = support::process::feed(other.command().arg("load"), &packed);
    assert!(out.status.success(), "{}", text(&out.stderr));
    assert_eq!(other.id("two:1"), id);
    // zstd where it is asked for.
    let to = images.dir("out").join("z");
    let to = to.to_str().expect("a plain path");
    images.ok(["save", "--format", "oci-dir", "--compression-format", "zstd", "-o", to, "two:1"]);
    other.ok(["rmi", "-a"]);
    other.ok(["load", "-i", to]);
    assert_eq!(other.id("two:1"), id);
}

fn whiteouts(host: &Host) {
    require!("whiteouts_of_both_dialects_hide_what_is_below", busybox());
    let images = Images::new(host);
    let opaque = ("SCHILY.xattr.trusted.overlay.opaque", "y");
    let mut device = Archive::default();
    device.header(b'3', "etc/by-device", "", 0, 0o600);
    let layers = [
        busybox_root()
            .file("etc/by-device", "x")
            .file("d/sub/deep", "x")
            .dir("both/")
            .file("both/old", "x")
            .end(),
        Archive::default()
            .add(b'0', "etc/.wh.removed", "", b"")
            // Before and after what replaces it.
            .add(b'0', ".wh.gone", "", b"")
            .dir("gone/")
            .file("gone/new", "new")
            .dir("both/")
            .file("both/new", "new")
            .add(b'0', ".wh.both", "", b"")
            .add(b'0', "opaque/.wh..wh..opq", "", b"")
            .file("opaque/above", "above")
            .pax(&[opaque])
            .dir("d/")
            .end(),
        device.end(),
    ];
    let from = images.file("white.tar", &docker_archive("white:1", &layers));
    images.ok(["load", "-i", from.to_str().expect("a plain path")]);
    let layers = images.layers("white:1");
    let seen =
        host.ok(["--layers", &layers, "--", "/bin/sh", "-c", "find /etc /d /gone /opaque /both"]);
    let given = ["/etc/hostname", "/etc/hosts", "/etc/resolv.conf"];
    let mut seen: Vec<&str> = seen.lines().filter(|l| !given.contains(l)).collect();
    seen.sort_unstable();
    let expected = [
        "/both",
        "/both/new",
        "/d",
        "/etc",
        "/etc/kept",
        "/etc/passwd",
        "/gone",
        "/gone/new",
        "/opaque",
        "/opaque/above",
    ];
    assert_eq!(seen, expected);
}

fn names(host: &Host) {
    let images = Images::new(host);
    let from = images.file("a.tar", &Archive::default().file("a", "1").end());
    let from = from.to_str().expect("a plain path");
    images.ok(["import", "-c", "CMD [\"/x\"]", "-c", "ENV A=b", from, "one"]);
    images.ok(["tag", "one", "two:2", "host.example/three"]);
    let list = images.ok(["images", "--format", "{{.Repository}}:{{.Tag}}"]);
    assert_eq!(list, "host.example/three:latest\nlocalhost/one:latest\nlocalhost/two:2");
    assert_eq!(images.ok(["images", "-q", "--no-trunc"]), format!("sha256:{}", images.id("one")));
    let rows: serde_json::Value =
        serde_json::from_str(&images.ok(["images", "--json"])).expect("JSON");
    assert_eq!(rows.as_array().map(Vec::len), Some(3));
    images.ok(["untag", "one", "two:2"]);
    assert!(images.fails(["image", "inspect", "two:2"]).contains("there is no such image"));
    assert_eq!(
        images.ok(["image", "inspect", "-f", "{{json .Config.Cmd}} {{.Config.Env}}", "one"]),
        "[\"/x\"] A=b"
    );
    assert!(images.ok(["history", "one"]).contains("runner import"));
    assert!(images.fails(["rmi", &images.id("one")]).contains("several names"));
    assert_eq!(images.ok(["rmi", "one"]), "Untagged: localhost/one:latest");
    for (args, said) in [
        (vec!["tag", "nothing", "x"], "there is no such image"),
        (vec!["tag", "host.example/three", "Bad"], "lower-case"),
        (vec!["import", "/nowhere"], "no such file"),
        (vec!["import", "-c", "RUN x", from], "can't be changed"),
        (vec!["images", "-f", "x=y"], "no such filter"),
        (vec!["load", "-i", from], "runner import"),
        (vec!["save", "-o", "/x", "--compression-format", "zstd", "host.example/three"], "plain"),
    ] {
        let line = images.fails(&args);
        assert!(line.contains(said), "{args:?}: {line}");
    }
    assert_eq!(images.run(["image", "exists", "nothing"]).status.code(), Some(1));
}

fn removed(host: &Host) {
    let images = Images::new(host);
    let shared = Archive::default().file("a", "1").end();
    for (name, data) in [("one", "1"), ("two", "2")] {
        let layers = [shared.clone(), Archive::default().file("b", data).end()];
        let from = images.file("x.tar", &docker_archive(&format!("{name}:1"), &layers));
        images.ok(["load", "-i", from.to_str().expect("a plain path")]);
    }
    // Three layers with their blobs, and two configurations.
    assert_eq!(images.content().len(), 3 * 2 + 2);
    images.ok(["rmi", "one:1"]);
    assert_eq!(images.content().len(), 2 * 2 + 1);
    images.ok(["untag", "two:1"]);
    images.ok(["image", "prune"]);
    assert_eq!(images.content(), Vec::<std::path::PathBuf>::new());
    assert_eq!(images.ok(["images", "--noheading"]), "");
}

#[test]
fn what_is_killed_half_way_leaves_no_half_image() {
    let host = match Host::root() {
        Ok(host) => host,
        Err(missing) => {
            return support::privilege::skip("images::what_is_killed_half_way", &missing);
        }
    };
    let images = Images::new(&host);
    let mut archive = Archive::default();
    for n in 0..200 {
        archive = archive.add(b'0', &format!("f{n}"), "", &[b'x'; 8192]);
    }
    let bytes = archive.end();
    for part in [100, bytes.len() / 2, bytes.len() - 1] {
        let mut command = images.command();
        command.args(["import", "-", "half"]).stdin(Stdio::piped()).stdout(Stdio::null());
        let mut child = command.spawn().expect("start an import");
        let mut pipe = child.stdin.take().expect("a pipe");
        std::io::Write::write_all(&mut pipe, &bytes[..part]).expect("feed");
        child.kill().expect("kill the import");
        child.wait().expect("wait for the import");
        drop(pipe);
        assert_eq!(images.ok(["images", "--noheading"]), "");
    }
    // What the killed ones left goes with the next command, and that one works.
    let from = images.file("whole.tar", &bytes);
    images.ok(["import", from.to_str().expect("a plain path"), "whole"]);
    assert_eq!(images.content().len(), 3, "{:?}", images.content());
    images.ok(["rmi", "-a"]);
    assert_eq!(images.content().len(), 0, "{:?}", images.content());
}

#[test]
fn two_commands_that_add_the_same_image_both_succeed() {
    let host = match Host::root() {
        Ok(host) => host,
        Err(missing) => return support::privilege::skip("images::two_commands", &missing),
    };
    let images = Images::new(&host);
    let layers = [Archive::default().file("a", "1").end(), Archive::default().file("b", "2").end()];
    let from = images.file("same.tar", &docker_archive("same:1", &layers));
    let start = || {
        let mut command = images.command();
        command.arg("load").arg("-i").arg(&from).stdout(Stdio::null());
        command.spawn().expect("start a load")
    };
    let mut all: Vec<_> = (0..4).map(|_| start()).collect();
    for child in &mut all {
        assert!(child.wait().expect("wait").success());
    }
    assert_eq!(images.content().len(), 5, "{:?}", images.content());
}

#[test]
fn podman_and_skopeo_read_what_we_write_and_the_other_way_round() {
    let test = "images::podman_and_skopeo_read_what_we_write_and_the_other_way_round";
    require!(
        test,
        support::privilege::installed("podman"),
        support::privilege::installed("skopeo"),
        busybox()
    );
    let host = match Host::root() {
        Ok(host) => host,
        Err(missing) => return support::privilege::skip(test, &missing),
    };
    let images = Images::new(&host);
    let upper =
        Archive::default().file("etc/more", "more").add(b'0', "etc/.wh.removed", "", b"").end();
    let from = images.file("bb.tar", &docker_archive("bb:1", &[busybox_root().end(), upper]));
    images.ok(["load", "-i", from.to_str().expect("a plain path")]);
    let id = images.id("bb:1");
    let dir = host.dir().to_path_buf();
    let storage = format!(
        "[storage]\ndriver = \"vfs\"\ngraphroot = \"{0}/graph\"\nrunroot = \"{0}/run\"\n",
        dir.display()
    );
    std::fs::write(dir.join("storage.conf"), storage).expect("write podman's configuration");
    let tool = |program: &str, args: &[&str]| {
        let mut command = Command::new(program);
        command
            .args(args)
            .current_dir(&dir)
            .env("CONTAINERS_STORAGE_CONF", dir.join("storage.conf"));
        let out = support::process::run(&mut command);
        assert!(out.status.success(), "{program} {args:?}: {}", text(&out.stderr));
        text(&out.stdout).trim_end().to_owned()
    };
    let path = |name: &str| dir.join(name).to_str().expect("a plain path").to_owned();
    for (format, file) in [("docker-archive", "d.tar"), ("oci-archive", "o.tar")] {
        images.ok(["save", "--format", format, "-o", &path(file), "bb:1"]);
        tool("podman", &["load", "-q", "-i", &path(file)]);
        assert_eq!(
            tool("podman", &["image", "inspect", "--format", "{{.Id}}", "localhost/bb:1"]),
            id
        );
        let back = format!("back-{file}");
        tool("podman", &["save", "-q", "--format", format, "-o", &path(&back), "localhost/bb:1"]);
        let other = images.other();
        other.ok(["load", "-i", &path(&back)]);
        assert_eq!(other.id("bb:1"), id, "{format}");
        other.ok(["rmi", "-a"]);
        tool("podman", &["rmi", "localhost/bb:1"]);
    }
    for compression in ["gzip", "zstd"] {
        let to = format!("oci:layout-{compression}:tag");
        tool(
            "skopeo",
            &[
                "copy",
                "-q",
                "--dest-compress",
                "--dest-compress-format",
                compression,
                "docker-archive:d.tar",
                &to,
            ],
        );
        let other = images.other();
        let layout = format!("layout-{compression}");
        assert_eq!(
            other.ok(["load", "-i", &path(&layout)]),
            format!("Loaded image: localhost/{layout}:tag")
        );
        assert_eq!(other.id(&format!("{layout}:tag")), id);
        other.ok(["rmi", "-a"]);
    }
}
