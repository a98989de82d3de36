//! The bodies of the suite once more, with messages that come through io_uring.

use std::os::unix::fs::MetadataExt;
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};

use support::privilege::{Missing, Unprivileged, installed, root};
use support::process::run;
use support::{Scratch, Union, require};

use crate::files::{put, rename, stat, unlink};
use crate::io::all_hold;
use crate::namespaced::all_that_can_hold;
use crate::subjects::ours;

/// Where root says whether the kernel offers it.
const SWITCH: &str = "/sys/module/fuse/parameters/enable_uring";

/// The switch in one position; as it was when this is dropped.
struct Switch {
    before: String,
    _alone: MutexGuard<'static, ()>,
}

impl Switch {
    fn set(on: bool) -> Result<Switch, Missing> {
        static ALONE: Mutex<()> = Mutex::new(());
        root()?;
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let before = std::fs::read_to_string(SWITCH)
            .map_err(|e| Missing::Kernel(format!("no FUSE through io_uring: {SWITCH}: {e}")))?;
        let disabled = std::fs::read_to_string("/proc/sys/kernel/io_uring_disabled");
        if disabled.is_ok_and(|text| text.trim() != "0") {
            return Err(Missing::Setup("kernel.io_uring_disabled isn't 0".into()));
        }
        std::fs::write(SWITCH, if on { "Y" } else { "N" })
            .map_err(|e| Missing::Setup(format!("write {SWITCH}: {e}")))?;
        Ok(Switch { before, _alone: alone })
    }
}

impl Drop for Switch {
    fn drop(&mut self) {
        std::fs::write(SWITCH, &self.before).expect("set the switch back");
    }
}

#[test]
fn every_body_holds_through_io_uring() {
    let switch = Switch::set(true);
    require!(
        "every_body_holds_through_io_uring",
        ours().usable(),
        switch.as_ref().map(drop).map_err(Clone::clone)
    );
    all_hold("io_uring", &[]);
    all_hold("io_uring,io=passthrough", crate::io::OTHERWISE);
}

#[test]
fn every_body_that_can_holds_through_io_uring_in_a_user_namespace() {
    let user = Unprivileged::find();
    let switch = Switch::set(true);
    require!(
        "every_body_that_can_holds_through_io_uring_in_a_user_namespace",
        ours().usable(),
        user.clone().map(drop),
        installed("newuidmap"),
        switch.as_ref().map(drop).map_err(Clone::clone)
    );
    all_that_can_hold(user.expect("found above"), "io_uring");
}

/// A file system gives the number of a removed file to the next one. The kernel says by another way than
/// io_uring that it has forgotten the first.
#[test]
fn a_new_file_has_the_number_that_a_removed_one_had() {
    let switch = Switch::set(true);
    require!(
        "a_new_file_has_the_number_that_a_removed_one_had",
        ours().usable(),
        switch.as_ref().map(drop).map_err(Clone::clone)
    );
    let u = Union::within(&ours(), Scratch::new()).layer("d d").mount();
    for n in 0..2000 {
        let (name, other) = (u.path(&format!("d/{}", n % 7)), u.path("d/other"));
        put(&name, "x");
        let below =
            std::fs::metadata(u.upper(&format!("d/{}", n % 7))).expect("look into the upper");
        assert_eq!(stat(&name).ino, below.ino(), "file {n}");
        if n % 2 == 0 {
            unlink(&name);
        } else {
            rename(&name, &other);
        }
    }
}

#[test]
fn io_uring_that_the_kernel_does_not_offer_is_refused_where_it_was_asked_for() {
    let switch = Switch::set(false);
    require!(
        "io_uring_that_the_kernel_does_not_offer_is_refused_where_it_was_asked_for",
        ours().usable(),
        switch.as_ref().map(drop).map_err(Clone::clone)
    );
    let scratch = Scratch::new();
    let (lower, at) = (scratch.dir("lower"), scratch.dir("merged"));
    let mut command = Command::new(ours().program().expect("a program"));
    let out = run(command.arg("-o").arg(format!("lowerdir={},io_uring", lower.display())).arg(&at));
    let said = String::from_utf8_lossy(&out.stderr);
    assert_eq!(out.status.code(), Some(1), "{said}");
    assert!(said.contains("io_uring") && said.contains(SWITCH), "{said}");
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").expect("read mountinfo");
    assert!(!mounts.contains(&*at.to_string_lossy()), "a mount is left");
}
