//! `create`, `start` and `run`.

use std::fs;
use std::io::{IoSlice, Write};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;

use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use oci_spec::runtime::{LinuxNamespaceType, LinuxResources};
use sys::tty::Size;

use crate::cgroup::place::{self, Made};
use crate::cgroup::resources::{self, When};
use crate::error::{Context, Error, Result, best_effort};
use crate::launch::{self, Beginning, Console, Creation, hooks};
use crate::oci::bundle::{self, Bundle};
use crate::oci::options::{CreateArgs, IdArgs, RunArgs};
use crate::oci::state::{Locked, Record, Status};
use crate::oci::{Log, absolute, delete, seccomp, translate, validate};
use crate::spec::{Hook, Listener};
use crate::store::{ProcessId, now};

/// Creates a container.
pub(super) fn create(args: CreateArgs, root: &Path, log: &Log) -> Result<u8> {
    if args.console_socket.is_none()
        && Bundle::read(&args.bundle)?.process()?.terminal() == Some(true)
    {
        return Err(Error::new("process.terminal", "nobody gets the other end of it")
            .hint("give --console-socket"));
    }
    let console = console(args.console_socket.as_deref(), Console::None, None)?;
    create_with(&args, root, log, console).map(|_| 0)
}

/// Starts the program of a created container.
pub(super) fn start(args: &IdArgs, root: &Path, log: &Log) -> Result<u8> {
    let (locked, record) = Locked::find(root, &args.id)?;
    begin(locked, &record, log).map(|()| 0)
}

/// Creates a container, starts its program, and waits for it.
pub(super) fn run(args: RunArgs, root: &Path, log: &Log) -> Result<u8> {
    let wants_terminal = Bundle::read(&args.create.bundle)?.process()?.terminal() == Some(true);
    let ours = match (wants_terminal, args.detach, &args.create.console_socket) {
        (true, true, None) => {
            return Err(Error::new("--detach", "nobody gets the other end of the terminal")
                .hint("give --console-socket"));
        }
        (true, false, None) => Console::Ours(None),
        _ => Console::None,
    };
    let console = console(args.create.console_socket.as_deref(), ours, None)?;
    if !args.detach {
        launch::prepare_to_attend()?;
    }
    let (locked, record, console) = create_with(&args.create, root, log, console)?;
    let id = args.create.id;
    if let Err(e) = begin(locked, &record, log) {
        best_effort("remove the container", remove(root, &id, log));
        return Err(e);
    }
    if args.detach {
        return Ok(0);
    }
    let first = record.first.map_or(0, |f| f.pid);
    let code = launch::attend(first, console.ours());
    if !args.keep {
        remove(root, &id, log)?;
    }
    code
}

/// Ends and removes a container.
fn remove(root: &Path, id: &str, log: &Log) -> Result<()> {
    let (locked, record) = Locked::find(root, id)?;
    delete::end(&record)?;
    delete::remove(locked, &record, log)
}

/// Connects to whoever gets the terminal.
pub(super) fn console(socket: Option<&Path>, or: Console, size: Option<Size>) -> Result<Console> {
    let Some(path) = socket else { return Ok(or) };
    let socket = UnixStream::connect(path).step_at("--console-socket", path)?;
    Ok(Console::Socket(socket, size))
}

/// Makes sure that the descriptors that the program gets are there.
pub(super) fn check_kept(count: u32) -> Result<()> {
    for number in 3..3 + count {
        let path = format!("/proc/self/fd/{number}");
        if fs::symlink_metadata(&path).is_err() {
            let what = format!("descriptor {number} is not open");
            return Err(Error::new("--preserve-fds", what));
        }
    }
    Ok(())
}

fn create_with(
    args: &CreateArgs,
    root: &Path,
    log: &Log,
    console: Console,
) -> Result<(Locked, Record, Console)> {
    check_kept(args.preserve_fds)?;
    let bundle = Bundle::read(&args.bundle)?;
    let locked = Locked::create(root, &args.id)?;
    let mut made = Made::default();
    let mut record = match record(&bundle, args) {
        Ok(record) => record,
        Err(e) => {
            best_effort("remove the container", locked.remove());
            return Err(e);
        }
    };
    match build(&bundle, args, log, &locked, &mut record, &mut made, console) {
        Ok(console) => Ok((locked, record, console)),
        Err(e) => {
            best_effort("end the container", delete::end(&record));
            made.remove();
            if record.first.is_some() {
                delete::poststop(&record, log);
            }
            best_effort("remove the container", locked.remove());
            Err(e)
        }
    }
}

