//! A host for containers: one at a time, and compared before and after.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::{Mutex, MutexGuard, PoisonError};

use support::Scratch;
use support::privilege::{Missing, Unprivileged, root};
use support::process::{adopt_orphans, run};

use crate::left::{describe, is_ending};

/// A user that has no ranges of subordinate ids, and no name.
const NAMELESS: u32 = 54_321;

/// Who starts containers.
#[derive(Clone, Debug)]
pub(crate) enum Who {
    /// Root of the host.
    Root,
    /// A user with ranges of subordinate ids.
    User(Unprivileged),
    /// A user without.
    Nameless,
}

/// What a test compares: all that a container may leave behind.
#[derive(Debug, PartialEq, Eq)]
struct Traces {
    children: BTreeSet<i32>,
    mounts: Vec<String>,
    cgroups: BTreeSet<PathBuf>,
    files: BTreeSet<PathBuf>,
}

/// The only host of containers at a time, so that what appears and goes is the test's own.
pub(crate) struct Host {
    who: Who,
    scratch: Scratch,
    before: Traces,
    _alone: MutexGuard<'static, ()>,
}

static ALONE: Mutex<()> = Mutex::new(());

impl Host {
    /// Returns a host on which root starts containers.
    ///
    /// # Errors
    /// The tests don't run as root.
    pub(crate) fn root() -> Result<Host, Missing> {
        root()?;
        Ok(Host::of(Who::Root))
    }

    /// Returns a host on which a user with ranges of subordinate ids starts containers.
    ///
    /// # Errors
    /// There is no such user, or no helper to write its maps.
    pub(crate) fn user() -> Result<Host, Missing> {
        support::privilege::installed("newuidmap")?;
        Ok(Host::of(Who::User(Unprivileged::find()?)))
    }

    /// Returns a host on which a user without such ranges starts containers.
    ///
    /// # Errors
    /// The tests don't run as root, and so can't become that user.
    pub(crate) fn nameless() -> Result<Host, Missing> {
        root()?;
        Ok(Host::of(Who::Nameless))
    }

