//! What containers changed: listed, made an image, and run again.

use support::require;

use crate::fixture::Host;
use crate::for_each_user;
use crate::image_fixture::{Archive, Images, busybox, busybox_root, docker_archive};

for_each_user! {
    what_a_container_changed_is_an_image: committed;
}

const CHANGES: &str = "
    echo more > /etc/new; rm /etc/removed; chmod 600 /etc/kept; rm -rf /opaque; mkdir /opaque
    touch /opaque/fresh; ln /etc/new /etc/new2; mv /d/old /d/moved; echo mine > /etc/hosts
";

fn committed(host: &Host) {
    require!("images_commit::what_a_container_changed_is_an_image", busybox());
    let images = Images::new(host);
    let upper = Archive::default().file("etc/second", "second").end();
    let from = images.file("base.tar", &docker_archive("base:1", &[busybox_root().end(), upper]));
    images.ok(["load", "-i", from.to_str().expect("a plain path")]);
    images.ok(["run", "--name", "one", "base:1", "/bin/sh", "-c", CHANGES]);
    let listed = images.ok(["diff", "one"]);
    let expected = [
        "C /d",
        "A /d/moved",
        "D /d/old",
        "C /etc",
        "C /etc/kept",
        "A /etc/new",
        "A /etc/new2",
        "D /etc/removed",
        "C /opaque",
        "D /opaque/below",
        "A /opaque/fresh",
    ];
    assert_eq!(listed.lines().collect::<Vec<_>>(), expected);
    let rows: serde_json::Value =
        serde_json::from_str(&images.ok(["diff", "--json", "one"])).expect("JSON");
    assert_eq!(rows.as_array().map(Vec::len), Some(expected.len()));
    let id =
        images.ok(["commit", "-q", "-c", "ENV NEW=env", "-m", "why", "-a", "who", "one", "made:1"]);
    assert_eq!(images.id("made:1"), id);
    assert_eq!(images.layers("made:1").split(':').count(), 3);
    assert!(images.ok(["history", "made:1"]).contains("runner commit one"));
    assert_eq!(
        images.ok(["image", "inspect", "-f", "{{.Author}} {{.Comment}}", "made:1"]),
        "who why"
    );
    let script = "cat /etc/new /etc/second; ls /opaque /d; test ! -e /etc/removed; echo; echo $NEW; cat /etc/hosts";
    let seen = images.ok(["run", "--rm", "made:1", "/bin/sh", "-euc", script]);
    assert!(seen.starts_with("more\nsecond/d:\nmoved\n\n/opaque:\nfresh\n\nenv\n"), "{seen}");
    assert!(
        !seen.contains("mine"),
        "the files that every container gets are no part of it: {seen}"
    );
    // Out, and in again elsewhere.
    let to = images.dir("out").join("made.tar");
    let to = to.to_str().expect("a plain path");
    images.ok(["save", "-o", to, "made:1"]);
    let other = images.other();
    other.ok(["load", "-i", to]);
    assert_eq!(other.id("made:1"), id);
    assert_eq!(other.ok(["run", "--rm", "made:1", "/bin/cat", "/etc/new2"]), "more");
    let line = images.fails(["rmi", "base:1"]);
    assert!(line.contains("one") && line.contains("runner rm"), "{line}");
    images.ok(["rm", "one"]);
    images.ok(["rmi", "-a"]);
    assert_eq!(images.content(), Vec::<std::path::PathBuf>::new());
    assert!(images.fails(["commit", "one", "x"]).contains("one"));
}
