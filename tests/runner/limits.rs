//! Limits: what the program sees, and what bites.

use crate::fixture::{Host, Who, text};
use crate::for_each_user;

for_each_user! {
    unmodified_tools_show_the_limits_and_the_age_of_the_container: |host| {
        let script = "free -m | awk '/^Mem:/ {print $2}'; nproc; cut -d. -f1 /proc/uptime; \
                      top -bn1 | grep -c 'up 0 min'; ps -o etimes= -p 1";
        let out = host.ok(["--memory", "256M", "--cpus", "1", "--", "sh", "-c", script]);
        let lines: Vec<&str> = out.lines().map(str::trim).collect();
        let [memory, cpus, age, top, init] = lines[..] else { panic!("{out}") };
        assert_eq!((memory, cpus, top), ("256", "1", "1"));
        let seconds = |s: &str| s.parse::<u64>().unwrap();
        assert!(seconds(age) < 60 && seconds(init) < 60, "{out}");
    };

    limits_that_no_cgroup_holds_are_refused_where_asked_to_be_strict: |host| {
        let args = ["--strict", "--memory", "64M", "--", "true"];
        if enforced(host) {
            host.ok(args);
        } else {
            let said = host.fails(125, args);
            assert!(said.contains("not enforced"), "{said}");
        }
    };

    what_is_not_enforced_is_one_warning: |host| {
        let out = host.run(["--memory", "64M", "--cpus", "1", "--pids-limit", "50", "--", "true"]);
        assert!(out.status.success());
        let said = text(&out.stderr);
        let about_limits = said.lines().filter(|l| l.contains("enforced")).count();
        assert_eq!(about_limits, usize::from(!enforced(host)), "{said}");
    };
}

/// Whether this user's limits are held by cgroups: on the machines of these tests, root's are.
fn enforced(host: &Host) -> bool {
    matches!(host.who(), Who::Root)
}

#[test]
fn too_much_memory_ends_the_program_and_is_said() {
    support::require!("limits::too_much_memory", support::privilege::root());
    let host = Host::root().expect("root");
    // `tail` keeps what it reads, as there is no newline in it.
    let out = host.run(["--memory", "32M", "--", "sh", "-c", "head -c 300M /dev/zero | tail"]);
    assert_eq!(out.status.code(), Some(137), "{}", text(&out.stderr));
    assert!(text(&out.stderr).contains("memory limit was reached"), "{}", text(&out.stderr));
}

#[test]
fn a_limit_of_processes_stops_a_fork_bomb() {
    support::require!("limits::fork_bomb", support::privilege::root());
    let host = Host::root().expect("root");
    let script = "n=0; while [ $n -lt 60 ]; do sleep 60 & n=$((n + 1)); done; echo all";
    let out = host.run(["--pids-limit", "20", "--", "sh", "-c", script]);
    assert!(!text(&out.stdout).contains("all"), "{}", text(&out.stderr));
    assert!(text(&out.stderr).contains("fork"), "{}", text(&out.stderr));
}

#[test]
fn programs_find_their_limits_in_their_own_cgroups() {
    support::require!("limits::cgroups", support::privilege::root());
    let host = Host::root().expect("root");
    let script = "cd /sys/fs/cgroup; cat memory.max memory/memory.limit_in_bytes 2>/dev/null; \
                  touch x 2>&1; grep -c palimpsest /proc/self/cgroup; true";
    let out = host.ok(["--memory", "64M", "--", "sh", "-c", script]);
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!(lines.first(), Some(&"67108864"), "{out}");
    assert!(lines.get(1).is_some_and(|l| l.contains("Read-only")), "{out}");
    // The names of the host's cgroups are hidden by the namespace.
    assert_eq!(lines.get(2), Some(&"0"), "{out}");
}

#[test]
fn quotas_are_written_to_the_container_s_own_cgroups() {
    support::require!("limits::quotas", support::privilege::root());
    let host = Host::root().expect("root");
    let out = host.ok(["--dry-run", "--memory", "1M", "--cpus", "1.5", "--", "true"]);
    assert!(out.contains("1048576"), "{out}");
    assert!(out.contains("150000"), "{out}");
}

