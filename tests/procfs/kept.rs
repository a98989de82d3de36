//! A service manager that keeps the connection: what systemd does when a supervisor is killed. The test
//! plays its part, in a process of its own, as descriptors are inherited by whatever is started.

use std::io::IoSliceMut;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Child, Command};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use nix::fcntl::{FcntlArg, fcntl};
use nix::sys::signal::{Signal, kill};
use nix::sys::socket::{ControlMessageOwned, MsgFlags, UnixAddr, recvmsg};
use nix::unistd::Pid;
use support::process::run;
use support::require;

use crate::seen::fuse;
use crate::shim::PROGRAM;
use crate::survival::{reads, resend};

/// Tells the process that plays the manager where to work.
const ROLE: &str = "SHIM_TEST_MANAGER";

const NAME: &str = "kept::a_killed_supervisor_goes_on_with_the_connection_that_was_kept";

/// What the manager was given to keep: names and descriptors.
type Store = Vec<(String, RawFd)>;

#[test]
fn a_killed_supervisor_goes_on_with_the_connection_that_was_kept() {
    if let Some(dir) = std::env::var_os(ROLE) {
        return play(dir.as_ref());
    }
    require!(NAME, fuse(), resend());
    let dir = tempfile::tempdir().expect("a directory");
    let own = std::env::current_exe().expect("this program");
    let out = run(Command::new(own).args(["--exact", NAME, "--nocapture"]).env(ROLE, dir.path()));
    let said = String::from_utf8_lossy(&out.stdout);
    assert!(out.status.success(), "{said}{}", String::from_utf8_lossy(&out.stderr));
    assert!(said.contains("1 passed"), "{said}");
}

/// Moves a descriptor out of the way of the numbers from 3 on, under which they are passed.
fn beyond_others(fd: RawFd) -> RawFd {
    let fd = sys::process::inherited_fd(fd).expect("a descriptor to keep");
    fcntl(&fd, FcntlArg::F_DUPFD(50)).expect("another number")
}

/// Waits for `READY=1`, and keeps what is to be kept.
fn until_ready(socket: &UnixDatagram) -> Store {
    let mut store = Store::new();
    loop {
        let mut bytes = [0; 4096];
        let mut room = [IoSliceMut::new(&mut bytes)];
        let mut space = nix::cmsg_space!([RawFd; 4]);
        let flags = MsgFlags::empty();
        let got = recvmsg::<UnixAddr>(socket.as_raw_fd(), &mut room, Some(&mut space), flags);
        let got = got.expect("a message");
        let fds: Vec<RawFd> = got
            .cmsgs()
            .expect("control messages")
            .filter_map(
                |c| if let ControlMessageOwned::ScmRights(fds) = c { Some(fds) } else { None },
            )
            .flatten()
            .collect();
        let size = got.bytes;
        let text = String::from_utf8_lossy(&bytes[..size]).into_owned();
        let value = |key: &str| text.lines().find_map(|l| l.strip_prefix(key)).map(str::to_owned);
        if value("FDSTORE=").as_deref() == Some("1") {
            let name = value("FDNAME=").expect("a name");
            assert_eq!(fds.len(), 1, "{text}");
            store.push((name, beyond_others(fds[0])));
        }
        if value("READY=").as_deref() == Some("1") {
            return store;
        }
    }
}

fn start(mount: &Path, socket: &Path, store: &Store) -> Child {
    let move_to = |(to, (_, fd)): (i32, &(String, RawFd))| format!("exec {to}<&{fd} {fd}<&-; ");
    let moves: String = (3..).zip(store).map(move_to).collect();
    let names: Vec<&str> = store.iter().map(|(name, _)| name.as_str()).collect();
    let passed = match names.as_slice() {
        [] => String::new(),
        all => format!(
            "export LISTEN_PID=$$ LISTEN_FDS={} LISTEN_FDNAMES={}; ",
            all.len(),
            all.join(":")
        ),
    };
    let script = format!("{moves}{passed}exec \"$@\"");
    Command::new("bash")
        .args(["-c", &script, "bash", PROGRAM, "-f"])
        .arg(mount)
        .env("NOTIFY_SOCKET", socket)
        .spawn()
        .expect("start the daemon")
}

fn send(child: &Child, signal: Signal) {
    let pid = i32::try_from(child.id()).expect("a pid");
    kill(Pid::from_raw(pid), signal).expect("send a signal");
}

fn play(dir: &Path) {
    let (mount, at) = (dir.join("mount"), dir.join("notify"));
    std::fs::create_dir(&mount).expect("a mount point");
    let socket = UnixDatagram::bind(&at).expect("the manager's socket");
    let mut daemon = start(&mount, &at, &Store::new());
    let store = until_ready(&socket);
    let mut names: Vec<&str> = store.iter().map(|(name, _)| name.as_str()).collect();
    names.sort_unstable();
    assert!(
        matches!(names[..], [c, "greeting", "notes"] if c.starts_with("connection.")),
        "{names:?}"
    );
    let (stop, done) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for name in ["proc/meminfo", "proc/stat", "proc/uptime", "proc/swaps"] {
            let (path, stop, done) = (mount.join(name), &stop, &done);
            scope.spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    let text = std::fs::read_to_string(&path);
                    assert!(text.expect("a read").ends_with('\n'), "{}", path.display());
                    done.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        for _ in 0..3 {
            reads(&done, 50);
            send(&daemon, Signal::SIGKILL);
            daemon.wait().expect("wait for the daemon");
            daemon = start(&mount, &at, &store);
            // It was kept already.
            assert_eq!(until_ready(&socket), Store::new());
        }
        reads(&done, 50);
        stop.store(true, Ordering::Relaxed);
    });
    send(&daemon, Signal::SIGTERM);
    assert!(daemon.wait().expect("wait for the daemon").success());
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").expect("the mounts");
    assert!(!mounts.contains(mount.to_str().expect("a path")), "it is unmounted");
}
