//! A FUSE daemon that shows /proc and /sys files as the reader's own cgroup sees them.
//!
//! Rooms in reading order; each calls only itself and rooms after it:
//!
//! | room | what it does |
//! |---|---|
//! | [`cli`], [`config`] | what the user typed, and what was meant |
//! | [`verbs`] | what it does besides serving |
//! | [`transport`] | mount and answer the kernel; the only room that names `fuser` |
//! | [`files`] | one table: path -> pure renderer -> fallback |
//! | [`view`] | what a reader may see: container, memory, processors, time, load |
//! | [`cgroup`] | v1, v2 and hybrid behind one set of questions |
//! | [`host`] | the machine's own files and processes |
//!
//! [`figures`] is for programs that have a container at hand and want its figures as numbers.
//!
//! Lock order: tables of [`view::caller`] > `Container::groups` > `Container::meter` >
//! `Container::processes`; `Container::load` is taken alone, never across I/O.
#![forbid(unsafe_code)]

pub mod cgroup;
pub mod cli;
pub mod config;
pub mod error;
pub mod figures;
pub mod files;
pub mod host;
mod logger;
pub mod transport;
pub mod verbs;
pub mod view;

use std::ffi::{CString, OsString};
use std::io::Write;
use std::os::unix::ffi::OsStringExt;
use std::path::Path;
use std::process::ExitCode;

use clap::Parser;
use daemon::ready::{Detached, detach};
use daemon::{MountPoint, Ready, Resume};
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use cgroup::{Controller, Hierarchy};
use config::{Config, Style, Subject};
use error::{ReadError, StartError};
use host::Host;
use host::process::{Pid, Processes, StartTime};
use view::Views;

/// Runs the program with `args` (the first is the name it was called by) and returns its exit code.
pub fn run(args: impl Iterator<Item = OsString>) -> ExitCode {
    let args = match cli::Args::try_parse_from(args) {
        Ok(args) => args,
        Err(e) => return explain(&e),
    };
    let outcome = match &args.verb {
        Some(verb) => verbs::run(verb),
        None => Config::new(args).and_then(|config| start(&config)),
    };
    outcome.unwrap_or_else(|e| {
        logger::start(log::LevelFilter::Warn);
        log::error!("{e}");
        match e {
            StartError::Usage(_) => ExitCode::from(2),
            StartError::Failed(_) => ExitCode::FAILURE,
        }
    })
}

/// Prints the help or version that was asked for, or in one line what was wrong.
fn explain(e: &clap::Error) -> ExitCode {
    if !e.use_stderr() {
        let printed = e.print();
        return if printed.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    }
    let text = e.to_string();
    let said = text.split("\n\n").next().unwrap_or_default().trim_start_matches("error: ");
    let line: Vec<&str> = said.split_ascii_whitespace().collect();
    logger::start(log::LevelFilter::Warn);
    log::error!("{}: see `procfs-shim --help`", line.join(" "));
    ExitCode::from(2)
}

fn start(config: &Config) -> Result<ExitCode, StartError> {
    logger::start(config.log);
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
                    logger::also_to_the_system();
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
    // Opened before anything can be bound over them: a worker that takes over must not wait for
    // itself.
    let mut host = Some(Host::open(Path::new("/")).map_err(failed)?);
    let subject = pinned(config.subject)?;
    let connection = transport::connect(&config.mount, config.resume)?;
    // Each worker is a process of its own, and finds the host here once.
    let mut views = || host.take().map_or_else(|| Err(no_host()), |h| views(config, subject, h));
    let code = match config.mount.at {
        // Who gave us the descriptor is our supervisor, if it wants to be one, and expects one process.
        MountPoint::Mounted(_) => {
            transport::serve(views()?, connection, config.threads, ready).map(|()| 0)?
        }
        MountPoint::Path(_) => {
            transport::supervise(&connection, config.threads, ready, upgraded, &mut views)?
        }
    };
    drop(lock);
    Ok(ExitCode::from(code))
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
fn views(config: &Config, subject: Subject, host: Host) -> Result<Views, StartError> {
    let failed = |e: ReadError| StartError::Failed(e.to_string());
    let tree = mounted_hierarchies().map_err(failed)?;
    check(&tree, config)?;
    match subject {
        Subject::Reader => Views::by_reader(host, tree, config.rules).map_err(failed),
        Subject::Init(pid, start) => {
            Views::of_one(host, tree, config.rules, pid, start).map_err(|e| no_init(pid, &e))
        }
    }
}

/// Finds the hierarchies that this process has mounted.
fn mounted_hierarchies() -> Result<Hierarchy, ReadError> {
    let at = Path::new("/proc/self/mountinfo");
    let text = std::fs::read_to_string(at)
        .map_err(|e| ReadError::Io(at.to_path_buf(), host::held::errno(&e)))?;
    Ok(Hierarchy::detect(&text, Path::new("/")))
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
