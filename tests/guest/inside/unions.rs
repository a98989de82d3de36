//! unionfs: mounted, changed, and found changed in the layers.

use crate::{Check, sh};

pub(crate) const CHECKS: &[Check] = &[
    ("unionfs merges, copies up, hides and renames", merges_copies_up_hides_and_renames),
    ("unionfs is gone when it is unmounted", is_gone_when_unmounted),
];

const MOUNT: &str = "mkdir -p /tmp/u/low/d /tmp/u/low2/d /tmp/u/up /tmp/u/work /tmp/u/mnt; cd /tmp/u; \
    echo low > low/file; echo two > low2/d/two; echo one > low/d/one; chmod 640 low/file; \
    unionfs -o lowerdir=low:low2,upperdir=up,workdir=work mnt; ";

const UNMOUNT: &str = "cd /; umount /tmp/u/mnt; rm -rf /tmp/u";

fn merges_copies_up_hides_and_renames() {
    let said = sh(&format!(
        "{MOUNT} ls mnt/d; echo more >> mnt/file; cat mnt/file; stat -c %a up/file; cat low/file; \
         rm mnt/d/one; ls mnt/d; stat -c %t,%T,%F up/d/one; mv mnt/file mnt/other; ls mnt; \
         rm -r mnt/d; mkdir mnt/d; ls mnt/d; {UNMOUNT}"
    ));
    let expected = "one\ntwo\nlow\nmore\n640\nlow\ntwo\n0,0,character special file\nd\nother\n";
    assert_eq!(said, expected);
}

fn is_gone_when_unmounted() {
    sh(&format!("{MOUNT} cat mnt/file > /dev/null; {UNMOUNT}"));
    let mounts = std::fs::read_to_string("/proc/mounts").expect("read mounts");
    assert!(!mounts.contains("/tmp/u"), "{mounts}");
    // It ends by itself; the kernel tells it a moment after the unmount.
    sh(
        "n=0; while grep -lsx unionfs /proc/[0-9]*/comm; do n=$((n + 1)); [ $n -lt 100 ]; sleep 0.1; done",
    );
}
