//! Who acts, and why something can't be tested on this machine.

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::process::Command;

use nix::sched::{CloneFlags, unshare};
use nix::sys::stat::{Mode, umask};
use nix::unistd::{Gid, Uid, setfsgid, setfsuid};

/// What a test needs and a machine may lack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Missing {
    /// Rights or packages that the CI script provides: under CI, lacking them is an error.
    Setup(String),
    /// Something that this kernel doesn't have, which no script can provide.
    Kernel(String),
}

/// Reports that a test is skipped and why, past the capture of the test harness.
///
/// # Panics
/// Under CI (`PALIMPSEST_CI=1`), where only the kernel may be the reason.
pub fn skip(test: &str, missing: &Missing) {
    let reason = match missing {
        Missing::Setup(why) => {
            let ci = std::env::var_os("PALIMPSEST_CI").is_some_and(|v| v == "1");
            assert!(!ci, "{test} may not be skipped under CI: {why}");
            why
        }
        Missing::Kernel(why) => why,
    };
    // Written to the stream itself: what `eprintln!` says is swallowed when a test passes. In one
    // piece and on a line of its own, though the harness and other threads write to it too.
    let line = format!("\nSKIPPED: {test}: {reason}\n");
    std::io::stderr().write_all(line.as_bytes()).expect("write to standard error");
}

/// Says what is missing if the tests don't run as root, who may mount.
pub fn root() -> Result<(), Missing> {
    if Uid::effective().is_root() {
        return Ok(());
    }
    Err(Missing::Setup("needs root, to mount and to change owners".into()))
}

/// Says what is missing if the kernel is older than this.
pub fn kernel_at_least(major: u32, minor: u32) -> Result<(), Missing> {
    let release =
        nix::sys::utsname::uname().expect("uname").release().to_string_lossy().into_owned();
    let mut numbers = release.split(['.', '-']).map_while(|n| n.parse::<u32>().ok());
    let own = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    if own >= (major, minor) {
        return Ok(());
    }
    Err(Missing::Kernel(format!("needs Linux {major}.{minor}, this is {release}")))
}

/// Says what is missing if `program` isn't installed.
pub fn installed(program: &str) -> Result<(), Missing> {
    match crate::process::program(program) {
        Some(_) => Ok(()),
        None => Err(Missing::Setup(format!("{program} is not installed"))),
    }
}

/// Returns from the test, saying why, unless each condition is `Ok`.
#[macro_export]
macro_rules! require {
    ($test:expr, $($condition:expr),+ $(,)?) => {
        $(if let Err(missing) = $condition {
            $crate::privilege::skip($test, &missing);
            return;
        })+
    };
}

/// An identity for file access.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Actor {
    /// User.
    pub uid: u32,
    /// Group; the only one that counts, as root has no others here.
    pub gid: u32,
    /// Bits that creation masks out.
    pub umask: u32,
}

impl Actor {
    /// Root with the usual umask.
    pub const ROOT: Actor = Actor { uid: 0, gid: 0, umask: 0o022 };
    /// Somebody without privileges who owns nothing.
    pub const USER: Actor = Actor { uid: 1234, gid: 1234, umask: 0o022 };

    /// The same with another umask.
    pub const fn umask(self, umask: u32) -> Actor {
        Actor { umask, ..self }
    }

    /// Runs `f` as this actor, in a thread of its own whose umask and identity are private.
    pub fn run<T: Send>(self, f: impl FnOnce() -> T + Send) -> T {
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                self.become_in_this_thread();
                f()
            });
            match thread.join() {
                Ok(value) => value,
                Err(panic) => std::panic::resume_unwind(panic),
            }
        })
    }

    fn become_in_this_thread(self) {
        unshare(CloneFlags::CLONE_FS).expect("a umask of this thread's own");
        umask(Mode::from_bits_truncate(self.umask));
        act_as(self.uid, self.gid);
    }
}

/// Makes this thread's file accesses those of another user; root's file capabilities go with it, and
/// come back with uid 0. The umask stays.
pub fn act_as(uid: u32, gid: u32) {
    let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
    // CAP_SETGID is no file capability: it stays, so the group can be set in any order.
    setfsgid(gid);
    setfsuid(uid);
    // The calls report no failure, only the identity before: asking again shows what was set.
    assert_eq!(setfsuid(uid), uid, "set the file system uid");
}

/// Name of the user that the CI script makes, with ranges of subordinate ids.
pub const USER: &str = "palimpsest-ci";

/// The user for rootless tests: looked up by `$PALIMPSEST_USER`, else [`USER`].
#[derive(Clone, Debug)]
pub struct Unprivileged {
    user: nix::unistd::User,
}

impl Unprivileged {
    /// Finds the user, who must not be root.
    ///
    /// # Errors
    /// There is no such user, or these tests don't run as root and so can't become it.
    pub fn find() -> Result<Unprivileged, Missing> {
        root()?;
        let name = std::env::var("PALIMPSEST_USER").unwrap_or_else(|_| USER.to_owned());
        match nix::unistd::User::from_name(&name) {
            Ok(Some(user)) if !user.uid.is_root() => Ok(Unprivileged { user }),
            _ => Err(Missing::Setup(format!("there is no unprivileged user {name}"))),
        }
    }

    /// Returns the uid.
    pub fn uid(&self) -> u32 {
        self.user.uid.as_raw()
    }

    /// Returns the gid.
    pub fn gid(&self) -> u32 {
        self.user.gid.as_raw()
    }

    /// Returns a command that will run as this user, with a clean environment.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command
            .uid(self.uid())
            .gid(self.gid())
            .env_clear()
            .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
            .env("HOME", &self.user.dir)
            .env("USER", &self.user.name);
        command
    }

    /// Gives `path` and all below it to this user.
    pub fn own(&self, path: &std::path::Path) {
        let ids = format!("{}:{}", self.uid(), self.gid());
        let out = crate::process::run(Command::new("chown").arg("-R").arg(ids).arg(path));
        assert!(out.status.success(), "chown failed: {}", String::from_utf8_lossy(&out.stderr));
    }
}
