//! What the daemon keeps, as it tells when asked by SIGUSR1.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::mount::{MntFlags, umount2};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use support::process::{shell, wait};
use support::{Scratch, Union, require};

use crate::files::{is_gone, list, put, unlink};
use crate::subjects::ours;

/// Names in the lower layer, as in the measurement that found 20,101 nodes kept by a peer.
const NAMES: usize = 20_000;

/// Asks the daemon and returns how many inodes it knows.
fn inodes(daemon: &Child, said: &mut impl BufRead) -> usize {
    kill(Pid::from_raw(daemon.id() as i32), Signal::SIGUSR1).expect("ask the daemon");
    let mut line = String::new();
    loop {
        line.clear();
        assert_ne!(said.read_line(&mut line).expect("read what it says"), 0, "it has ended");
        let words: Vec<_> = line.split_whitespace().collect();
        if let Some(at) = words.iter().position(|w| w.starts_with("inodes")) {
            return words[at - 1].parse().unwrap_or_else(|e| panic!("{line}: {e}"));
        }
    }
}

#[test]
fn what_the_kernel_forgets_is_forgotten() {
    require!("what_the_kernel_forgets_is_forgotten", ours().usable());
    let scratch = Scratch::in_memory();
    let [lower, _, _, point] = ["lower", "upper", "work", "mnt"].map(|n| scratch.dir(n));
    shell(&lower, &format!("mkdir d; cd d; seq {NAMES} | split -l 1 -a 4 - f"));
    let mut daemon = Command::new(ours().program().expect("a program"))
        .args(["-f", "-o", "lowerdir=lower,upperdir=upper,workdir=work", "mnt"])
        .current_dir(scratch.path())
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("start the daemon");
    let mut said = BufReader::new(daemon.stderr.take().expect("its standard error"));
    let started = Instant::now();
    while support::scratch::mounts_below(&point).is_empty() {
        assert!(started.elapsed() < Duration::from_secs(60), "it doesn't mount");
        std::thread::yield_now();
    }
    shell(&point, "ls -l d > /dev/null");
    let known = inodes(&daemon, &mut said);
    assert!(known >= NAMES, "{known} inodes for {NAMES} names that were looked at");
    let _caches = crate::files::hold_caches(true);
    // The kernel forgets in its own time; it is asked for it more than once.
    let asked = Instant::now();
    let mut left = known;
    while left >= NAMES / 20 && asked.elapsed() < Duration::from_secs(30) {
        std::fs::write("/proc/sys/vm/drop_caches", "2").expect("drop the caches");
        for _ in 0..100 {
            left = inodes(&daemon, &mut said);
        }
    }
    umount2(&point, MntFlags::MNT_DETACH).expect("unmount");
    drop(said);
    let status = wait(&mut daemon);
    assert!(left < NAMES / 20, "of {known} inodes {left} are still known");
    assert!(status.is_some_and(|s| s.success()), "{status:?}");
}

/// Beyond the limit listings go that can be had again, and nobody who lists sees it.
#[test]
fn listings_beyond_the_limit_go_and_come_back_the_same() {
    const NAME: &str = "listings_beyond_the_limit_go_and_come_back_the_same";
    const DIRS: usize = 12;
    /// More than one getdents(2) of a reader.
    const FILES: usize = 3000;
    const LIMIT: usize = 300 << 10;
    require!(NAME, ours().usable());
    let u = Union::within(&ours(), Scratch::in_memory()).layer("d x").option("listing_cache=300K");
    let make = format!("mkdir d$d; (cd d$d; seq -f file-%g {FILES} | xargs touch)");
    shell(&u.layers().lowers[0], &format!("for d in $(seq {DIRS}); do {make}; done"));
    let u = u.mount();
    let dir = |n: usize| u.path(&format!("d{n}"));
    let kept = || {
        let said = unionfs::ops::statistics::Statistics::of_mount(u.root()).expect("statistics");
        assert_eq!(said.listing_limit, Some(LIMIT));
        said.listing_bytes
    };
    assert_eq!(list(&dir(1)).len(), FILES);
    let one = kept();
    put(&dir(1).join("new"), "x");
    let mut begun = std::fs::read_dir(dir(2)).expect("begin to list");
    let mut seen: Vec<_> =
        begun.by_ref().take(10).map(|e| e.expect("an entry").file_name()).collect();
    for n in 3..=DIRS {
        assert_eq!(list(&dir(n)).len(), FILES, "d{n}");
    }
    let many = kept();
    assert!(many < LIMIT + 2 * one, "{many} bytes of listings, where one has {one}");
    seen.extend(begun.map(|e| e.expect("an entry").file_name()));
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), FILES, "who had begun to list sees each name");
    assert_eq!(list(&dir(1)).len(), FILES + 1);
    unlink(&dir(2).join("file-7"));
    assert!(is_gone(&dir(2).join("file-7")));
    assert_eq!(list(&dir(2)).len(), FILES - 1);
}
