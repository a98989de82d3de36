//! The bodies of the suite once more, without privileges: as root of a user namespace with
//! subordinate ids, where `trusted.` attributes can't be set and devices can't be made.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use support::privilege::{Unprivileged, installed};
use support::{Scratch, require};

use crate::matrix::child::{Verdict, verdict};
use crate::subjects::ours;

/// Bodies that need what there isn't, each with its reason.
const NOT_HERE: &[(&str, &str)] = &[
    ("copyup::fifos_and_devices_can_be_linked_and_changed", "devices can't be made"),
    ("whiteout::lower_whiteouts_and_opaque_directories_hide", TRUSTED),
    ("xattr::attributes_of_a_dangling_symlink_are_its_own", TRUSTED),
    ("xattr::setting_and_removing_copies_up_and_lasts", TRUSTED),
    ("xattr::names_like_our_marks_are_stored_escaped", TRUSTED),
    ("formats::marks_in_a_directory_of_one_layer_lead_to_the_layers_below", TRUSTED),
    ("formats::whiteouts_made_of_attributes_hide", TRUSTED),
    ("formats::data_only_layers_give_data_and_no_names", TRUSTED),
    ("formats::opaque_directories_of_every_dialect_hide", TRUSTED),
    ("formats::it_can_lie_on_overlayfs_and_on_itself", "the kernel's index needs privileges"),
    ("requests::what_is_known_is_not_asked_again", "there is no tracefs to count by"),
    ("requests::what_a_listing_shows_is_not_looked_up", "there is no tracefs to count by"),
    ("requests::new_things_cost_few_messages", "there is no tracefs to count by"),
    (
        "identity::inode_numbers_survive_copy_up_rename_and_remount",
        "symlinks and FIFOs have no user attributes, which would keep their numbers over a remount",
    ),
];

const TRUSTED: &str = "trusted attributes can't be set";

/// What every process of a run shares: copies of the programs that the user may execute.
struct Place {
    scratch: Scratch,
    suite: PathBuf,
    daemon: PathBuf,
    user: Unprivileged,
    /// Options of all mounts.
    options: &'static str,
}

impl Place {
    fn new(user: Unprivileged, options: &'static str) -> Place {
        let scratch = Scratch::new();
        let copy = |from: &Path, name: &str| {
            let to = scratch.path().join(name);
            support::process::copy_program(from, &to);
            to
        };
        let suite = copy(&std::env::current_exe().expect("this program"), "suite");
        let daemon = copy(&ours().program().expect("a program"), "unionfs-copy");
        Place { scratch, suite, daemon, user, options }
    }

    /// Runs one body as root of a new user namespace, with all the ids that the user has.
    fn run(&self, body: &str, subject: &str) -> Verdict {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let room = format!("room{}", COUNT.fetch_add(1, Ordering::Relaxed));
        let room = self.scratch.dir(&room);
        self.user.own(&room);
        let mut command: Command = self.user.command("unshare");
        command
            .args(["--user", "--mount", "--map-root-user", "--map-auto"])
            .arg(&self.suite)
            .env("PALIMPSEST_UNIONFS", &self.daemon)
            .env("PALIMPSEST_OPTIONS", self.options)
            .env("TMPDIR", &room)
            .current_dir(&room);
        verdict(&mut command, &room, body, subject)
    }
}

/// Runs the bodies in two threads; returns which don't hold, and why.
pub(crate) fn run_all(
    bodies: &[String],
    run: impl Fn(&str) -> Verdict + Sync,
) -> Vec<(String, Verdict)> {
    let (next, found) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while let Some(body) = bodies.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let verdict = run(body);
                    if verdict != Verdict::Holds {
                        found.lock().expect("no panic with the lock").push((body.clone(), verdict));
                    }
                }
            });
        }
    });
    found.into_inner().expect("no panic with the lock")
}

#[test]
fn every_body_that_can_holds_in_a_user_namespace() {
    let user = Unprivileged::find();
    require!(
        "every_body_that_can_holds_in_a_user_namespace",
        ours().usable(),
        user.clone().map(drop),
        installed("newuidmap")
    );
    all_that_can_hold(user.expect("found above"), "");
}

/// Runs the bodies as a user in mounts that have some options more.
pub(crate) fn all_that_can_hold(user: Unprivileged, options: &'static str) {
    let place = Place::new(user, options);
    let all: Vec<_> = crate::matrix::bodies().into_iter().map(|(name, _)| name).collect();
    for (body, _) in NOT_HERE {
        assert!(all.iter().any(|n| n == body), "there is no body {body}");
    }
    let (out, here): (Vec<_>, Vec<_>) =
        all.into_iter().partition(|n| NOT_HERE.iter().any(|(body, _)| n == body));
    let failed = run_all(&here, |body| place.run(body, "ours"));
    println!(
        "{} hold, {} don't, {} can't be asked",
        here.len() - failed.len(),
        failed.len(),
        out.len()
    );
    let list: String = failed.iter().map(|(body, why)| format!("== {body}: {why:?}\n")).collect();
    assert!(failed.is_empty(), "{}", list.replace("\\n", "\n"));
}
