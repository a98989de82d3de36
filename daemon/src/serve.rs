//! Answers the kernel until the mount is gone, whoever unmounts it.

use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use fuser::{Config, Filesystem, Notifier};
use wire::{Counts, FileSystem};

use crate::mount::{Mount, Place};
use crate::ready::Ready;
use crate::reattach::Connection;
use crate::signals::{Request, Signals};
use crate::turns::Turns;

/// How long a daemon that was asked to end waits for users of a mount that was busy, before it
/// leaves them with a dead connection. Below a second, after which Apptainer kills.
const GRACE: Duration = Duration::from_millis(500);

/// How to serve.
pub struct ServeOptions {
    /// The threads that take requests: the file system begins a turn with each.
    pub turns: Arc<Turns>,
    /// Whom to tell that the mount is live.
    pub ready: Ready,
    /// Called for SIGUSR1.
    pub statistics: Box<dyn Fn() + Send>,
}

/// Called with the means to notify the kernel, after the handshake and before the first request.
pub type Started = Box<dyn FnOnce(Notifier) -> io::Result<()>>;

/// Shakes hands with the kernel, announces the mount, and serves until it is gone. SIGTERM, SIGINT
/// and SIGHUP unmount it. Messages are counted in `counts`.
///
/// # Preconditions
/// The process has one thread, so that all of them block the daemon's signals.
///
/// # Errors
/// The handshake failed, or a thread can't be started. The file system is unmounted again then.
pub fn serve<F: FileSystem + 'static>(
    fs: F,
    mount: Mount,
    counts: Arc<Counts>,
    options: ServeOptions,
) -> io::Result<()> {
    let (fd, place) = mount.into_parts();
    let serve = || {
        let signals = Signals::block()?;
        let session = wire::Session::begin(fs, fd, counts)?;
        let device = Arc::clone(session.device());
        // Threads of io_uring take no turns.
        let turns = (!session.has_lanes()).then(|| Arc::clone(&options.turns));
        let running = session.start(options.turns.threads())?;
        if let Some(turns) = turns {
            turns.watch(device.as_fd().try_clone_to_owned()?)?;
        }
        prepare(&place, signals, options)?;
        running.serve()
    };
    let served = serve();
    if served.is_err()
        && let Some(place) = &place
        && let Err(e) = place.unmount()
    {
        log::warn!("{e}");
    }
    served
}

/// As [`serve`], with `fuser`, as a worker whose supervisor holds the connection: it unmounts what
/// can't be served.
///
/// # Preconditions
/// The process has one thread.
///
/// # Errors
/// The connection is gone, or a thread can't be started.
pub fn serve_connection<FS: Filesystem>(
    fs: FS,
    connection: Connection,
    started: Started,
    options: ServeOptions,
) -> io::Result<()> {
    let signals = Signals::block()?;
    let mut config = Config::default();
    config.n_threads = Some(options.turns.threads());
    let (session, place) = connection.session(fs, config)?;
    started(session.notifier())?;
    options.turns.watch(session.as_fd().try_clone_to_owned()?)?;
    prepare(&place, signals, options)?;
    session.run()
}

/// Does what is to be done before the first message.
fn prepare(place: &Option<Place>, signals: Signals, options: ServeOptions) -> io::Result<()> {
    let for_signals = place.clone();
    std::thread::Builder::new()
        .name("signals".into())
        .spawn(move || obey(&signals, for_signals, &*options.statistics))?;
    options.ready.announce()
}

/// Takes signals for as long as the process lives.
fn obey(signals: &Signals, place: Option<Place>, statistics: &dyn Fn()) {
    loop {
        match signals.wait() {
            Ok(Request::Statistics) => statistics(),
            Ok(Request::End) => {
                if let Some(place) = &place {
                    end(place);
                }
                // The session ends by itself as soon as the last user is gone; a mount that was
                // given to us as a descriptor is its mounter's to unmount.
                std::thread::sleep(GRACE);
                std::process::exit(0);
            }
            Err(e) => log::warn!("wait for a signal: {}", e.desc()),
        }
    }
}

/// Writes back what mappings of the mount still hold, and unmounts.
fn end(place: &Place) {
    // The other threads go on serving, so that this write-back reaches the upper layer.
    match std::fs::File::open(place.path()) {
        Ok(dir) => {
            if let Err(e) = sys::copy::syncfs(&dir) {
                log::warn!("sync {}: {}", place.path().display(), e.desc());
            }
        }
        Err(e) => log::warn!("open {}: {e}", place.path().display()),
    }
    if let Err(e) = place.unmount() {
        log::warn!("{e}");
    }
}
