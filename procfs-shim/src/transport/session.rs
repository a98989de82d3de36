//! Mount, serve, unmount: the connection is held by one process, and served by another.

use std::fs::File;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use daemon::mount::Place;
use daemon::{
    Connection, Mount, MountPoint, MountRequest, Ready, Resume, ServeOptions, Turns, Upgrade,
};
use nix::errno::Errno;
use nix::mount::{MntFlags, umount2};

use super::adapter::Adapter;
use super::counters::COUNTERS;
use super::metrics;
use crate::error::StartError;
use crate::view::Views;

/// How a mount is served.
#[derive(Debug)]
pub struct Service {
    /// Threads that take turns.
    pub threads: usize,
    /// Who asks for metrics.
    pub metrics: Option<UnixListener>,
}

/// Mounts, or takes over the mount that `resume` tells of.
///
/// # Errors
/// The mount failed, or there is nothing to take over.
pub fn connect(request: &MountRequest, resume: Option<Resume>) -> Result<Connection, StartError> {
    let Some(resume) = resume else {
        if let MountPoint::Path(path) = &request.at {
            unmount_dead(path);
        }
        let mount = Mount::new(request).map_err(|e| StartError::Failed(e.to_string()))?;
        return Connection::greet(mount).map_err(|e| unserved(request, e));
    };
    let place = Place::again(resume.mount);
    Connection::resume(resume, place)
        .map_err(|e| StartError::Failed(format!("--resume: {}: it is for upgrades only", e.desc())))
}

/// Unmounts what a daemon before this one has left behind, whose end was not clean.
fn unmount_dead(at: &Path) {
    let is_ours = || {
        let text = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        text.lines().any(|line| {
            let at_path = line.split(' ').nth(4).is_some_and(|p| Path::new(p) == at);
            at_path && line.contains(" - fuse.procfs-shim ")
        })
    };
    // `ENOTCONN`: nobody holds the connection any more.
    let is_dead = |e: std::io::Error| e.raw_os_error() == Some(Errno::ENOTCONN as i32);
    if at.metadata().is_err_and(is_dead) && is_ours() {
        log::warn!("{}: unmounts a dead mount of an earlier daemon", at.display());
        if let Err(e) = umount2(at, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW) {
            log::warn!("unmount {}: {}", at.display(), e.desc());
        }
    }
}

fn unserved(request: &MountRequest, e: Errno) -> StartError {
    let at = match &request.at {
        MountPoint::Path(path) => path.clone(),
        MountPoint::Mounted(fd) => PathBuf::from(format!("/dev/fd/{fd}")),
    };
    StartError::Failed(format!(
        "serve the mount {}: {}: the descriptor must be mounted, and nobody else may serve it",
        at.display(),
        e.desc()
    ))
}

/// Keeps the connection served by workers until the mount is gone; returns the exit code. A worker
/// makes its views by `views`, which is given the file that outlives workers.
///
/// # Preconditions
/// The process has one thread.
///
/// # Errors
/// No worker can be started.
pub fn supervise(
    connection: &Connection,
    service: &Service,
    ready: Ready,
    upgrade: &Upgrade,
    views: &mut dyn FnMut(File) -> Result<Views, StartError>,
) -> Result<u8, StartError> {
    if !connection.greeting().offers_resend() {
        log::debug!("before Linux 6.9, a read that a killed worker has begun doesn't end");
    }
    let failed = |e| StartError::Failed(format!("supervise the daemon: {e}"));
    let mut worker = |connection: Connection, ready| {
        let notes = connection.notes().try_clone_to_owned().map_err(failed);
        let views = notes.and_then(|notes| views(notes.into()));
        match views.and_then(|views| serve(views, connection, service, ready)) {
            Ok(()) => 0,
            Err(e) => {
                log::error!("{e}");
                1
            }
        }
    };
    daemon::supervise(connection, ready, upgrade, &mut worker).map_err(failed)
}

/// Serves in this very process until the mount is gone, with threads that take turns.
///
/// # Preconditions
/// The process has one thread.
///
/// # Errors
/// The connection broke.
pub fn serve(
    views: Views,
    connection: Connection,
    service: &Service,
    ready: Ready,
) -> Result<(), StartError> {
    let turns = Turns::for_brief_answers(service.threads, readers());
    let adapter = Adapter::new(views, turns.clone());
    let views = adapter.views().clone();
    let clone = |l: &UnixListener| l.try_clone();
    let listener = service.metrics.as_ref().map(clone).transpose();
    let listener = listener.map_err(|e| StartError::Failed(format!("serve the metrics: {e}")))?;
    let restorer = adapter.restorer();
    let started: daemon::Started = Box::new(move |notifier| {
        if let Some(listener) = listener {
            std::thread::Builder::new()
                .name("metrics".into())
                .spawn(move || metrics::serve(&listener, &views))?;
        }
        if let Some(restorer) = restorer {
            std::thread::Builder::new()
                .name("sizes".into())
                .spawn(move || restorer.run(notifier))?;
        }
        Ok(())
    });
    let options = ServeOptions { turns, ready, statistics: Box::new(statistics) };
    daemon::serve_connection(adapter, connection, started, options)
        .map_err(|e| StartError::Failed(format!("serve the mount: {e}")))
}

/// How many threads read messages at once: a reader's own share of a read is as long as ours, so that half
/// of the processors answer what the other half asks. On two, a second thread costs more by waking and
/// being moved than it answers.
fn readers() -> usize {
    std::thread::available_parallelism().map_or(1, |n| n.get() / 2)
}

fn statistics() {
    let (given, stand_ins) = COUNTERS.files();
    let sum = |counts: &[u64]| counts.iter().sum::<u64>();
    let (given, stand_ins) = (sum(&given), sum(&stand_ins));
    daemon::logger::say(&format!(
        "{given} files opened, {stand_ins} of them as the machine has them"
    ));
}
