//! What is brought to disk before a reply, by `fsync=`: counted in system calls, as nothing but a
//! power cut would show it.

use std::path::Path;

use support::privilege::installed;
use support::{Union, require};

use crate::files::*;
use crate::subjects::ours;
use crate::tracer::Tracer;

/// All calls that bring something to disk.
const CALLS: &str = "fsync,fdatasync,sync_file_range,syncfs,sync,msync";

/// Returns the calls of a mount's daemon while `action` runs.
fn calls(u: &Union, action: impl FnOnce(&Path)) -> Vec<String> {
    let log = u.scratch().path().join("calls");
    let tracer = Tracer::record(u.mounted().daemon().expect("a daemon"), CALLS, &log);
    action(u.root());
    drop(tracer);
    // An older strace records calls that it doesn't know whatever it was asked for.
    let asked_for = |line: &&str| CALLS.split(',').any(|c| line.contains(&format!(" {c}(")));
    let text = std::fs::read_to_string(&log).expect("read the record");
    text.lines().filter(asked_for).map(str::to_owned).collect()
}

fn of(fsync: &str) -> [Vec<String>; 3] {
    let lower = "f a/b/f \"data\"\nf g \"data\"\nd c/d";
    let u = Union::on(&ours()).layer(lower).option(fsync).option("metacopy=on").mount();
    let append = calls(&u, |at| append(&at.join("a/b/f"), "more"));
    let chmod = calls(&u, |at| chmod(&at.join("g"), 0o600));
    let asked = calls(&u, |at| {
        let file = open(&at.join("a/b/f"), libc::O_WRONLY);
        nix::unistd::fsync(&file).expect("fsync");
    });
    [append, chmod, asked]
}

/// A copy's data is on disk before its name, and with `strict` each directory and each copy of
/// metadata too; a program's own fsync is obeyed.
#[test]
fn the_option_says_what_is_brought_to_disk() {
    require!("the_option_says_what_is_brought_to_disk", ours().usable());
    require!("the_option_says_what_is_brought_to_disk", installed("strace"));
    for (option, want) in [
        ("fsync=ordered", [1, 0, 1]),
        // The file and two parents, each before its name; and the copy of metadata.
        ("fsync=strict", [3, 1, 1]),
        ("fsync=volatile", [0, 0, 0]),
    ] {
        let found = of(option);
        assert_eq!(found.each_ref().map(Vec::len), want, "{option}: {found:#?}");
    }
}
