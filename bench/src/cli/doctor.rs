//! `bench doctor`: what this machine lacks, and what can't be measured without it.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use nix::unistd::Uid;

use super::list::ListArgs;
use super::run::chosen_subjects;
use crate::subject::find::in_path;
use crate::suite;

/// Prints one line for each thing that is looked at.
pub(super) fn doctor(args: &ListArgs) -> Result<(), String> {
    let root = Uid::effective().is_root();
    say("root", root, "all subjects are rootless, messages and system calls aren't counted");
    say("/dev/fuse", Path::new("/dev/fuse").exists(), "no union in userspace can be mounted");
    let systems = fs::read_to_string("/proc/filesystems").unwrap_or_default();
    let overlay = systems.lines().any(|l| l.trim_start_matches("nodev").trim() == "overlay");
    say("kernel overlayfs", overlay, "no ratio to it (modprobe overlay)");
    let traces = ["/sys/kernel/tracing", "/sys/kernel/debug/tracing"];
    let trace = traces.iter().any(|t| Path::new(t).exists());
    say("trace events", root && trace, "messages and system calls aren't counted");
    say("a user for @user", args.identity().is_ok(), "no rootless subjects (--user NAME)");
    let governor = fs::read_to_string("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor");
    if let Ok(governor) = governor {
        let steady = governor.trim() == "performance";
        say("governor performance", steady, "the clock may change while it is measured");
    }
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load: f64 = load.split(' ').next().and_then(|l| l.parse().ok()).unwrap_or(0.0);
    say("an idle machine", load < 0.3, &format!("load {load}: intervals get wide"));
    let needs = suite::all().into_iter().flat_map(|b| b.needs.iter().map(move |p| (*p, b)));
    let mut programs: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for (program, block) in needs {
        programs.entry(program).or_default().push(format!("{}/{}", block.suite, block.name));
    }
    for program in ["tar", "find"] {
        programs.entry(program).or_default().push("work".into());
    }
    for (program, blocks) in programs {
        say(program, in_path(program).is_some(), &format!("not measured: {}", blocks.join(", ")));
    }
    for found in chosen_subjects(args, &[]) {
        match found {
            Ok(s) => say(&format!("{} ({})", s.name, s.version), true, ""),
            Err(a) => say(&a.name, false, &a.why),
        }
    }
    Ok(())
}

fn say(what: &str, there: bool, else_what: &str) {
    match there {
        true => println!("ok       {what}"),
        false => println!("missing  {what}: {else_what}"),
    }
}
