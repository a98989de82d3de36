//! `bench doctor`: what this machine lacks, and what can't be measured without it.

use std::fs;
use std::path::Path;

use nix::unistd::Uid;

use super::list::ListArgs;
use super::run::chosen_subjects;

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
    for program in ["tar", "find", "git", "cc", "sqlite3"] {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let found = std::env::split_paths(&path).any(|dir| dir.join(program).is_file());
        say(program, found, "its cases of the suite work fail");
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
