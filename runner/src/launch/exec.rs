//! The last steps before the program: streams, user, rights, directory, and `execve`.

use std::convert::Infallible;
use std::ffi::{CString, OsStr, OsString};
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::errno::Errno;
use nix::sys::prctl;
use nix::sys::signal::Signal;
use nix::sys::stat::{Mode, umask};
use nix::unistd::{
    Gid, Uid, chdir, dup2_stderr, dup2_stdin, dup2_stdout, execve, getcwd, setgroups, setresgid,
    setresuid, setsid,
};

use crate::error::{Context, Error, Exit, Result};
use crate::launch::sync::Channel;
use crate::launch::user::{self, Account};
use crate::spec::{First, Identity, MapWriter, Spec, Stdin};

/// Capabilities that Docker grants by default, by their numbers in capabilities(7): chown,
/// dac_override, fowner, fsetid, kill, setgid, setuid, setpcap, net_bind_service, net_raw,
/// sys_chroot, mknod, audit_write, setfcap.
const CAPABILITIES: [u32; 14] = [0, 1, 3, 4, 5, 6, 7, 8, 10, 13, 18, 27, 29, 31];
/// Numbers of capabilities that a kernel may know (they are held in 64 bits).
const LAST_CAPABILITY: u32 = 63;

/// Becomes the program.
///
/// # Errors
/// It can't be started; the exit code says whether it was found.
pub(super) fn run(channel: &Channel, spec: &Spec, terminal: Option<OwnedFd>) -> Result<Infallible> {
    let process = &spec.process;
    if process.first == First::Init {
        setsid().step("make a session")?;
    }
    streams(process.stdin, terminal)?;
    let account = user::find(&process.user)?;
    limit_bounding().step("drop capabilities")?;
    become_user(&account, &spec.identity)?;
    limit_rights().step("drop capabilities")?;
    if process.first == First::Program {
        // A change of user takes this away.
        prctl::set_pdeathsig(Signal::SIGKILL).step("tie the container to the runner")?;
    }
    let env = environment(&process.env, &account)?;
    enter(&process.cwd)?;
    umask(Mode::from_bits_truncate(0o022));
    sys::process::close_range_on_exec(3).step("close descriptors")?;
    sys::process::reset_signals().step("reset signals")?;
    // It closes, and so says that the program was started.
    let _open_until_exec = channel;
    execute(&process.args, &process.env, &env)
}

/// Connects the program's streams.
fn streams(stdin: Stdin, terminal: Option<OwnedFd>) -> Result<()> {
    if let Some(tty) = terminal {
        sys::tty::make_controlling(&tty).step("take the terminal")?;
        dup2_stdin(&tty).step("redirect standard input")?;
        dup2_stdout(&tty).step("redirect standard output")?;
        return dup2_stderr(&tty).step("redirect standard error");
    }
    match stdin {
        Stdin::Inherited => Ok(()),
        Stdin::Null => dup2_stdin(&open_null()?).step("redirect standard input"),
    }
}

/// Opens /dev/null.
pub(super) fn open_null() -> Result<File> {
    File::options().read(true).write(true).open("/dev/null").step_at("open", "/dev/null")
}

/// Lets go of the program's streams, which pid 1 would otherwise keep open after the program closed
/// them.
pub(super) fn close_streams(null: &File) -> Result<()> {
    dup2_stdin(null).step("redirect standard input")?;
    dup2_stdout(null).step("redirect standard output")?;
    dup2_stderr(null).step("redirect standard error")
}

/// Takes from all programs to come what Docker doesn't grant.
fn limit_bounding() -> nix::Result<()> {
    for cap in (0..=LAST_CAPABILITY).filter(|c| !CAPABILITIES.contains(c)) {
        match sys::caps::drop_bounding(cap) {
            // The kernel knows fewer.
            Err(Errno::EINVAL) => break,
            r => r?,
        }
    }
    sys::caps::clear_ambient()
}

/// Takes from the caller what Docker doesn't grant, for good.
pub(super) fn limit_rights() -> nix::Result<()> {
    let granted = CAPABILITIES.iter().fold(0u64, |set, c| set | 1 << c);
    sys::caps::set(sys::caps::permitted()? & granted)?;
    prctl::set_no_new_privs()
}

