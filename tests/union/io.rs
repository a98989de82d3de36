//! The bodies of the suite once more, with the other ways to open, read and write files (`io=`).

use std::io::Read;
use std::process::Command;

use support::requests::{Counter, Messages, summary};
use support::{Union, require};

use crate::files::*;
use crate::matrix::child::{Verdict, run};
use crate::namespaced::run_all;
use crate::subjects::ours;

/// Bodies about what other ways do otherwise, each with its reason.
pub(crate) const OTHERWISE: &[(&str, &str)] = &[
    ("requests::what_is_known_is_not_asked_again", "an open is a message"),
    ("requests::new_things_cost_few_messages", "an open is a message"),
];

/// Runs the bodies in mounts that have some options more.
pub(crate) fn all_hold(options: &str, otherwise: &[(&str, &str)]) {
    let here: Vec<_> = crate::matrix::bodies()
        .into_iter()
        .map(|(name, _)| name)
        .filter(|n| otherwise.iter().all(|(body, _)| n != body))
        .collect();
    assert!(here.len() > 100, "{} bodies", here.len());
    let own = std::env::current_exe().expect("this program");
    let run = |body: &str| {
        let mut command = Command::new(&own);
        run(command.env("PALIMPSEST_OPTIONS", options), body, "ours")
    };
    let bad = |(_, v): &(String, Verdict)| matches!(v, Verdict::Fails(_));
    let failed: Vec<_> = run_all(&here, run).into_iter().filter(bad).collect();
    let list: String = failed.iter().map(|(body, why)| format!("== {body}: {why:?}\n")).collect();
    assert!(failed.is_empty(), "{} of {}: {}", failed.len(), here.len(), list.replace("\\n", "\n"));
}

#[test]
fn every_body_holds_where_the_kernel_reads_and_writes_files_itself() {
    let name = "every_body_holds_where_the_kernel_reads_and_writes_files_itself";
    require!(name, ours().usable(), support::privilege::kernel_at_least(6, 9));
    all_hold("io=passthrough", OTHERWISE);
}

/// The kernel itself writes and reads what has its data in the upper; a lower's file goes through the
/// cache for as long as anybody has it open from before it was copied up.
#[test]
fn content_of_the_upper_takes_no_message_with_passthrough() {
    let name = "content_of_the_upper_takes_no_message_with_passthrough";
    require!(name, ours().usable(), support::privilege::kernel_at_least(6, 9));
    let u = Union::on(&ours()).layer("f low \"low\"").option("io=passthrough").mount();
    let counter = Counter::new(u.root());
    require!(name, counter.as_ref().map(drop).map_err(Clone::clone));
    let counter = counter.expect("checked above");
    let content = |messages: &Messages| {
        ["READ", "WRITE"].map(|m| messages.get(m).copied().unwrap_or_default())
    };
    let new = u.path("new");
    let written = counter.count(|| {
        put(&new, "some");
        append(&new, " more");
        assert_eq!(get(&new), "some more");
    });
    assert_eq!(content(&written), [0, 0], "{}", summary(&written));

    let low = u.path("low");
    let before = open(&low, libc::O_RDONLY);
    let mixed = counter.count(|| append(&low, "er"));
    assert_eq!(content(&mixed)[1], 1, "{}", summary(&mixed));
    let mut text = String::new();
    (&before).read_to_string(&mut text).expect("read");
    assert_eq!(text, "lower", "seen by who has it open");
    drop(before);
    let direct = counter.count(|| {
        append(&low, "most");
        assert_eq!(get(&low), "lowermost");
    });
    assert_eq!(content(&direct), [0, 0], "{}", summary(&direct));
}

#[test]
fn every_body_holds_where_each_open_is_a_message() {
    require!("every_body_holds_where_each_open_is_a_message", ours().usable());
    all_hold("io=cached", OTHERWISE);
}
