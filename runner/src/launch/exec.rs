//! The last steps before the program: streams, user, rights, directory, and `execve`.

use std::convert::Infallible;
use std::ffi::{CString, OsStr, OsString};
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::errno::Errno;
use nix::libc;
use nix::sys::personality::{self, Persona};
use nix::sys::prctl;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::Signal;
use nix::sys::stat::{Mode, umask};
use nix::unistd::{
    AccessFlags, Gid, Uid, access, chdir, dup2_stderr, dup2_stdin, dup2_stdout, execve, fchown,
    getcwd, setgroups, setresgid, setresuid, setsid,
};

use crate::error::{Context, Error, Exit, Result, say};
use crate::launch::sync::{Channel, ToSupervisor};
use crate::launch::user::{self, Account};
use crate::launch::{copy, rights};
use crate::spec::{First, Identity, Job, MissingCwd, Process, Stdin, Ulimit, User};

/// What a program reads from and writes to.
#[derive(Debug)]
pub(super) enum Streams {
    /// What we have, but nothing to read.
    Null,
    /// What we have.
    Ours,
    /// A terminal.
    Terminal(OwnedFd),
    /// What the supervisor carries: standard input where it is carried too, output, error.
    Carried(Vec<OwnedFd>, Stdin),
}

impl Streams {
    /// Returns those that a supervisor carries, or else ours.
    pub(super) fn of(carried: Vec<OwnedFd>, stdin: Stdin) -> Streams {
        match (carried.is_empty(), stdin) {
            (false, _) => Streams::Carried(carried, stdin),
            (true, Stdin::Inherited) => Streams::Ours,
            (true, Stdin::Null) => Streams::Null,
        }
    }
}

/// What happens when all is ready but the program: it may wait, and may exchange who is told of failures.
pub(super) type Gate<'a> = &'a mut dyn FnMut(&mut Channel) -> Result<()>;

/// The gate that is open.
pub(super) fn at_once(_: &mut Channel) -> Result<()> {
    Ok(())
}

/// Becomes the program.
///
/// # Errors
/// It can't be started; the exit code says whether it was found.
pub(super) fn run(
    channel: &mut Channel,
    process: &Process,
    identity: &Identity,
    streams: Streams,
    gate: Gate<'_>,
) -> Result<Infallible> {
    let more = &process.more;
    if process.first == First::Init {
        setsid().step("make a session")?;
    }
    connect(streams)?;
    let account = user::find(&process.user)?;
    ulimits(channel, &process.ulimits)?;
    if process.missing_cwd == MissingCwd::Make {
        make_dir(&process.cwd)?;
    }
    if more.own_streams {
        own_streams(account.uid)?;
    }
    if let Some(domain) = more.personality {
        let domain = Persona::from_bits_retain(domain as i32);
        personality::set(domain).step("set the personality")?;
    }
    let rights = &process.rights;
    rights::limit_bounding(rights.capabilities.bounding).step("drop capabilities")?;
    // Both may be allowed to enter it: an image's directory may be closed to its user, and one that a
    // user owns to root.
    let entered = enter(&process.cwd);
    rights::keep_over_change_of_user().step("drop capabilities")?;
    become_user(&account, &process.user, identity)?;
    rights::begin(&rights.capabilities).step("drop capabilities")?;
    if entered.is_err() {
        enter(&process.cwd)?;
    }
    let env = environment(&process.env, &account)?;
    if more.check_program {
        look_for(&process.args, &process.env)?;
    }
    gate(channel)?;
    umask(Mode::from_bits_truncate(more.umask.unwrap_or(0o022)));
    hand_over(more.kept)?;
    sys::process::reset_signals().step("reset signals")?;
    if process.first == First::Program && process.is_tied {
        // A change of user takes this away.
        prctl::set_pdeathsig(Signal::SIGKILL).step("tie the container to the runner")?;
    }
    rights::give_away(channel, rights, account.uid)?;
    match &process.job {
        Job::Execute => {}
        Job::Send(path) => end(copy::send(Path::new(path), std::io::stdout().lock())),
        Job::Receive(path) => end(copy::receive(Path::new(path), std::io::stdin().lock())),
    }
    // The channel closes when the program is started, and so says it.
    execute(&process.args, &process.env, &env)
}

