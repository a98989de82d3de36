//! The ranges of subordinate ids that the system administrator gave a user (subuid(5)).

use std::fs;
use std::path::Path;

use nix::unistd::{Uid, User};

use crate::spec::Range;

/// Returns the user's subordinate uids and gids, laid out from 1 on, or why there are none.
pub(super) fn ranges(uid: u32) -> Result<(Vec<Range>, Vec<Range>), String> {
    let name = User::from_uid(Uid::from_raw(uid)).ok().flatten().map(|u| u.name);
    let read = |file: &str| {
        let text = fs::read_to_string(file).unwrap_or_default();
        match parse(&text, name.as_deref(), uid) {
            r if r.is_empty() => {
                let who = name.clone().unwrap_or_else(|| uid.to_string());
                Err(format!("{file} has no range for {who}"))
            }
            r => Ok(r),
        }
    };
    let both = (read("/etc/subuid")?, read("/etc/subgid")?);
    for helper in ["newuidmap", "newgidmap"] {
        if !in_path(helper) {
            return Err(format!("{helper} is not installed (package uidmap)"));
        }
    }
    Ok(both)
}

fn in_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|dir| Path::new(&dir).join(program).is_file())
}

/// Reads lines of `NAME-OR-UID:FIRST:COUNT`.
fn parse(text: &str, name: Option<&str>, uid: u32) -> Vec<Range> {
    let mut all: Vec<Range> = Vec::new();
    let mut inside = 1u32;
    for line in text.lines() {
        let fields: Vec<&str> = line.trim().split(':').collect();
        let [who, first, count] = fields.as_slice() else { continue };
        if Some(*who) != name && *who != uid.to_string() {
            continue;
        }
        let (Ok(outside), Ok(count)) = (first.parse::<u32>(), count.parse::<u32>()) else {
            continue;
        };
        let fits = inside.checked_add(count).is_some() && outside.checked_add(count).is_some();
        if count > 0 && fits {
            all.push(Range { inside, outside, count });
            inside += count;
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_of_name_and_number_are_laid_out_one_after_the_other() {
        let text = "root:1:2\nalice:100000:65536\n# x\n1001:300000:10\nbob:5:x\n";
        assert_eq!(
            parse(text, Some("alice"), 1001),
            [
                Range { inside: 1, outside: 100_000, count: 65536 },
                Range { inside: 65537, outside: 300_000, count: 10 },
            ]
        );
        assert!(parse(text, Some("bob"), 7).is_empty());
    }
}
