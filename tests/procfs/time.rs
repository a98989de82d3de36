//! Age, boot time and start times that agree.

use procfs_shim::host::parse;
use support::privilege::installed;
use support::require;

use crate::container::{Container, Limits, Namespaces, v1_controllers};
use crate::seen::{fuse, no_args};
use crate::shim::{SharedDir, Shim};

#[test]
fn uptime_is_the_container_s_age() {
    require!("uptime_is_the_container_s_age", fuse(), v1_controllers(), installed("uptime"));
    let shim = Shim::start(&no_args());
    let container = Container::start(shim.path(), &Limits::default(), Namespaces::Own);
    let age: f64 = container.sh("cut -d' ' -f1 /proc/uptime").trim().parse().unwrap();
    let host: f64 = std::fs::read_to_string("/proc/uptime")
        .unwrap()
        .split(' ')
        .next()
        .unwrap()
        .parse()
        .unwrap();
    let start = parse::pid_stat(
        &std::fs::read_to_string(format!("/proc/{}/stat", container.init())).unwrap(),
    );
    let started = start.unwrap().start as f64 / 100.0;
    assert!(age > 0.0 && age <= host - started + 0.02, "{age} of {host} - {started}");
    assert!(container.sh("uptime").contains("up 0 min"));
}

#[test]
fn in_a_time_namespace_uptime_btime_and_ps_agree() {
    require!(
        "in_a_time_namespace_uptime_btime_and_ps_agree",
        fuse(),
        v1_controllers(),
        installed("ps")
    );
    let shared = SharedDir::new();
    let mut container = Container::start_bare(&Limits::default(), Namespaces::OwnTime);
    // The kernel applies the reader's offset by itself.
    let kernel = container.sh("grep btime /proc/stat; cat /proc/uptime; ps -o etimes= -p 1");
    let init = container.init().to_string();
    for args in [vec!["--init-pid", &init], vec![]] {
        let shim = Shim::start_in(&shared, &args);
        container.bind(shim.path());
        let ours = container.sh("grep btime /proc/stat; cat /proc/uptime; ps -o etimes= -p 1");
        let number = |text: &str, line: usize, word: usize| -> f64 {
            let line = text.lines().nth(line).unwrap_or_default();
            let word = line.split_ascii_whitespace().nth(word).unwrap_or_default();
            word.parse().unwrap_or_else(|_| panic!("a number in {text}"))
        };
        assert!((number(&kernel, 0, 1) - number(&ours, 0, 1)).abs() <= 1.0, "{kernel}{ours}");
        let (uptime, elapsed) = (number(&ours, 1, 0), number(&ours, 2, 0));
        assert!(uptime >= number(&kernel, 1, 0) && uptime < 1000.0, "{kernel}{ours}");
        assert!(elapsed <= uptime + 1.0, "{ours}");
        container.sh("umount -l /proc/stat /proc/uptime");
    }
}