/// Returns the hundredths of a second of a time that the shell's `times` prints (`1m2.34s`).
fn hundredths(text: &str) -> f64 {
    let (minutes, seconds) =
        text.trim_end_matches('s').split_once('m').expect("minutes and seconds");
    (minutes.parse::<f64>().unwrap() * 60.0 + seconds.parse::<f64>().unwrap()) * 100.0
}

/// Two programs that would use a CPU each get half of one together. How much it was is printed; set
/// PALIMPSEST_LIMIT_SECONDS for a longer measurement. What is asserted is the ratio of CPU time and elapsed
/// time, and only that it isn't far above the limit: on a busy machine it is below.
#[test]
fn a_quota_of_cpu_time_is_kept() {
    support::require!("limits::cpu_quota", support::privilege::root());
    let host = Host::root().expect("root");
    let seconds = std::env::var("PALIMPSEST_LIMIT_SECONDS").unwrap_or_else(|_| "3".to_owned());
    let script = format!(
        "cut -d' ' -f1 /proc/uptime; for n in 1 2; do timeout {seconds} sh -c 'while :; do :; done' & done; \
         wait; cut -d' ' -f1 /proc/uptime; times"
    );
    let out = host.ok(["--cpus", "0.5", "--", "sh", "-c", &script]);
    let lines: Vec<&str> = out.lines().collect();
    let [from, to, _, children] = lines[..] else { panic!("{out}") };
    let elapsed = (to.parse::<f64>().unwrap() - from.parse::<f64>().unwrap()) * 100.0;
    let used: f64 = children.split_whitespace().map(hundredths).sum();
    let ratio = used / elapsed;
    println!("--cpus 0.5: {used:.0} hundredths of CPU time in {elapsed:.0}: {ratio:.4}");
    assert!(ratio < 0.6, "{out}");
}

#[test]
fn a_chosen_cpu_is_the_only_one() {
    support::require!("limits::cpuset", support::privilege::root());
    let host = Host::root().expect("root");
    let script =
        "nproc; grep Cpus_allowed_list /proc/self/status; taskset -p 3 $$ > /dev/null 2>&1; nproc";
    let out = host.ok(["--cpuset-cpus", "0", "--", "sh", "-c", script]);
    assert_eq!(out, "1\nCpus_allowed_list:\t0\n1\n");
}

#[test]
fn a_rate_of_writing_is_kept() {
    use std::os::unix::fs::MetadataExt;
    support::require!("limits::io", support::privilege::root());
    let host = Host::root().expect("root");
    let dir = host.home_dir("disk");
    let device = std::fs::metadata(&dir).expect("its device").dev();
    let (major, minor) = (nix::sys::stat::major(device), nix::sys::stat::minor(device));
    if !std::path::Path::new(&format!("/sys/dev/block/{major}:{minor}")).exists() {
        let why = "the tests' directory is on no disk".to_owned();
        return support::privilege::skip("limits::io", &support::privilege::Missing::Kernel(why));
    }
    let at = dir.display();
    let script = "cut -d' ' -f1 /proc/uptime; dd if=/dev/zero of=/d/file bs=1M count=12 oflag=direct 2> /dev/null; \
                  cut -d' ' -f1 /proc/uptime; rm /d/file";
    let limit = format!("{at}:4m");
    let out = host.ok([
        "--device-write-bps",
        &limit,
        "-v",
        &format!("{at}:/d"),
        "--",
        "sh",
        "-c",
        script,
    ]);
    let times: Vec<f64> = out.lines().map(|l| l.parse().unwrap()).collect();
    let [from, to] = times[..] else { panic!("{out}") };
    println!("12 MiB at 4 MiB a second: {:.2} s", to - from);
    // Slower is always possible; faster only without the limit.
    assert!(to - from > 2.0, "{out}");
}