fn become_user(account: &Account, identity: &Identity) -> Result<()> {
    let unmapped = "this id is not mapped into the container: give the user a range in /etc/subuid and /etc/subgid";
    let failed = |e: Errno| {
        let who = format!("become user {}:{} of the container", account.uid, account.gid);
        Error::new(who, e).hint_if(Errno::EINVAL, unmapped)
    };
    // With a map that needed no helper, the kernel lets nobody set groups.
    let may_set_groups =
        !matches!(identity, Identity::Mapped(m) if m.writer == MapWriter::Ourselves);
    if may_set_groups {
        let groups: Vec<Gid> = account.groups.iter().map(|&g| Gid::from_raw(g)).collect();
        setgroups(&groups).map_err(failed)?;
    }
    let (uid, gid) = (Uid::from_raw(account.uid), Gid::from_raw(account.gid));
    setresgid(gid, gid, gid).map_err(failed)?;
    setresuid(uid, uid, uid).map_err(failed)
}

fn environment(env: &[(OsString, OsString)], account: &Account) -> Result<Vec<CString>> {
    let mut all: Vec<OsString> = Vec::with_capacity(env.len() + 1);
    if !env.iter().any(|(name, _)| name == "HOME") {
        all.push([OsStr::new("HOME="), &account.home].into_iter().collect());
    }
    all.extend(env.iter().map(|(n, v)| [n, OsStr::new("="), v].into_iter().collect()));
    all.iter().map(|s| c(s)).collect()
}

/// Enters the working directory, and makes sure that it is one of the container's (CVE-2024-21626).
fn enter(dir: &OsStr) -> Result<()> {
    chdir(dir).map_err(|e| {
        Error::new("enter working directory", e)
            .at(dir)
            .hint_if(Errno::ENOENT, "it must exist in the container: see --workdir and --volume")
    })?;
    match getcwd() {
        Ok(path) if path.is_absolute() => Ok(()),
        Ok(_) | Err(_) => {
            Err(Error::new("enter working directory", "it is outside of the container").at(dir))
        }
    }
}

/// Starts the program; a name without a slash is looked for in the container's PATH.
fn execute(
    args: &[OsString],
    env: &[(OsString, OsString)],
    environment: &[CString],
) -> Result<Infallible> {
    let argv = args.iter().map(|a| c(a)).collect::<Result<Vec<_>>>()?;
    let name = args.first().map_or(OsStr::new(""), |a| a.as_os_str());
    let failed = |e: Errno, path: &OsStr| {
        let exit = match e {
            Errno::ENOENT | Errno::ENOTDIR => Exit::NotFound,
            _ => Exit::CannotRun,
        };
        Error::new("run", e).at(path).with_exit(exit)
    };
    let attempt = |path: &OsStr| match execve(&c(path)?, &argv, environment) {
        Ok(never) => match never {},
        Err(e) => Ok::<Errno, Error>(e),
    };
    if name.as_bytes().contains(&b'/') {
        let e = attempt(name)?;
        let missing_interpreter = e == Errno::ENOENT && Path::new(name).exists();
        let error = failed(e, name);
        return Err(if missing_interpreter {
            error.hint("the file exists, but not the interpreter that it names")
        } else {
            error
        });
    }
    let mut denied = None;
    let path = env.iter().find(|(n, _)| n == "PATH").map(|(_, v)| v.clone()).unwrap_or_default();
    for dir in std::env::split_paths(&path) {
        let candidate = dir.join(name);
        match attempt(candidate.as_os_str())? {
            Errno::ENOENT | Errno::ENOTDIR => {}
            e => {
                denied.get_or_insert(failed(e, candidate.as_os_str()));
            }
        }
    }
    Err(denied.unwrap_or_else(|| {
        Error::new("run", "no such program in the container's PATH")
            .at(name)
            .with_exit(Exit::NotFound)
    }))
}

fn c(s: &OsStr) -> Result<CString> {
    CString::new(s.as_bytes()).step("start the program")
}
