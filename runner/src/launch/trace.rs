//! Times of the steps of a start, for `--trace-start`.

use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::error::say;

/// Prints steps with the time since the command was started. The system's clock is used, as the
/// container's monotonic one begins anew.
#[derive(Clone, Copy, Debug)]
pub(super) struct Trace(Option<u64>);

impl Trace {
    /// Begins at this time, in nanoseconds; `None`: prints nothing.
    pub(super) fn new(started: Option<u64>) -> Trace {
        Trace(started)
    }

    /// Says that a step is done.
    pub(super) fn done(self, step: impl fmt::Display) {
        let Some(started) = self.0 else { return };
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_nanos() as u64);
        let us = now.saturating_sub(started) / 1000;
        say(format_args!("{:6}.{:03} ms  {step}", us / 1000, us % 1000));
    }
}
