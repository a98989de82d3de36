//! Progress on a terminal; nothing elsewhere.

use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

/// A bar over all turns of a run.
#[derive(Debug)]
pub(crate) struct Progress(ProgressBar);

impl Progress {
    /// Shows a bar if standard error is a terminal.
    pub(crate) fn new(turns: u64) -> Progress {
        if !std::io::stderr().is_terminal() {
            return Progress(ProgressBar::hidden());
        }
        let bar = ProgressBar::new(turns);
        let template = "{bar:30} {pos}/{len} turns, {elapsed} of about {duration}: {msg}";
        match ProgressStyle::with_template(template) {
            Ok(style) => bar.set_style(style),
            Err(e) => bar.set_message(e.to_string()),
        }
        bar.enable_steady_tick(Duration::from_millis(500));
        Progress(bar)
    }

    /// Says what is being done.
    pub(crate) fn doing(&self, what: &str) {
        self.0.set_message(what.to_owned());
    }

    /// One turn is done.
    pub(crate) fn done(&self) {
        self.0.inc(1);
    }

    /// Takes the bar away.
    pub(crate) fn end(&self) {
        self.0.finish_and_clear();
    }
}
