//! What a process does once nothing comes any more: it gives back memory that it can do without.

use std::time::Duration;

/// For how long nothing has to come before a process counts as idle. What comes later costs it some
/// faults, which are nothing beside the pause.
pub const AFTER: Duration = Duration::from_secs(1);

/// Whether a process is idle.
#[derive(Debug, Default)]
pub struct Idle {
    is_idle: bool,
}

impl Idle {
    /// Returns how long to wait for work; `None`: until it comes.
    pub fn patience(&self) -> Option<Duration> {
        (!self.is_idle).then_some(AFTER)
    }

    /// Nothing came for that long.
    pub fn begin(&mut self) {
        if !std::mem::replace(&mut self.is_idle, true)
            && let Err(e) = sys::memory::give_back()
        {
            log::debug!("give memory back: {}", e.desc());
        }
    }

    /// Work came.
    pub fn end(&mut self) {
        self.is_idle = false;
    }
}
