//! The guest's root file system: this build, installed programs, the libraries they need, modules.

use std::path::{Path, PathBuf};
use std::process::Command;

use support::process::{program, run};

use crate::PROGRAMS;
use crate::archive::Archive;
use crate::kernel::Kernel;

/// Programs of this build, and their names inside.
const OURS: [(&str, &str); 5] = [
    (env!("CARGO_BIN_EXE_procfs-shim-under-test"), "procfs-shim"),
    (env!("CARGO_BIN_EXE_unionfs-under-test"), "unionfs"),
    (env!("CARGO_BIN_EXE_runner-under-test"), "runner"),
    (env!("CARGO_BIN_EXE_load-under-test"), "load"),
    (env!("CARGO_BIN_EXE_guest-inside"), "inside"),
];

/// Modules in the order in which they need each other.
const MODULES: [&str; 7] = [
    "drivers/virtio/virtio_ring.ko",
    "drivers/virtio/virtio.ko",
    "drivers/virtio/virtio_pci_legacy_dev.ko",
    "drivers/virtio/virtio_pci_modern_dev.ko",
    "drivers/virtio/virtio_pci.ko",
    "drivers/block/virtio_blk.ko",
    "fs/fuse/fuse.ko",
];

/// Where the root that stays is in the archive: the first one can't be pivoted away.
const ROOT: &str = "root";

/// The first process.
const INIT: &str = r#"#!/bin/busybox sh
b=/bin/busybox
$b mkdir -p /proc /sys /dev /new
$b mount -t devtmpfs dev /dev
exec </dev/console >/dev/console 2>&1
for m in @MODULES@; do $b insmod /modules/$m || echo "no module $m"; done
$b mount -t tmpfs -o size=500m,mode=755 root /new
$b cp -a /root/. /new/
exec $b switch_root /new /bin/boot
"#;

/// The second: all but the verdict is its own.
const BOOT: &str = r#"#!/bin/sh
export PATH=/bin HOME=/ TERM=dumb
mount -t devtmpfs dev /dev
exec </dev/console >/dev/console 2>&1
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t securityfs security /sys/kernel/security
mkdir -p /dev/pts /dev/shm
mount -t devpts pts /dev/pts
mount -t tmpfs shm /dev/shm
mount -t tmpfs run /run
mount -t tmpfs tmp /tmp
mount -t cgroup2 cgroup /sys/fs/cgroup
mkswap /dev/vdb >/dev/null && swapon /dev/vdb
echo always > /sys/kernel/mm/transparent_hugepage/enabled
/bin/inside
busybox poweroff -f
"#;

/// Returns the archive.
pub(crate) fn make(kernel: &Kernel) -> Vec<u8> {
    let mut archive = Archive::default();
    let names: Vec<_> = MODULES.iter().map(|m| m.rsplit('/').next().unwrap_or(m)).collect();
    for (path, name) in MODULES.iter().zip(&names) {
        archive.file(&format!("modules/{name}"), 0o644, &kernel.module(path));
    }
    archive.file("init", 0o755, INIT.replace("@MODULES@", &names.join(" ")).as_bytes());
    let busybox = std::fs::read(program("busybox").expect("required")).expect("read busybox");
    archive.file("bin/busybox", 0o755, &busybox);
    for dir in ["proc", "sys", "dev", "run", "mnt", "var/lib", "var/tmp", "etc", "home"] {
        archive.dir(&format!("{ROOT}/{dir}"), 0o755);
    }
    archive.dir(&format!("{ROOT}/tmp"), 0o1777);
    archive.file(&format!("{ROOT}/bin/boot"), 0o755, BOOT.as_bytes());
    archive.file(&format!("{ROOT}/etc/passwd"), 0o644, b"root:x:0:0:root:/:/bin/sh\n");
    archive.file(&format!("{ROOT}/etc/group"), 0o644, b"root:x:0:\n");
    let stripped = tempfile::tempdir().expect("a directory");
    for (path, name) in OURS {
        let copy = stripped.path().join(name);
        let out = run(Command::new("strip").arg("-o").arg(&copy).arg(path));
        assert!(out.status.success(), "strip: {}", String::from_utf8_lossy(&out.stderr));
        add_program(&mut archive, &copy, name);
    }
    for name in PROGRAMS {
        add_program(&mut archive, &program(name).expect("required"), name);
    }
    // lxcfs loads its own part by name; terminals are looked up as files.
    let lxcfs = Path::new("/usr/lib/x86_64-linux-gnu/lxcfs/liblxcfs.so");
    add_with_libraries(&mut archive, lxcfs, lxcfs);
    let terminal = Path::new("/usr/lib/terminfo/d/dumb");
    let terminal = if terminal.exists() { terminal } else { Path::new("/lib/terminfo/d/dumb") };
    add_with_libraries(&mut archive, terminal, Path::new("/lib/terminfo/d/dumb"));
    archive.finish()
}

/// Adds a program as `/bin/NAME`, with its libraries.
fn add_program(archive: &mut Archive, path: &Path, name: &str) {
    let file = std::fs::canonicalize(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    add_with_libraries(archive, &file, &Path::new("/bin").join(name));
}

fn add_with_libraries(archive: &mut Archive, file: &Path, place: &Path) {
    let content = std::fs::read(file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
    archive.file(&inside(place), 0o755, &content);
    for library in libraries(file) {
        let name = inside(&library);
        if !archive.has(&name) {
            let content = std::fs::read(&library).expect("read a library");
            archive.file(&name, 0o755, &content);
        }
    }
}

fn inside(path: &Path) -> String {
    format!("{ROOT}{}", path.display())
}

/// Returns the libraries of a program, the loader among them; none for what isn't one.
fn libraries(file: &Path) -> Vec<PathBuf> {
    let out = run(Command::new("ldd").arg(file));
    let said = String::from_utf8_lossy(&out.stdout).into_owned();
    // `NAME => PATH (ADDRESS)`, or `PATH (ADDRESS)` for the loader.
    let paths = said.lines().filter_map(|line| {
        let words: Vec<_> = line.split_whitespace().collect();
        let path = if words.get(1) == Some(&"=>") { words.get(2) } else { words.first() };
        path.filter(|p| p.starts_with('/')).map(PathBuf::from)
    });
    paths.collect()
}
