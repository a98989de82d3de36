//! A daemon's life: from what was meant to its end.

use std::ffi::{CString, OsString};
use std::fs::File;
use std::io::Write;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use daemon::mount::Place;
use daemon::ready::{Detached, detach};
use daemon::{Ready, Resume, manager};
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use crate::cgroup::{Controller, Hierarchy};
use crate::config::{self, Config, Style, Subject};
use crate::error::{ReadError, StartError};
use crate::host::Host;
use crate::host::process::{Pid, Processes, StartTime};
use crate::transport::Service;
use crate::view::Views;
use crate::view::notebook::Notebook;
use crate::{mounted_hierarchies, start_log, transport};

/// Mounts and serves, or goes on where a program before this one was.
///
/// # Errors
/// Something is missing or refused.
pub(crate) fn start(config: &Config) -> Result<ExitCode, StartError> {
    start_log(config.log);
    let ready = match config.style {
        Style::Foreground => Ready::Foreground,
        Style::Announced(fd) => {
            let bad = |e: Errno| {
                StartError::Failed(format!(
                    "--ready-fd {fd}: {}: give an open descriptor above 2",
                    e.desc()
                ))
            };
            Ready::descriptor(fd).map_err(bad)?
        }
        Style::Detached => {
            let detached = detach();
            match detached.map_err(|e| StartError::Failed(format!("detach: {}", e.desc())))? {
                Detached::Parent(code) => return Ok(code),
                Detached::Daemon(ready) => {
                    daemon::logger::also_to_the_system();
                    ready
                }
            }
        }
    };
    let lock = config.pidfile.as_deref().map(pidfile).transpose()?;
    let failed = |e: ReadError| StartError::Failed(e.to_string());
    if let Err(e) = sys::process::raise_nofile_limit() {
        log::debug!("raise the limit of open files: {}", e.desc());
    }
    let resume = config.resume.or_else(kept);
    // Opened before anything can be bound over them: a worker that takes over must not wait for
    // itself.
    let host = match resume {
        Some(resume) => Host::below(resume.mount),
        None => Host::open(Path::new("/")),
    };
    let mut host = Some(host.map_err(failed)?);
    let subject = pinned(config.subject)?;
    let metrics = config.metrics.as_deref().map(listen).transpose()?;
    let service = Service { threads: config.threads, metrics };
    let connection = transport::connect(&config.mount, resume)?;
    // Each worker is a process of its own, and finds the host here once.
    let mut views = |notes| {
        host.take().map_or_else(|| Err(no_host()), |host| views(config, subject, host, notes))
    };
    let new = daemon::Upgrade { program: own_program()?, arguments: upgraded, check: can_go_on };
    let code = transport::supervise(&connection, &service, ready, &new, &mut views)?;
    if let Some(path) = &config.metrics
        && let Err(e) = std::fs::remove_file(path)
    {
        log::debug!("remove {}: {e}", path.display());
    }
    drop(lock);
    Ok(ExitCode::from(code))
}

/// Listens on a socket, in the place of one that nobody listens on any more.
fn listen(path: &Path) -> Result<UnixListener, StartError> {
    let failed = |what: String| StartError::Failed(format!("--metrics {}: {what}", path.display()));
    let is_socket = path.symlink_metadata().is_ok_and(|m| m.file_type().is_socket());
    if is_socket {
        if UnixStream::connect(path).is_ok() {
            return Err(failed("another daemon listens there: give another path".into()));
        }
        std::fs::remove_file(path).map_err(|e| failed(e.to_string()))?;
    }
    let bound = UnixListener::bind(path);
    bound.map_err(|e| failed(format!("{e}: give a path in a directory that exists")))
}

/// Returns the connection that the service manager has kept, unless its mount is gone.
fn kept() -> Option<Resume> {
    let kept = manager::kept()?;
    if Place::again(kept.mount).is_none() {
        manager::forget(&kept);
        return None;
    }
    Some(kept)
}

fn own_program() -> Result<PathBuf, StartError> {
    std::env::current_exe().map_err(|e| StartError::Failed(format!("find the program: {e}")))
}

