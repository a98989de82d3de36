//! Archives that mean harm, or are broken: refused with one line that says why, nothing unpacked
//! outside of the layer, and nothing left of what was begun.

use std::path::Path;

use crate::fixture::Host;
use crate::for_each_user;
use crate::image_fixture::{Archive, Images, docker_archive};

for_each_user! {
    what_leads_outside_is_refused: outside;
    what_would_fill_the_machine_is_refused: bombs;
    what_contradicts_itself_is_refused: contradictions;
    what_is_odd_but_harmless_is_taken: harmless;
}

/// Imports an archive, which must be refused with these words, and checks that nothing is left.
#[track_caller]
fn refused(images: &Images<'_>, archive: Archive, options: &[&str], words: &str) {
    let from = images.file("bad.tar", &archive.end());
    let mut args = vec!["import"];
    args.extend(options);
    args.push(from.to_str().expect("a plain path"));
    let line = images.fails(&args);
    assert!(line.contains(words), "{words}: {line}");
    assert_eq!(images.content(), Vec::<std::path::PathBuf>::new(), "{words}");
}

fn outside(host: &Host) {
    let images = Images::new(host);
    let target = host.dir().join("outside");
    std::fs::create_dir(&target).expect("make a directory");
    std::fs::write(target.join("secret"), "secret").expect("write a file");
    let t = target.to_str().expect("a plain path");
    let a = Archive::default;
    let rows = [
        (a().file("/etc/x", "x"), "absolute path"),
        (a().file("../x", "x"), "`..`"),
        (a().file("a/../../x", "x"), "`..`"),
        (a().pax(&[("path", "../../x")]).file("a", "x"), "`..`"),
        (a().pax(&[("GNU.sparse.name", "/x")]).file("a", "x"), "absolute path"),
        (a().add(b'L', "././@LongLink", "", b"../x\0").file("a", "x"), "`..`"),
        (a().add(b'2', "link", t, b"").file("link/x", "x"), "symlink"),
        (a().dir("d/").add(b'2', "d/link", "..", b"").file("d/link/../x", "x"), "`..`"),
        // A directory that becomes a symlink on the way.
        (a().dir("d/").file("d/x", "1").add(b'2', "d", t, b"").file("d/y", "x"), "symlink"),
        (a().add(b'2', "link", t, b"").dir("link/sub/"), "symlink"),
        (a().add(b'2', "link", t, b"").add(b'0', "link/.wh.secret", "", b""), "symlink"),
        (a().add(b'2', "link", t, b"").add(b'1', "x", "link/secret", b""), "symlink"),
        (a().add(b'1', "x", "/etc/passwd", b""), "absolute path"),
        (a().add(b'1', "x", "../../etc/passwd", b""), "`..`"),
        (a().add(b'1', "x", "nothing", b""), "no such file"),
        (a().dir("d/").add(b'1', "x", "d", b""), "directory"),
        (a().add(b'0', ".wh.", "", b""), "without a name"),
        (a().add(b'0', ".wh...", "", b""), "without a name"),
        (a().pax(&[("SCHILY.xattr.trusted.overlay.redirect", "/etc")]).dir("d/"), "another layer"),
        (a().pax(&[("SCHILY.xattr.user.overlay.metacopy", "")]).file("f", ""), "another layer"),
    ];
    for (archive, words) in rows {
        refused(&images, archive, &[], words);
    }
    let left: Vec<_> =
        std::fs::read_dir(&target).expect("list").flatten().map(|e| e.file_name()).collect();
    assert_eq!(left, ["secret"]);
    assert!(!host.dir().join("x").exists() && !Path::new("/x").exists());
}