fn record(bundle: &Bundle, args: &CreateArgs) -> Result<Record> {
    let config = &bundle.config;
    let all = config.hooks().clone().unwrap_or_default();
    let has_pids = config.linux().as_ref().is_some_and(|linux| {
        let pids = linux.namespaces().iter().flatten().find(|n| n.typ() == LinuxNamespaceType::Pid);
        pids.is_some_and(|n| n.path().is_none())
    });
    Ok(Record {
        id: args.id.clone(),
        told: translate::state(bundle, &args.id),
        bundle: bundle.dir.clone(),
        rootfs: bundle.rootfs()?,
        created: now(),
        owner: nix::unistd::geteuid().as_raw(),
        first: None,
        is_built: false,
        cgroups: Vec::new(),
        above: Vec::new(),
        has_pids,
        poststart: bundle::hooks(all.poststart())?,
        poststop: bundle::hooks(all.poststop())?,
        config: serde_json::to_value(config).step("keep the configuration")?,
    })
}

fn build(
    bundle: &Bundle,
    args: &CreateArgs,
    log: &Log,
    locked: &Locked,
    record: &mut Record,
    made: &mut Made,
    mut console: Console,
) -> Result<Console> {
    let absent = LinuxResources::default();
    let linux = bundle.config.linux().as_ref();
    let limits = linux.and_then(|l| l.resources().as_ref()).unwrap_or(&absent);
    let path = linux.and_then(|l| l.cgroups_path().clone()).filter(|p| !p.as_os_str().is_empty());
    let path = path.unwrap_or_else(|| args.id.clone().into());
    let placed = place::decide(&path)?;
    place::check_unused(&placed)?;
    // Before they are made: whoever clears up after a kill has to know of them.
    record.cgroups = place::cgroups(&placed);
    record.above = place::above(&placed);
    locked.write(record)?;
    // What could not be made is not ours to end.
    *made = place::make(placed).inspect_err(|_| record.cgroups.clear())?;
    record.cgroups = place::cgroups(&made.placed);
    record.above = made.above.clone();
    locked.write(record)?;
    for weaker in resources::apply(limits, &made.placed, &made.refused, When::Before)? {
        log.warn(&weaker);
    }
    let (spec, before) = translate::translate(bundle, args, &made.placed, locked.dir())?;
    if let Console::Socket(_, size) = &mut console {
        let asked = bundle.process()?.console_size();
        *size = asked.map(|s| Size { rows: s.height() as u16, columns: s.width() as u16 });
    }
    let all = bundle.config.hooks().clone().unwrap_or_default();
    #[allow(deprecated, reason = "tools still use it")]
    let prestart = bundle::hooks(all.prestart())?;
    let create_runtime = bundle::hooks(all.create_runtime())?;
    let (socket, held) = (locked.listen()?, locked.hold()?);
    let told = record.told.clone();
    let dir = bundle.dir.as_os_str();
    let mut on_first = |pid: i32| {
        record.first = ProcessId::of(pid);
        locked.write(record)
    };
    let mut on_hooks = |pid: i32| {
        let state = hooks::state(&told, "creating", Some(pid));
        hooks::run("prestart", &prestart, &state, dir)?;
        hooks::run("createRuntime", &create_runtime, &state, dir)
    };
    let warn = |text: &str| log.warn(text);
    let (pid, console) = launch::create(Creation {
        spec,
        before,
        socket,
        held,
        console,
        on_first: &mut on_first,
        on_hooks: &mut on_hooks,
        warn: &warn,
        kept: args.preserve_fds,
    })?;
    resources::apply(limits, &made.placed, &made.refused, When::Built)?;
    record.is_built = true;
    locked.write(record)?;
    if let Some(path) = &args.pid_file {
        write_pid(path, pid)?;
    }
    Ok(console)
}