/// Ends a process that did its work itself.
fn end(done: Result<()>) -> ! {
    let code = match done {
        Ok(()) => 0,
        Err(e) => {
            say(e);
            1
        }
    };
    std::process::exit(code)
}

/// Connects the program's streams.
fn connect(streams: Streams) -> Result<()> {
    match streams {
        Streams::Ours => Ok(()),
        Streams::Null => dup2_stdin(&open_null()?).step("redirect standard input"),
        Streams::Terminal(tty) => {
            sys::tty::make_controlling(&tty).step("take the terminal")?;
            dup2_stdin(&tty).step("redirect standard input")?;
            dup2_stdout(&tty).step("redirect standard output")?;
            dup2_stderr(&tty).step("redirect standard error")
        }
        Streams::Carried(fds, stdin) => {
            let mut fds = fds.into_iter().rev();
            let (err, out) = (fds.next(), fds.next());
            match (fds.next(), stdin) {
                (Some(input), _) => dup2_stdin(&input).step("redirect standard input")?,
                (None, Stdin::Inherited) => {}
                (None, Stdin::Null) => {
                    dup2_stdin(&open_null()?).step("redirect standard input")?;
                }
            }
            if let (Some(out), Some(err)) = (out, err) {
                dup2_stdout(&out).step("redirect standard output")?;
                dup2_stderr(&err).step("redirect standard error")?;
            }
            Ok(())
        }
    }
}

/// Sets the limits of the process; what we may not raise is set as high as we may.
fn ulimits(channel: &mut Channel, all: &[Ulimit]) -> Result<()> {
    for limit in all {
        let resource = resource(&limit.name)
            .ok_or_else(|| Error::new("--ulimit", "there is no such limit").at(&limit.name))?;
        match setrlimit(resource, limit.soft, limit.hard) {
            Ok(()) => {}
            Err(Errno::EPERM) => {
                let (_, most) = getrlimit(resource).step("read a limit")?;
                let (soft, hard) = (limit.soft.min(most), limit.hard.min(most));
                setrlimit(resource, soft, hard).step_at("set limit", &limit.name)?;
                channel.send(&ToSupervisor::Weaker(format!(
                    "--ulimit {}: it is {hard}, the most that this user may have",
                    limit.name
                )))?;
            }
            Err(e) => return Err(Error::new("set limit", e).at(&limit.name)),
        }
    }
    Ok(())
}

/// Returns the limit of a name, as shells and podman call it.
pub(crate) fn resource(name: &str) -> Option<Resource> {
    Some(match name {
        "as" => Resource::RLIMIT_AS,
        "core" => Resource::RLIMIT_CORE,
        "cpu" => Resource::RLIMIT_CPU,
        "data" => Resource::RLIMIT_DATA,
        "fsize" => Resource::RLIMIT_FSIZE,
        "locks" => Resource::RLIMIT_LOCKS,
        "memlock" => Resource::RLIMIT_MEMLOCK,
        "msgqueue" => Resource::RLIMIT_MSGQUEUE,
        "nice" => Resource::RLIMIT_NICE,
        "nofile" => Resource::RLIMIT_NOFILE,
        "nproc" => Resource::RLIMIT_NPROC,
        "rss" => Resource::RLIMIT_RSS,
        "rtprio" => Resource::RLIMIT_RTPRIO,
        "rttime" => Resource::RLIMIT_RTTIME,
        "sigpending" => Resource::RLIMIT_SIGPENDING,
        "stack" => Resource::RLIMIT_STACK,
        _ => return None,
    })
}

