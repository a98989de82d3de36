//! `unionctl stats`, which asks a mount.

use serde_json::Value;
use support::{Scratch, Union, require};

use super::{home, unionctl};
use crate::files::*;
use crate::subjects::ours;

#[test]
fn a_mount_tells_what_it_keeps_and_what_it_was_asked() {
    require!("a_mount_tells_what_it_keeps_and_what_it_was_asked", ours().usable());
    let u = Union::on(&ours()).layer("f d/a \"x\"\nf d/b \"y\"").mount();
    assert_eq!(list(&u.path("d")), ["a", "b"]);
    let root = u.root().to_string_lossy().into_owned();
    let said: Value =
        serde_json::from_str(&unionctl(home(&u), ["stats", "--json", &root]).well()).expect("JSON");
    assert_eq!(said["listing_limit"], 64 << 20, "{said}");
    let has = |key: &str| said[key].as_u64().is_some_and(|n| n > 0);
    assert!(has("inodes") && has("listing_bytes") && has("threads"), "{said}");
    assert!(said["resident_bytes"].as_u64().is_some_and(|n| n > 100_000), "{said}");
    assert!(said["messages"]["READDIRPLUS"].as_u64().is_some_and(|n| n > 0), "{said}");
    let line = unionctl(home(&u), ["stats", &root]).well();
    assert!(line.contains(" inodes, ") && line.contains("messages: "), "{line}");
}

#[test]
fn what_is_no_mount_of_ours_is_named() {
    require!("what_is_no_mount_of_ours_is_named", ours().usable());
    let u = Union::on(&ours()).layer("f d/a \"x\"").mount();
    let scratch = Scratch::new();
    let below = u.path("d").to_string_lossy().into_owned();
    let elsewhere = scratch.path().to_string_lossy().into_owned();
    for path in [below, elsewhere] {
        let said = unionctl(home(&u), ["stats", &path]).failed(1);
        assert!(said.contains(&path) && said.contains("not the root of a mount"), "{said}");
    }
    let said = unionctl(scratch.path(), ["stats", "nowhere"]).failed(1);
    assert!(said.contains("nowhere") && said.contains("No such file"), "{said}");
}