/// Whether another program can go on with a mount: it has to open the machine's files anew, which ours
/// may be bound over.
fn can_go_on(place: Option<&Place>) -> Result<(), String> {
    let Some(place) = place else { return Ok(()) };
    Host::below(place.id()).map(drop).map_err(|e| {
        format!("{e}: files of this mount are bound over the daemon's own: unmount them there")
    })
}

fn no_host() -> StartError {
    StartError::Failed("a worker was started twice in one process".into())
}

/// Adds the start of the container's init where it isn't given, so that no later process that gets its
/// number is taken for it.
fn pinned(subject: Subject) -> Result<Subject, StartError> {
    let Subject::Init(pid, None) = subject else { return Ok(subject) };
    let start = || Processes::open(Path::new("/proc"))?.get(pid)?.stat();
    let stat = start().map_err(|e| no_init(pid, &e))?;
    Ok(Subject::Init(pid, Some(StartTime(stat.start))))
}

fn no_init(pid: Pid, e: &ReadError) -> StartError {
    StartError::Failed(format!(
        "--init-pid {}: {e}: give the running container's first process",
        pid.0
    ))
}

/// Returns the arguments that this program was started with, for the one that goes on.
fn upgraded(resume: Resume) -> Vec<CString> {
    let mut args = std::env::args_os();
    let name = args.next().unwrap_or_else(|| "procfs-shim".into());
    let resumed = OsString::from(config::resume_argument(resume));
    let is_older = |arg: &OsString| arg.as_encoded_bytes().starts_with(b"--resume=");
    let rest = args.filter(|arg| !is_older(arg));
    // The kernel gave us the arguments, so none has a NUL byte.
    let c = |arg: OsString| CString::new(arg.into_vec()).ok();
    [name, resumed].into_iter().chain(rest).filter_map(c).collect()
}

/// Finds the machine's hierarchies, and says which figures can't be told apart from the machine's.
fn views(config: &Config, subject: Subject, host: Host, notes: File) -> Result<Views, StartError> {
    let failed = |e: ReadError| StartError::Failed(e.to_string());
    let tree = mounted_hierarchies().map_err(failed)?;
    check(&tree, config)?;
    let notebook = Some(Notebook::open(notes));
    match subject {
        Subject::Reader => Views::by_reader(host, tree, config.rules, notebook).map_err(failed),
        Subject::Init(pid, start) => Views::of_one(host, tree, config.rules, pid, start, notebook)
            .map_err(|e| no_init(pid, &e)),
    }
}

/// Refuses to start where each figure would be the machine's; warns where some would be.
fn check(tree: &Hierarchy, config: &Config) -> Result<(), StartError> {
    let declared = config.rules.memory.declared.is_some() || config.rules.cpu.declared.is_some();
    let wanted = [Controller::Memory, Controller::Cpu, Controller::CpuTime, Controller::Cpuset];
    let missing: Vec<&str> =
        wanted.into_iter().filter(|c| tree.tree(*c).is_none()).map(Controller::name).collect();
    if missing.len() == wanted.len() && !declared {
        return Err(StartError::Failed(
            "no cgroup hierarchy is mounted, so every figure would be the machine's: mount one (`mount -t cgroup2 none /sys/fs/cgroup`)".into(),
        ));
    }
    if !missing.is_empty() {
        log::warn!(
            "no mounted cgroup hierarchy has the controllers {}: what they limit is shown as the machine has it",
            missing.join(", ")
        );
    }
    Ok(())
}

/// Writes our process number, and keeps the file locked.
fn pidfile(path: &Path) -> Result<Flock<std::fs::File>, StartError> {
    let failed = |what: String| StartError::Failed(format!("--pidfile {}: {what}", path.display()));
    let mut options = std::fs::File::options();
    let file = options.create(true).write(true).truncate(false).open(path);
    let file = file.map_err(|e| failed(format!("{e}: give a path in a directory that exists")))?;
    let mut lock = Flock::lock(file, FlockArg::LockExclusiveNonblock)
        .map_err(|(_, e)| failed(format!("{}: another daemon holds it", e.desc())))?;
    let written = lock.set_len(0).and_then(|()| writeln!(&*lock, "{}", std::process::id()));
    written.map_err(|e| failed(e.to_string()))?;
    lock.flush().map_err(|e| failed(e.to_string()))?;
    Ok(lock)
}