/// Makes the working directory that an image names.
fn make_dir(path: &OsStr) -> Result<()> {
    // The root is the container's already, so no symlink leads out.
    match std::fs::create_dir_all(path) {
        Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        r => r.step_at("create working directory", path),
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

fn become_user(account: &Account, asked: &User, identity: &Identity) -> Result<()> {
    let unmapped = "this id is not mapped into the container: give the user a range in /etc/subuid and /etc/subgid";
    let failed = |e: Errno| {
        let who = format!("become user {}:{} of the container", account.uid, account.gid);
        Error::new(who, e).hint_if(Errno::EINVAL, unmapped)
    };
    // With a map that needed no helper, the kernel lets nobody set groups.
    if identity.may_set_groups() || !asked.more.is_empty() {
        let groups: Vec<Gid> = account.groups.iter().map(|&g| Gid::from_raw(g)).collect();
        setgroups(&groups).map_err(failed)?;
    }
    let (uid, gid) = (Uid::from_raw(account.uid), Gid::from_raw(account.gid));
    setresgid(gid, gid, gid).map_err(failed)?;
    setresuid(uid, uid, uid).map_err(failed)
}

/// Gives the streams to the user, who could not open them again by /dev/stdout and the like; what is
/// everybody's, as /dev/null, stays whose it is.
fn own_streams(uid: u32) -> Result<()> {
    for stream in [std::io::stdin().as_fd(), std::io::stdout().as_fd(), std::io::stderr().as_fd()] {
        // A stream may be closed.
        let Ok(stat) = sys::stat::stat_fd(stream) else { continue };
        if stat.uid == uid || stat.rdev == libc::makedev(1, 3) {
            continue;
        }
        match fchown(stream, Some(Uid::from_raw(uid)), None) {
            // Not mapped, read-only, or somebody else's: the program can use what is open.
            Ok(()) | Err(Errno::EINVAL | Errno::EPERM | Errno::EROFS) => {}
            Err(e) => return Err(Error::new("give the streams to the user", e)),
        }
    }
    Ok(())
}

/// Hands the first descriptors from 3 on to the program, and no other.
fn hand_over(kept: u32) -> Result<()> {
    sys::process::close_range_on_exec(3 + kept).step("close descriptors")?;
    for number in 3..3 + kept {
        let fd = sys::process::inherited_fd(number as i32)
            .step(&format!("hand over descriptor {number}"))?;
        sys::process::keep_on_exec(&fd).step("hand over a descriptor")?;
        // It is the program's from here on.
        std::mem::forget(fd);
    }
    Ok(())
}

/// Makes sure that there is a program to be started.
fn look_for(args: &[OsString], env: &[(OsString, OsString)]) -> Result<()> {
    let name = args.first().map_or(OsStr::new(""), |a| a.as_os_str());
    let usable = |path: &Path| access(path, AccessFlags::X_OK);
    let failed = |e: Errno| {
        let exit = if e == Errno::ENOENT { Exit::NotFound } else { Exit::CannotRun };
        Error::new("run", e).at(name).with_exit(exit)
    };
    if name.as_bytes().contains(&b'/') {
        return usable(Path::new(name)).map_err(failed);
    }
    let path = env.iter().find(|(n, _)| n == "PATH").map(|(_, v)| v.clone()).unwrap_or_default();
    let mut why = None;
    for dir in std::env::split_paths(&path) {
        match usable(&dir.join(name)) {
            Ok(()) => return Ok(()),
            Err(Errno::ENOENT | Errno::ENOTDIR) => {}
            Err(e) => why = why.or(Some(e)),
        }
    }
    Err(why.map_or_else(|| not_found(name), failed))
}

fn not_found(name: &OsStr) -> Error {
    Error::new("run", "executable file not found in $PATH of the container")
        .at(name)
        .with_exit(Exit::NotFound)
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
    Err(denied.unwrap_or_else(|| not_found(name)))
}

fn c(s: &OsStr) -> Result<CString> {
    CString::new(s.as_bytes()).step("start the program")
}
