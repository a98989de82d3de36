//! Processes that a test starts: each is waited for, none for ever.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;

/// How long anything may take before it counts as hung.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Makes daemons that detach become children of this process, so that it can wait for their end.
pub fn adopt_orphans() {
    nix::sys::prctl::set_child_subreaper(true).expect("become a subreaper");
}

/// Copies a program to where it shall be run from. Another process does it: a descriptor that this
/// one writes to could be inherited by a child that another thread starts just then, and the copy
/// could not be run ("text file busy") for as long as that child lives.
pub fn copy_program(from: &Path, to: &Path) {
    let copied = Command::new("cp").arg("--").arg(from).arg(to).status().expect("run cp");
    assert!(copied.success(), "copy {} to {}", from.display(), to.display());
}

/// Waits for a child and returns its status, or `None` (and kills it) if it hangs.
pub fn wait(child: &mut Child) -> Option<ExitStatus> {
    let pid = child.id();
    let (done, watch) = mpsc::channel::<()>();
    let watchdog = std::thread::spawn(move || {
        let late = watch.recv_timeout(PATIENCE) == Err(mpsc::RecvTimeoutError::Timeout);
        if late && let Err(e) = kill(Pid::from_raw(pid as i32), Signal::SIGKILL) {
            eprintln!("kill the hung process {pid}: {e}");
        }
        late
    });
    let status = child.wait().expect("wait for a child");
    drop(done);
    let late = watchdog.join().expect("join the watchdog");
    (!late).then_some(status)
}

/// Runs a command to its end and returns what it said; panics if it hangs.
pub fn run(command: &mut Command) -> Output {
    let dir = tempfile::tempdir().expect("a directory for output");
    let file = |n: &str| std::fs::File::create(dir.path().join(n)).expect("a file for output");
    // Files and not pipes: a daemon that keeps its standard error must not keep us waiting.
    command.stdin(Stdio::null()).stdout(file("out")).stderr(file("err"));
    let mut child = command.spawn().unwrap_or_else(|e| panic!("start {command:?}: {e}"));
    let status = wait(&mut child).unwrap_or_else(|| panic!("{command:?} hangs"));
    let read = |n: &str| std::fs::read(dir.path().join(n)).expect("read the output");
    Output { status, stdout: read("out"), stderr: read("err") }
}

/// Runs a shell script in `dir` and returns its standard output; panics unless it succeeds.
pub fn shell(dir: &Path, script: &str) -> String {
    let out = run(Command::new("sh").args(["-euc", script]).current_dir(dir));
    let said = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "`{script}` failed ({}): {said}", out.status);
    String::from_utf8_lossy(&out.stdout).into_owned()
}

/// Runs a program with the given standard input and returns its output.
pub fn feed(command: &mut Command, input: &[u8]) -> Output {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|e| panic!("start {command:?}: {e}"));
    child.stdin.take().expect("a pipe to the child").write_all(input).expect("feed the child");
    child.wait_with_output().expect("wait for the child")
}

/// Returns the process whose last argument is `mount_point`: the daemon behind a mount.
pub fn daemon_of(mount_point: &Path) -> Option<i32> {
    daemons_of(mount_point).first().copied()
}

/// Returns all of these: a daemon whose mount is gone may still be ending.
pub fn daemons_of(mount_point: &Path) -> Vec<i32> {
    use std::os::unix::ffi::OsStrExt;
    let wanted = mount_point.as_os_str().as_bytes();
    let own = std::process::id() as i32;
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let name = entry.file_name();
        let Some(pid) = name.to_str().and_then(|n| n.parse::<i32>().ok()) else { continue };
        let Ok(args) = std::fs::read(entry.path().join("cmdline")) else { continue };
        let args = args.strip_suffix(b"\0").unwrap_or(&args);
        if pid != own && args.rsplit(|&b| b == 0).next() == Some(wanted) {
            found.push(pid);
        }
    }
    found
}

/// Waits for an adopted daemon to end and returns how it ended; `None` if it doesn't.
pub fn reap(pid: i32) -> Option<WaitStatus> {
    let (tell, told) = mpsc::channel();
    std::thread::spawn(move || tell.send(waitpid(Pid::from_raw(pid), None)));
    match told.recv_timeout(PATIENCE) {
        Ok(Ok(status)) => Some(status),
        Ok(Err(_)) | Err(_) => None,
    }
}

/// Returns the path of a program, or `None` where it isn't installed.
pub fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|d| d.join(name)).find(|p| p.is_file())
}
