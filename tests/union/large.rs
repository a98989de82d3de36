//! Large files, mappings, copies of metadata alone.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use support::process::shell;
use support::tree::OLD;
use support::{Scratch, Subject, Union};
use sys::map::Mapping;

use crate::files::*;
use crate::subjects::{both, needs_a_daemon, only_ours};

/// Makes a lower file with data, not holes.
fn fill(u: &Union, name: &str, mib: u64) {
    shell(&u.lower(0, ""), &format!("head -c {mib}M /dev/zero > {name}; touch -d @{OLD} {name}"));
}

both! {
    /// Counted: a daemon that copies under a lock of the whole file system answers nobody in the
    /// second half of the copy.
    fn other_files_are_served_while_one_is_copied_up(fs) {
        let others: String = (0..500).map(|i| format!("f d/f{i} \"\"\n")).collect();
        let mut u = Union::on(fs).layer(&others).mount();
        u.unmount();
        fill(&u, "big", 256);
        u.mount();
        let done = AtomicBool::new(false);
        let (copy, answers) = std::thread::scope(|scope| {
            let copy = scope.spawn(|| {
                let started = Instant::now();
                append(&u.path("big"), "x");
                done.store(true, Ordering::Release);
                (started, Instant::now())
            });
            let mut answers = Vec::new();
            while !done.load(Ordering::Acquire) {
                // A name that nobody has asked for before; those after the 500th aren't there.
                let n = answers.len();
                let found = try_stat(&u.path(&format!("d/f{n}"))).is_ok();
                assert_eq!(found, n < 500, "f{n}");
                answers.push(Instant::now());
            }
            (copy.join().expect("the copying thread"), answers)
        });
        let half = copy.0 + (copy.1 - copy.0) / 2;
        let late = answers.iter().filter(|at| (half..copy.1).contains(at)).count();
        assert!(late >= 50, "of {} answers, {late} in the second half of the copy", answers.len());
        assert_eq!(stat(&u.path("big")).size, (256 << 20) + 1);
    }

    fn chmod_with_metacopy_writes_little(fs) {
        let with = Union::on(fs).layer("").option("redirect_dir=on").option("metacopy=on");
        let mut u = with.mount();
        u.unmount();
        fill(&u, "big", 300);
        u.mount();
        chmod(&u.path("big"), 0o600);
        chown(&u.path("big"), 5, 6);
        for _ in 0..2 {
            let s = stat(&u.path("big"));
            assert_eq!((s.mode & 0o7777, s.uid, s.gid, s.size), (0o600, 5, 6, 300 << 20));
            u.remount();
        }
        let written = stat(&u.upper("big")).blocks * 512;
        assert!(written < 100 << 10, "{written} bytes in the upper layer");
    }

    fn a_file_of_metadata_alone_gets_its_data_when_written(fs) {
        let with = Union::on(fs).layer("f f size=100000 mtime=1100000000");
        let mut u = with.option("redirect_dir=on").option("metacopy=on").mount();
        chmod(&u.path("f"), 0o600);
        append(&u.path("f"), "end");
        for _ in 0..2 {
            let bytes = std::fs::read(u.path("f")).expect("read");
            assert!(bytes.strip_suffix(b"end") == Some(&support::tree::pattern(100_000)[..]));
            u.remount();
        }
    }
}

only_ours! {
    /// The kernel copies the data when the file is opened, and gives it the present time.
    fn a_file_of_metadata_alone_keeps_its_time_when_opened_for_writing(fs) {
        let with = Union::on(fs).layer("f f size=100000 mtime=1100000000");
        let mut u = with.option("redirect_dir=on").option("metacopy=on").mount();
        chmod(&u.path("f"), 0o600);
        drop(open(&u.path("f"), libc::O_RDWR));
        for _ in 0..2 {
            assert_eq!((mode(&u.path("f")), stat(&u.path("f")).mtime.sec), (0o600, 1_100_000_000));
            u.remount();
        }
    }

    /// The kernel's shows the old data for ever.
    fn a_mapping_from_before_the_copy_up_sees_new_data(fs) {
        let u = Union::on(fs).layer("f f \"old\"").mount();
        let map = Mapping::new(open(&u.path("f"), libc::O_RDONLY), 3).expect("mmap");
        assert_eq!(map.byte(0), Some(b'o'));
        let writer = open(&u.path("f"), libc::O_WRONLY);
        std::os::unix::fs::FileExt::write_all_at(&writer, b"new", 0).expect("write");
        assert!(u.upper("f").exists(), "it is copied up");
        assert_eq!([0, 1, 2].map(|at| map.byte(at)), [Some(b'n'), Some(b'e'), Some(b'w')]);
    }

    /// The kernel has no daemon whose descriptors could end.
    fn ten_thousand_mapped_files_hold_few_descriptors(fs) {
        let scratch = Scratch::new();
        let fs = with_few_descriptors(&needs_a_daemon(fs), &scratch);
        let u = Union::within(&fs, scratch).layer("d d").mount();
        shell(&u.lower(0, "d"), "seq 10000 | split -l 1 -a 4 - f");
        let names = list(&u.lower(0, "d"));
        assert_eq!(names.len(), 10_000);
        let map = |name: &String| {
            let file = open(&u.path("d").join(name), libc::O_RDONLY);
            // Read before it is mapped: of a mapping, an error would be a signal.
            std::os::unix::fs::FileExt::read_exact_at(&file, &mut [0], 0).expect("read");
            let map = Mapping::new(file, 1).expect("mmap");
            assert!(map.byte(0).is_some_and(|b| b.is_ascii_digit()), "{name}");
            map
        };
        let maps: Vec<_> = names.iter().map(map).collect();
        assert_eq!(maps.len(), names.len());
        put(&u.path("d/new"), "it still works");
    }
}

/// Returns a program as one that is started with a limit of 1024 descriptors.
fn with_few_descriptors(program: &Path, scratch: &Scratch) -> Subject {
    let limit = "exec prlimit --nofile=1024:1024";
    // Written by another process, so that none of this one's holds it open when it is executed.
    let text = format!("printf '#!/bin/sh\n{limit} {} \"$@\"\n' > limited", program.display());
    shell(scratch.path(), &format!("{text}; chmod 755 limited"));
    Subject::Ours(scratch.path().join("limited"))
}