/// Writes the number of a process; a reader never sees a part of it.
pub(super) fn write_pid(path: &Path, pid: i32) -> Result<()> {
    let path = absolute(path)?;
    let mut name = std::ffi::OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    let new = path.with_file_name(name);
    let written = fs::File::create(&new)
        .and_then(|mut file| file.write_all(pid.to_string().as_bytes()))
        .and_then(|()| fs::rename(&new, &path));
    written.step_at("--pid-file: write", &path)
}

/// Lets the program begin.
fn begin(locked: Locked, record: &Record, log: &Log) -> Result<()> {
    let status = locked.status(record);
    if status != Status::Created {
        let what = format!("it can't be started, as it is {}", status.word());
        return Err(Error::new(format!("container {}", record.id), what));
    }
    let listener = listener(record)?;
    let warn = |text: &str| log.warn(text);
    let mut on_calls = |fd: OwnedFd| match &listener {
        Some(listener) => hand_over(listener, &fd, record, record.first.map_or(0, |f| f.pid)),
        None => Ok(()),
    };
    let socket = locked.socket()?;
    let begun = launch::begin(Beginning { socket: &socket, warn: &warn, on_calls: &mut on_calls });
    // Also where it failed the container waits no longer.
    locked.begun()?;
    begun?;
    // Hooks may ask us about the container, and more.
    drop(locked);
    let state = hooks::state(&record.told, "running", record.first.map(|f| f.pid));
    let after = run_poststart(&record.poststart, &state, &record.bundle);
    if after.is_err() {
        // The specification: the container is stopped then.
        best_effort("end the container", delete::end(record));
    }
    after
}

fn run_poststart(all: &[Hook], state: &str, bundle: &Path) -> Result<()> {
    hooks::run("poststart", all, state, bundle.as_os_str())
}

/// Returns who answers system calls of a container's programs.
pub(super) fn listener(record: &Record) -> Result<Option<Listener>> {
    let config: oci_spec::runtime::Spec =
        serde_json::from_value(record.config.clone()).step("read the configuration")?;
    debug_assert!(validate::config(&config).is_ok());
    let seccomp = config.linux().as_ref().and_then(|l| l.seccomp().as_ref());
    let profile = seccomp.map(seccomp::translate).transpose();
    let profile = profile.map_err(|why| Error::new("linux.seccomp", why))?;
    Ok(profile.and_then(|p| p.listener))
}

/// Sends the descriptor for answers to who listens, with the state of the container ("The Container
/// Process State" of config-linux.md).
pub(super) fn hand_over(
    listener: &Listener,
    fd: &OwnedFd,
    record: &Record,
    pid: i32,
) -> Result<()> {
    let path = &listener.path;
    let socket = UnixStream::connect(path).step_at("linux.seccomp.listenerPath", path)?;
    let first = record.first.map(|f| f.pid);
    let status = if first == Some(pid) { "creating" } else { "running" };
    let state: serde_json::Value =
        serde_json::from_str(&hooks::state(&record.told, status, first)).step("tell the state")?;
    let told = serde_json::json!({
        "ociVersion": super::SPECIFICATION,
        "fds": ["seccompFd"],
        "pid": pid,
        "metadata": listener.metadata,
        "state": state,
    });
    let numbers = [fd.as_raw_fd()];
    let rights = [ControlMessage::ScmRights(&numbers)];
    let text = told.to_string();
    let parts = [IoSlice::new(text.as_bytes())];
    let sent = sendmsg::<()>(socket.as_raw_fd(), &parts, &rights, MsgFlags::MSG_NOSIGNAL, None);
    let sent = sent.step_at("linux.seccomp.listenerPath: send to", path)?;
    let rest = text.as_bytes().get(sent..).unwrap_or_default();
    (&socket).write_all(rest).step_at("linux.seccomp.listenerPath: send to", path)
}

/// Returns the size of a terminal that we have ourselves.
pub(super) fn own_size(of: BorrowedFd<'_>) -> Option<Size> {
    sys::tty::size(of).ok()
}