fn bombs(host: &Host) {
    let images = Images::new(host);
    let a = Archive::default;
    let mut huge = a();
    huge.header(b'0', "huge", "", 0o7_777_777_777, 0o644);
    refused(&images, huge, &["--max-size", "1M"], "more than 1048576 bytes");
    let mut name = a();
    name.header(b'L', "././@LongLink", "", 1 << 32, 0o644);
    refused(&images, name, &[], "extended header");
    let mut pax = a();
    pax.header(b'x', "pax", "", 1 << 32, 0o644);
    refused(&images, pax, &[], "extended header");
    let sparse = [
        ("GNU.sparse.major", "1"),
        ("GNU.sparse.minor", "0"),
        ("GNU.sparse.realsize", "4611686018427387904"),
    ];
    refused(
        &images,
        a().pax(&sparse).add(b'0', "s", "", &[b"0\n", &[0u8; 510][..]].concat()),
        &[],
        "more than",
    );
    let many = [("GNU.sparse.major", "1"), ("GNU.sparse.minor", "0"), ("GNU.sparse.realsize", "1")];
    refused(
        &images,
        a().pax(&many).add(b'0', "s", "", &[b"99999999\n", &[0u8; 503][..]].concat()),
        &[],
        "too many parts",
    );
    // 64 MiB of zeroes in 64 kB.
    let zeroes = vec![0u8; 64 << 20];
    let bomb = a().add(b'0', "zeroes", "", &zeroes).end();
    let packed = support::process::feed(std::process::Command::new("gzip").arg("-c"), &bomb).stdout;
    let from = images.file("bomb.tar.gz", &packed);
    let from = from.to_str().expect("a plain path");
    let line = images.fails(["import", "--max-size", "16M", from]);
    assert!(line.contains("more than 16777216 bytes"), "{line}");
    assert_eq!(images.content().len(), 0);
    let value = "x".repeat(70_000);
    refused(
        &images,
        a().pax(&[("SCHILY.xattr.user.a", &value)]).file("f", ""),
        &[],
        "at most 65536",
    );
    refused(
        &images,
        a().file(&"n/".repeat(49), "").pax(&[("path", &"n/".repeat(3000))]).file("f", ""),
        &[],
        "too long",
    );
}

fn contradictions(host: &Host) {
    let images = Images::new(host);
    let a = Archive::default;
    let mut broken = a().file("a", "x");
    broken.0[150] = b'7';
    refused(&images, broken, &[], "checksum");
    let mut short = a();
    short.header(b'0', "a", "", 5000, 0o644);
    refused(&images, short, &[], "too early");
    refused(
        &images,
        a().add(b'x', "pax", "", b"99 path=a\n").file("a", ""),
        &[],
        "extended header is broken",
    );
    refused(&images, a().pax(&[("size", "x")]).file("a", ""), &[], "no number");
    refused(&images, a().add(b'?', "a", "", b""), &[], "not supported");
    let overlap = [("GNU.sparse.size", "10"), ("GNU.sparse.map", "5,2,0,2")];
    refused(&images, a().pax(&overlap).add(b'0', "s", "", b"abcd"), &[], "overlap");
    // Images: layers that are not those of the configuration, and digests that are not those of blobs.
    let good = docker_archive("x:1", &[a().file("a", "1").end()]);
    let text = String::from_utf8_lossy(&good).into_owned();
    assert!(text.contains("a\0"), "the layer is in the archive");
    let at = good.windows(11).position(|w| w == b"\"diff_ids\":").expect("the ids") + 20;
    let mut lies = good.clone();
    lies[at + 8] = if lies[at + 8] == b'0' { b'1' } else { b'0' };
    let from = images.file("lies.tar", &lies);
    let line = images.fails(["load", "-i", from.to_str().expect("a plain path")]);
    assert!(line.contains("digest"), "{line}");
    assert_eq!(images.content().len(), 0, "{:?}", images.content());
    let xz = images.file("x.xz", b"\xfd7zXZ\0rest");
    assert!(images.fails(["import", xz.to_str().expect("a plain path")]).contains("xz"));
}

fn harmless(host: &Host) {
    let images = Images::new(host);
    let archive = Archive::default()
        .file("twice", "first")
        .file("twice", "second")
        .file("was-file", "x")
        .dir("was-file/")
        .file("was-file/in", "x")
        .dir("was-dir/")
        .file("was-dir/in", "x")
        .file("was-dir", "now a file")
        .file("no/dir/named", "x")
        .add(b'1', "self", "self", b"")
        .add(b'0', ".wh..wh.plnk", "", b"")
        .file("./dots/./in//name", "x")
        .end();
    let from = images.file("odd.tar", &archive);
    images.ok(["import", from.to_str().expect("a plain path"), "odd"]);
    let layer = images.layers("odd");
    let read = |name: &str| std::fs::read_to_string(Path::new(&layer).join(name)).expect("read");
    assert_eq!((read("twice"), read("was-dir")), ("second".into(), "now a file".into()));
    assert_eq!(
        (read("was-file/in"), read("no/dir/named"), read("dots/in/name")),
        ("x".into(), "x".into(), "x".into())
    );
    assert!(!Path::new(&layer).join(".wh..wh.plnk").exists());
}
