//! Log lines on standard error: warnings always, all else on request.

use log::{LevelFilter, Log, Metadata, Record};

struct Stderr(&'static str);

impl Log for Stderr {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= log::max_level()
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            eprintln!("{}: {}: {}", self.0, record.level().as_str().to_lowercase(), record.args());
        }
    }

    fn flush(&self) {}
}

/// Sends log lines of the program `name` to standard error. A second call changes nothing.
pub fn init(name: &'static str, level: LevelFilter) {
    if log::set_boxed_logger(Box::new(Stderr(name))).is_ok() {
        log::set_max_level(level);
    }
}
