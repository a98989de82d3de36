//! Log lines on standard error: warnings always, all else on request.

use log::{LevelFilter, Log, Metadata, Record};

struct Stderr(&'static str);

impl Log for Stderr {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= log::max_level() && is_wanted(metadata)
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            eprintln!("{}: {}: {}", self.0, record.level().as_str().to_lowercase(), record.args());
        }
    }

    fn flush(&self) {}
}

/// Whether a line is worth showing: `fuser` warns of each request that a file system doesn't
/// implement and of each reader that was killed, so that anybody could fill the log, or a pipe that
/// nobody reads; its lines are shown with the debugging ones only.
pub fn is_wanted(metadata: &Metadata<'_>) -> bool {
    log::max_level() >= LevelFilter::Debug || !metadata.target().starts_with("fuser")
}

/// Sends log lines of the program `name` to standard error. A second call changes nothing.
pub fn init(name: &'static str, level: LevelFilter) {
    if log::set_boxed_logger(Box::new(Stderr(name))).is_ok() {
        log::set_max_level(level);
    }
}
