//! Log lines on standard error.

use std::io::Write;

use log::{LevelFilter, Log, Metadata, Record};

struct Stderr;

impl Log for Stderr {
    fn enabled(&self, _metadata: &Metadata) -> bool {
        true
    }

    fn log(&self, record: &Record) {
        let level = record.level().as_str().to_ascii_lowercase();
        say(&format!("{level}: {}", record.args()));
    }

    fn flush(&self) {}
}

/// Writes a line for whoever asked.
pub(crate) fn say(line: &str) {
    let line = format!("procfs-shim: {line}\n");
    // There is nobody to tell that nobody can be told.
    drop(std::io::stderr().write_all(line.as_bytes()));
}

/// Makes log lines of `level` and above appear; a second call only changes the level.
pub(crate) fn start(level: LevelFilter) {
    static LOGGER: Stderr = Stderr;
    if log::set_logger(&LOGGER).is_err() {
        log::debug!("the log was started before");
    }
    log::set_max_level(level);
}