    fn of(who: Who) -> Host {
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        adopt_orphans();
        let scratch = Scratch::new();
        let home = scratch.dir("home");
        // Where the build is may be closed to others, and no name of the program is special.
        let program = scratch.path().join("container-tool");
        let built = Path::new(env!("CARGO_BIN_EXE_runner-under-test"));
        support::process::copy_program(built, &program);
        if let Some((uid, gid)) = who.ids() {
            std::os::unix::fs::chown(&home, Some(uid), Some(gid)).expect("give the home away");
        }
        let mut host = Host { who, scratch, before: Traces::none(), _alone: alone };
        let others = children();
        // The state directory itself stays.
        let ready = host.run(["--", "true"]);
        assert!(ready.status.success(), "the first container: {}", text(&ready.stderr));
        // A process that ends behind its container is left to us for a moment.
        for _ in 0..500 {
            let late: Vec<i32> = children().difference(&others).copied().collect();
            if late.is_empty() {
                break;
            }
            reap(late);
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        host.before = host.traces();
        host
    }

    /// Returns who starts containers.
    pub(crate) fn who(&self) -> &Who {
        &self.who
    }

    /// Returns the test's directory; only `home` in it is the user's.
    pub(crate) fn dir(&self) -> &Path {
        self.scratch.path()
    }

    /// Returns the ids of who starts containers, unless it is root.
    pub(crate) fn ids(&self) -> Option<(u32, u32)> {
        self.who.ids()
    }

    /// Makes a directory that belongs to the user.
    pub(crate) fn home_dir(&self, name: &str) -> PathBuf {
        let dir = self.scratch.dir(&format!("home/{name}"));
        if let Some((uid, gid)) = self.who.ids() {
            std::os::unix::fs::chown(&dir, Some(uid), Some(gid)).expect("give a directory away");
        }
        dir
    }

    /// Returns a command that starts the runner, without arguments.
    pub(crate) fn bare(&self) -> Command {
        self.bare_as(&self.scratch.path().join("container-tool"))
    }

    /// Returns a command that starts a program as who starts containers.
    pub(crate) fn bare_as(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command
            .env_clear()
            .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
            .env("HOME", self.scratch.path().join("home"))
            .current_dir("/");
        if let Some((uid, gid)) = self.who.ids() {
            command.uid(uid).gid(gid);
        }
        command
    }

    /// Returns `runner run` with the state directory of the test, without further arguments.
    pub(crate) fn command(&self) -> Command {
        let mut command = self.bare();
        command.arg("--state").arg(self.state()).arg("run");
        command
    }

    /// Returns another command of the runner, with the state directory of the test.
    pub(crate) fn verb(&self, verb: &str) -> Command {
        let mut command = self.bare();
        command.arg("--state").arg(self.state()).arg(verb);
        command
    }

    /// Runs another command of the runner, given as words, which must succeed, and returns what it wrote.
    #[track_caller]
    pub(crate) fn does<S: AsRef<OsStr>>(
        &self,
        verb: &str,
        args: impl IntoIterator<Item = S>,
    ) -> String {
        let out = run(self.verb(verb).args(args));
        assert!(out.status.success(), "{verb}: {}: {}", out.status, text(&out.stderr));
        text(&out.stdout)
    }

    /// Runs another command of the runner, which must fail with this code and one line, and returns
    /// the line.
    #[track_caller]
    pub(crate) fn refuses<S: AsRef<OsStr>>(
        &self,
        code: i32,
        verb: &str,
        args: impl IntoIterator<Item = S>,
    ) -> String {
        let out = run(self.verb(verb).args(args));
        let said = text(&out.stderr);
        assert_eq!(out.status.code(), Some(code), "{verb}: {said}");
        let said = said.trim_end();
        assert!(said.starts_with("runner: ") && !said.contains('\n'), "not one line: {said}");
        said.to_owned()
    }

    /// Starts a container in the background that says "up" when it runs, and waits for that.
    #[track_caller]
    pub(crate) fn up(&self, name: &str, options: &[&str], script: &str) {
        let script = format!("echo up; {script}");
        let mut args = vec!["--detach", "--name", name];
        args.extend(options);
        args.extend(["--", "sh", "-c", &script]);
        self.does("run", args);
        self.until(|| self.does("logs", [name]).contains("up"));
    }

    /// Waits until something holds that is about to.
    #[track_caller]
    pub(crate) fn until(&self, mut holds: impl FnMut() -> bool) {
        for _ in 0..3000 {
            if holds() {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        panic!("it did not come to hold");
    }

    /// Returns the state directory.
    pub(crate) fn state(&self) -> PathBuf {
        self.scratch.path().join("home/state")
    }

    /// Runs `runner run` with these arguments.
    pub(crate) fn run<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Output {
        run(self.command().args(args))
    }

    /// Runs `runner run` with these arguments, which must succeed, and returns what it wrote.
    #[track_caller]
    pub(crate) fn ok<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> String {
        let out = self.run(args);
        assert!(out.status.success(), "{}: {}", out.status, text(&out.stderr));
        text(&out.stdout)
    }

    /// Runs a shell script in a container with the default options.
    #[track_caller]
    pub(crate) fn sh(&self, script: &str) -> String {
        self.ok(["--", "sh", "-euc", script])
    }

    /// Runs `runner run` with these arguments, which must fail with this code and one line, and
    /// returns the line.
    #[track_caller]
    pub(crate) fn fails<S: AsRef<OsStr>>(
        &self,
        code: i32,
        args: impl IntoIterator<Item = S>,
    ) -> String {
        let out = self.run(args);
        let said = text(&out.stderr);
        assert_eq!(out.status.code(), Some(code), "{said}");
        let said = said.trim_end();
        assert!(said.starts_with("runner: ") && !said.contains('\n'), "not one line: {said}");
        said.to_owned()
    }

    /// Returns the processes that were left to us since the test began.
    pub(crate) fn new_children(&self) -> BTreeSet<i32> {
        children().difference(&self.before.children).copied().collect()
    }

    /// Asserts that nothing is left of the containers.
    #[track_caller]
    pub(crate) fn assert_clean(&self) {
        self.assert_no_processes();
        self.assert_no_cgroups();
        let now = self.traces();
        assert_eq!(now.mounts, self.before.mounts, "mounts");
        assert_eq!(now.files, self.before.files, "files");
    }

    /// Asserts that no process of a container does anything more.
    #[track_caller]
    fn assert_no_processes(&self) {
        let mut left = BTreeSet::new();
        for _ in 0..1000 {
            // Supervisors in the background are orphans, which are ours to wait for.
            reap(self.new_children());
            left = self.new_children();
            let busy: Vec<String> =
                left.iter().filter(|pid| !is_ending(**pid)).map(|pid| describe(*pid)).collect();
            assert!(busy.is_empty(), "processes are left:\n{}", busy.join("\n"));
            if left.is_empty() {
                return;
            }
            // The kernel takes it apart: whoever waited for what it holds need not have seen its end.
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        let left: Vec<String> = left.into_iter().map(describe).collect();
        panic!("processes don't come to their end:\n{}", left.join("\n"));
    }

    /// Asserts that no cgroup of a container is left.
    #[track_caller]
    fn assert_no_cgroups(&self) {
        // Whoever else runs containers on this machine has cgroups that come and go, under names that
        // don't come again, or with processes in them; ours have none, and would stay.
        let mut left: BTreeSet<PathBuf> =
            cgroups().difference(&self.before.cgroups).cloned().collect();
        for _ in 0..500 {
            left.retain(|dir| is_unused(dir));
            if left.is_empty() {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        panic!("cgroups: {left:?}");
    }

    fn traces(&self) -> Traces {
        let here = self.scratch.path().to_string_lossy().into_owned();
        let info = std::fs::read_to_string("/proc/self/mountinfo").expect("read mountinfo");
        Traces {
            children: children(),
            mounts: info.lines().filter(|l| l.contains(&here)).map(str::to_owned).collect(),
            cgroups: cgroups(),
            files: files(&self.state()),
        }
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.assert_clean();
        }
    }
}

impl Who {
    fn ids(&self) -> Option<(u32, u32)> {
        match self {
            Who::Root => None,
            Who::User(user) => Some((user.uid(), user.gid())),
            Who::Nameless => Some((NAMELESS, NAMELESS)),
        }
    }
}

impl Traces {
    fn none() -> Traces {
        Traces {
            children: BTreeSet::new(),
            mounts: Vec::new(),
            cgroups: BTreeSet::new(),
            files: BTreeSet::new(),
        }
    }
}

/// Waits for those of some children that have ended.
pub(crate) fn reap(all: impl IntoIterator<Item = i32>) {
    for pid in all {
        let pid = nix::unistd::Pid::from_raw(pid);
        match nix::sys::wait::waitpid(pid, Some(nix::sys::wait::WaitPidFlag::WNOHANG)) {
            // One that lives is found where before and after are compared.
            Ok(_) | Err(_) => {}
        }
    }
}

/// Returns the children of this process, among them orphans of its children.
pub(crate) fn children() -> BTreeSet<i32> {
    let mut all = BTreeSet::new();
    for task in std::fs::read_dir("/proc/self/task").expect("list threads").flatten() {
        let list = std::fs::read_to_string(task.path().join("children")).unwrap_or_default();
        all.extend(list.split_whitespace().filter_map(|n| n.parse::<i32>().ok()));
    }
    all
}

/// Returns the cgroups of containers, in all hierarchies.
fn cgroups() -> BTreeSet<PathBuf> {
    let mut all = BTreeSet::new();
    let mut todo = vec![PathBuf::from("/sys/fs/cgroup")];
    while let Some(dir) = todo.pop() {
        for entry in std::fs::read_dir(&dir).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|t| t.is_dir()) {
                if entry.file_name().to_string_lossy().starts_with("palimpsest-") {
                    all.insert(entry.path());
                }
                todo.push(entry.path());
            }
        }
    }
    all
}

/// Whether a cgroup is there without any process in it or below.
fn is_unused(dir: &Path) -> bool {
    let list = std::fs::read_to_string(dir.join("cgroup.procs"));
    let mut entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    list.is_ok_and(|list| list.is_empty())
        && entries.all(|e| !e.file_type().is_ok_and(|t| t.is_dir()) || is_unused(&e.path()))
}

fn files(dir: &Path) -> BTreeSet<PathBuf> {
    let mut all = BTreeSet::new();
    let mut todo = vec![dir.to_path_buf()];
    while let Some(dir) = todo.pop() {
        for entry in std::fs::read_dir(&dir).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|t| t.is_dir()) {
                todo.push(entry.path());
            }
            all.insert(entry.path());
        }
    }
    all
}

/// Returns what a program wrote.
pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Makes a test of each kind of user from one function.
#[macro_export]
macro_rules! for_each_user {
    ($($name:ident: $check:expr;)+) => {
        mod root_ {
            use super::*;
            $(#[test] fn $name() { $crate::for_each_user!(@one $name, root, $check); })+
        }
        mod user_ {
            use super::*;
            $(#[test] fn $name() { $crate::for_each_user!(@one $name, user, $check); })+
        }
        mod nameless_ {
            use super::*;
            $(#[test] fn $name() { $crate::for_each_user!(@one $name, nameless, $check); })+
        }
    };
    (@one $name:ident, $who:ident, $check:expr) => {
        let host = match $crate::fixture::Host::$who() {
            Ok(host) => host,
            Err(missing) => {
                let test = concat!(module_path!(), "::", stringify!($name));
                support::privilege::skip(test, &missing);
                return;
            }
        };
        let check: fn(&$crate::fixture::Host) = $check;
        check(&host);
    };
}
