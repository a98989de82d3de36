//! Log lines: on standard error, and in the system's log once a daemon is detached. Warnings always,
//! all else on request.

use std::fs::File;
use std::io::Write;
use std::os::unix::net::UnixDatagram;
use std::sync::OnceLock;

use log::{Level, LevelFilter, Log, Metadata, Record};

/// Where the system collects log lines.
#[derive(Debug)]
enum System {
    Syslog(UnixDatagram),
    Kernel(File),
}

static NAME: OnceLock<&'static str> = OnceLock::new();
static SYSTEM: OnceLock<System> = OnceLock::new();

/// `LOG_DAEMON` of syslog(3).
const DAEMON: u8 = 3 << 3;

struct Lines;

impl Log for Lines {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= log::max_level() && is_wanted(metadata)
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let level = record.level().as_str().to_ascii_lowercase();
        say(&format!("{level}: {}", record.args()));
        if let Some(system) = SYSTEM.get() {
            system.write(record);
        }
    }

    fn flush(&self) {}
}

/// Whether a line is worth showing: `fuser` warns of each request that a file system doesn't
/// implement and of each reader that was killed, so that anybody could fill the log, or a pipe that
/// nobody reads; its lines are shown with the debugging ones only.
fn is_wanted(metadata: &Metadata<'_>) -> bool {
    log::max_level() >= LevelFilter::Debug || !metadata.target().starts_with("fuser")
}

impl System {
    fn write(&self, record: &Record<'_>) {
        let severity = match record.level() {
            Level::Error => 3,
            Level::Warn => 4,
            Level::Info => 6,
            Level::Debug | Level::Trace => 7,
        };
        let priority = DAEMON | severity;
        let line = format!("<{priority}>{}[{}]: {}", name(), std::process::id(), record.args());
        // There is nobody to tell that nobody can be told.
        match self {
            System::Syslog(socket) => drop(socket.send(line.as_bytes())),
            System::Kernel(file) => drop((&*file).write_all(line.as_bytes())),
        }
    }
}

fn name() -> &'static str {
    NAME.get().copied().unwrap_or("daemon")
}

/// Writes a line of the program for whoever asked.
pub fn say(line: &str) {
    let line = format!("{}: {line}\n", name());
    // There is nobody to tell that nobody can be told.
    drop(std::io::stderr().write_all(line.as_bytes()));
}

/// Sends log lines of the program `name` to standard error, those of `level` and above. A second call
/// only changes the level.
pub fn init(name: &'static str, level: LevelFilter) {
    static LOGGER: Lines = Lines;
    NAME.get_or_init(|| name);
    if log::set_logger(&LOGGER).is_err() {
        log::debug!("the log was started before");
    }
    log::set_max_level(level);
}

/// Sends log lines to the system's log as well: a detached daemon has nobody at its standard error,
/// and what it has to warn of must not be lost.
pub fn also_to_the_system() {
    let connected = UnixDatagram::unbound().and_then(|socket| {
        socket.connect("/dev/log")?;
        Ok(System::Syslog(socket))
    });
    let kernel = || File::options().write(true).open("/dev/kmsg").map(System::Kernel);
    match connected.or_else(|_| kernel()) {
        Ok(system) => drop(SYSTEM.set(system)),
        Err(e) => log::debug!("there is no system log: {e}"),
    }
}
