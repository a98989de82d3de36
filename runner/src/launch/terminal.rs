//! The user's terminal: every key goes to the container while it is in raw mode.

use nix::sys::termios::{SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr};

use crate::error::{Context, Result, best_effort};

/// Puts the user's terminal back when dropped.
pub(super) struct RawMode(Termios);

impl RawMode {
    /// Takes every key as it is.
    pub(super) fn enter() -> Result<RawMode> {
        let before = tcgetattr(std::io::stdin()).step("read the terminal's mode")?;
        let mut raw = before.clone();
        cfmakeraw(&mut raw);
        tcsetattr(std::io::stdin(), SetArg::TCSADRAIN, &raw).step("set the terminal's mode")?;
        Ok(RawMode(before))
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        let restored = tcsetattr(std::io::stdin(), SetArg::TCSADRAIN, &self.0);
        best_effort("restore the terminal's mode", restored);
    }
}
