//! Log lines: on standard error, and in the system's log once the daemon is detached.

use std::fs::File;
use std::io::Write;
use std::os::unix::net::UnixDatagram;
use std::sync::OnceLock;

use log::{Level, LevelFilter, Log, Metadata, Record};

/// Where the system collects log lines.
#[derive(Debug)]
enum Sink {
    Syslog(UnixDatagram),
    Kernel(File),
}

static SYSTEM: OnceLock<Sink> = OnceLock::new();

/// `LOG_DAEMON` of syslog(3).
const DAEMON: u8 = 3 << 3;

struct Lines;

impl Log for Lines {
    fn enabled(&self, metadata: &Metadata) -> bool {
        daemon::logger::is_wanted(metadata)
    }

    fn log(&self, record: &Record) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let level = record.level().as_str().to_ascii_lowercase();
        say(&format!("{level}: {}", record.args()));
        if let Some(sink) = SYSTEM.get() {
            sink.write(record);
        }
    }

    fn flush(&self) {}
}

impl Sink {
    fn write(&self, record: &Record) {
        let severity = match record.level() {
            Level::Error => 3,
            Level::Warn => 4,
            Level::Info => 6,
            Level::Debug | Level::Trace => 7,
        };
        let priority = DAEMON | severity;
        let line = format!("<{priority}>procfs-shim[{}]: {}", std::process::id(), record.args());
        // There is nobody to tell that nobody can be told.
        match self {
            Sink::Syslog(socket) => drop(socket.send(line.as_bytes())),
            Sink::Kernel(file) => drop((&*file).write_all(line.as_bytes())),
        }
    }
}

/// Writes a line for whoever asked.
pub(crate) fn say(line: &str) {
    let line = format!("procfs-shim: {line}\n");
    // There is nobody to tell that nobody can be told.
    drop(std::io::stderr().write_all(line.as_bytes()));
}

/// Makes log lines of `level` and above appear; a second call only changes the level.
pub(crate) fn start(level: LevelFilter) {
    static LOGGER: Lines = Lines;
    if log::set_logger(&LOGGER).is_err() {
        log::debug!("the log was started before");
    }
    log::set_max_level(level);
}

/// Sends log lines to the system's log as well: a detached daemon has nobody at its standard error,
/// and what it has to warn of must not be lost.
pub(crate) fn also_to_the_system() {
    let connected = UnixDatagram::unbound().and_then(|socket| {
        socket.connect("/dev/log")?;
        Ok(Sink::Syslog(socket))
    });
    let kernel = || File::options().write(true).open("/dev/kmsg").map(Sink::Kernel);
    match connected.or_else(|_| kernel()) {
        Ok(sink) => drop(SYSTEM.set(sink)),
        Err(e) => log::debug!("there is no system log: {e}"),
    }
}
