//! Mount, serve, unmount: the connection is held by one process, and served by another.

use std::ffi::CString;
use std::path::PathBuf;

use daemon::mount::Place;
use daemon::{Connection, Mount, MountPoint, MountRequest, Ready, Resume, ServeOptions, Upgrade};
use nix::errno::Errno;

use super::adapter::{Adapter, Counters};
use crate::error::StartError;
use crate::view::Views;

/// Mounts, or takes over the mount that `resume` tells of.
///
/// # Errors
/// The mount failed, or there is nothing to take over.
pub fn connect(request: &MountRequest, resume: Option<Resume>) -> Result<Connection, StartError> {
    let Some(resume) = resume else {
        let mount = Mount::new(request).map_err(|e| StartError::Failed(e.to_string()))?;
        return Connection::greet(mount).map_err(|e| unserved(request, e));
    };
    let place = Place::again(resume.mount);
    Connection::resume(resume, place)
        .map_err(|e| StartError::Failed(format!("--resume: {}: it is for upgrades only", e.desc())))
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
/// makes its views by `views`.
///
/// # Preconditions
/// The process has one thread.
///
/// # Errors
/// No worker can be started.
pub fn supervise(
    connection: &Connection,
    threads: usize,
    ready: Ready,
    arguments: fn(Resume) -> Vec<CString>,
    views: &mut dyn FnMut() -> Result<Views, StartError>,
) -> Result<u8, StartError> {
    if !connection.greeting().offers_resend() {
        log::debug!("before Linux 6.9, a read that a killed worker has begun doesn't end");
    }
    let failed = |e| StartError::Failed(format!("supervise the daemon: {e}"));
    let program = std::env::current_exe().map_err(failed)?;
    let upgrade = Upgrade { program, arguments };
    let mut worker = |connection, ready| {
        let served = views().and_then(|views| serve(views, connection, threads, ready));
        match served {
            Ok(()) => 0,
            Err(e) => {
                log::error!("{e}");
                1
            }
        }
    };
    daemon::supervise(connection, ready, &upgrade, &mut worker).map_err(failed)
}

/// Serves in this very process until the mount is gone.
///
/// # Preconditions
/// The process has one thread.
///
/// # Errors
/// The connection broke.
pub fn serve(
    views: Views,
    connection: Connection,
    threads: usize,
    ready: Ready,
) -> Result<(), StartError> {
    let adapter = Adapter::new(views);
    let restorer = adapter.restorer();
    let started = Box::new(|notifier| {
        if let Some(restorer) = restorer {
            std::thread::Builder::new()
                .name("sizes".into())
                .spawn(move || restorer.run(notifier))?;
        }
        Ok(())
    });
    let options = ServeOptions { threads, ready, started, statistics: Box::new(statistics) };
    daemon::serve_connection(adapter, connection, options)
        .map_err(|e| StartError::Failed(format!("serve the mount: {e}")))
}

fn statistics() {
    let Counters { opens, fallbacks } = super::adapter::counters();
    crate::logger::say(&format!(
        "{opens} files opened, {fallbacks} of them as the machine has them"
    ));
}
