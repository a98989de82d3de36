//! Reading ahead over files: who reads the files of a directory in the order of its listing has the next
//! ones fetched from the disk.

use std::fs::File;
use std::time::{Duration, Instant};

use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};
use support::privilege::Missing;
use support::{Scratch, Union, require};

use crate::files::*;
use crate::subjects::ours;

/// Files of each directory, of one block.
const FILES: usize = 60;
const BLOCK: u64 = 4096;
const DIRS: [&str; 5] = ["d0", "d1", "d2", "d3", "d4"];

/// Returns how many bytes a process has had read from disks.
fn read_bytes(pid: i32) -> u64 {
    let io = std::fs::read_to_string(format!("/proc/{pid}/io")).expect("read /proc/PID/io");
    let value = io.lines().find_map(|line| line.strip_prefix("read_bytes: "));
    value.and_then(|v| v.parse().ok()).expect("read_bytes")
}

/// Has the kernel drop what it may, and says if nothing has to be read from a disk then.
fn evict(u: &Union) -> Result<(), Missing> {
    for dir in DIRS {
        for n in 0..FILES {
            let file = File::open(u.lower(0, &format!("{dir}/file-{n:02}"))).expect("open");
            file.sync_all().expect("fsync");
            posix_fadvise(&file, 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED).expect("fadvise");
        }
    }
    let before = read_bytes(nix::unistd::getpid().as_raw());
    (0..10).for_each(|n| drop(get(&u.lower(0, &format!("d0/file-{n:02}")))));
    match read_bytes(nix::unistd::getpid().as_raw()) == before {
        true => Err(Missing::Kernel("the scratch directory is on no disk".into())),
        false => Ok(()),
    }
}

#[test]
fn files_that_are_read_in_order_are_fetched_ahead() {
    const NAME: &str = "files_that_are_read_in_order_are_fetched_ahead";
    let fs = ours();
    require!(NAME, fs.usable());
    let layer = |dir: &str| -> String {
        (0..FILES).map(|n| format!("f {dir}/file-{n:02} \"content {n}\"\n")).collect()
    };
    let layer = DIRS.map(layer).concat();
    let u = Union::within(&fs, Scratch::new()).layer(&layer).mount();
    let daemon = u.mounted().daemon().expect("a daemon");
    let names = |dir: &str| -> Vec<_> {
        let listed = std::fs::read_dir(u.path(dir)).expect("read the directory");
        listed.map(|e| e.expect("read an entry").file_name()).collect()
    };
    let listed = DIRS.map(names);
    assert!(listed.iter().all(|names| names.len() == FILES));
    let _caches = hold_caches(false);
    require!(NAME, evict(&u));

    let before = read_bytes(daemon);
    for at in [40, 7, 30] {
        get(&u.path("d0").join(&listed[0][at]));
    }
    let others = read_bytes(daemon) - before;
    assert!(others <= 3 * BLOCK, "{others} bytes were read for three files here and there");

    let is_fetched = DIRS.iter().zip(&listed).skip(1).any(|(dir, names)| {
        let (start, before) = (Instant::now(), read_bytes(daemon));
        for name in names.iter().take(4) {
            get(&u.path(dir).join(name));
        }
        while start.elapsed() < Duration::from_secs(10) {
            if read_bytes(daemon) - before >= 12 * BLOCK {
                return true;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        // The kernel may have kept two of the four.
        false
    });
    assert!(is_fetched, "no more was read than the files that were asked for");
    for (dir, name) in DIRS.iter().zip(&listed).flat_map(|(d, l)| l.iter().map(move |n| (d, n))) {
        let number = name.to_string_lossy().trim_start_matches("file-").parse::<u32>();
        let text = format!("content {}", number.expect("a number"));
        assert_eq!(get(&u.path(dir).join(name)), text);
    }
}
