//! Pseudo terminals (pty(7)): unlock, open the other end, size, controlling terminal.

use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

use crate::{Errno, Result};

/// Rows and columns of a terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// Lines.
    pub rows: u16,
    /// Characters a line.
    pub columns: u16,
}

/// Lets the other end of a pseudo terminal be opened (`TIOCSPTLCK`).
pub fn unlock(master: impl AsFd) -> Result<()> {
    let off: libc::c_int = 0;
    // SAFETY: the kernel reads one int from `off`.
    Errno::result(unsafe { libc::ioctl(master.as_fd().as_raw_fd(), libc::TIOCSPTLCK, &off) })
        .map(drop)
}

/// Opens the other end of a pseudo terminal by its descriptor (`TIOCGPTPEER`), so that no path is
/// looked up that somebody may have replaced.
pub fn peer(master: impl AsFd) -> Result<OwnedFd> {
    let flags = libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC;
    // SAFETY: the argument is a number.
    let fd = unsafe { libc::ioctl(master.as_fd().as_raw_fd(), libc::TIOCGPTPEER, flags) };
    let fd = Errno::result(fd)?;
    // SAFETY: the call succeeded, so this is a new descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Makes a terminal the controlling one of the caller's session (`TIOCSCTTY`).
///
/// # Preconditions
/// The caller leads its session, which has no controlling terminal.
pub fn make_controlling(tty: impl AsFd) -> Result<()> {
    // SAFETY: the argument is a number.
    Errno::result(unsafe { libc::ioctl(tty.as_fd().as_raw_fd(), libc::TIOCSCTTY, 0) }).map(drop)
}

/// Returns the size of a terminal.
///
/// # Errors
/// `ENOTTY`: no terminal.
pub fn size(tty: impl AsFd) -> Result<Size> {
    let mut w = libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: the kernel fills a whole `winsize`.
    Errno::result(unsafe { libc::ioctl(tty.as_fd().as_raw_fd(), libc::TIOCGWINSZ, &mut w) })?;
    Ok(Size { rows: w.ws_row, columns: w.ws_col })
}

/// Sets the size of a terminal; its foreground processes get SIGWINCH.
pub fn set_size(tty: impl AsFd, size: Size) -> Result<()> {
    let w = libc::winsize { ws_row: size.rows, ws_col: size.columns, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: the kernel reads a whole `winsize`.
    Errno::result(unsafe { libc::ioctl(tty.as_fd().as_raw_fd(), libc::TIOCSWINSZ, &w) }).map(drop)
}
