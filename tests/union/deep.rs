//! Directories in directories, deeper than any path can say and deeper than there is stack.

use std::fs::File;
use std::os::fd::OwnedFd;

use nix::fcntl::{OFlag, openat};
use nix::sys::stat::{Mode, mkdirat};
use support::{Scratch, Subject, Union, require};

use crate::files::*;
use crate::subjects::ours;

/// More than what a thread's stack has room for, with a call or two for each.
const DEPTH: usize = 6_000;

/// Every so many directories one is kept open, to be gone back to.
const STEP: usize = 1_500;

/// Our daemon with few descriptors, so that those of directories must be opened again.
fn with_few_descriptors(scratch: &Scratch) -> Subject {
    let program = ours().program().expect("a program").canonicalize().expect("its path");
    let script = scratch.path().join("unionfs");
    put(&script, &format!("#!/bin/sh\nulimit -n 1024\nexec {} \"$@\"\n", program.display()));
    chmod(&script, 0o755);
    Subject::ours(script.to_str().expect("a plain path"))
}

#[test]
fn a_directory_can_be_reached_however_deep_it_is() {
    require!("a_directory_can_be_reached_however_deep_it_is", ours().usable());
    let scratch = Scratch::new();
    let mut u = Union::on(&with_few_descriptors(&scratch)).layer("").mount();
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY;
    let mut dir: OwnedFd = File::open(u.root()).expect("open the root").into();
    let mut kept = Vec::new();
    for level in 0..DEPTH {
        mkdirat(&dir, "d", Mode::S_IRWXU).unwrap_or_else(|e| panic!("mkdir at {level}: {e}"));
        dir = openat(&dir, "d", flags, Mode::empty()).expect("open it");
        if level % STEP == STEP / 2 {
            kept.push(dir.try_clone().expect("keep it open"));
        }
    }
    // The deepest first: all above it were closed meanwhile.
    for (at, dir) in kept.iter().enumerate().rev() {
        mkdirat(dir, "new", Mode::S_IRWXU).unwrap_or_else(|e| panic!("mkdir at {at}: {e}"));
        openat(dir, "f", OFlag::O_CREAT | OFlag::O_WRONLY, Mode::S_IRUSR).expect("make a file");
    }
    drop((kept, dir));
    u.unmount();
    u.mount();
    assert_eq!(list(u.root()), ["d"]);
}
