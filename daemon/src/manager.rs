//! A service manager that keeps descriptors for a daemon whose supervisor is killed, as systemd does
//! (`sd_notify(3)`: `READY=1`, `FDSTORE=1`; `sd_listen_fds(3)`).

use std::ffi::OsStr;
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;

use nix::sys::socket::{
    AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, UnixAddr, sendmsg, socket,
};

use crate::reattach::{Connection, Resume};

/// The first descriptor that is passed (`SD_LISTEN_FDS_START`).
const FIRST: RawFd = 3;

/// Names of what is kept; that of the connection ends with the mount's identity.
const DEVICE: &str = "connection.";
const GREETING: &str = "greeting";
const NOTES: &str = "notes";

/// Finds the connection that a daemon before this one has given to the manager.
pub fn kept() -> Option<Resume> {
    let of = |name| std::env::var(name).ok();
    if of("LISTEN_PID")?.parse() != Ok(std::process::id()) {
        return None;
    }
    resume(&of("LISTEN_FDNAMES")?)
}

fn resume(names: &str) -> Option<Resume> {
    let find = |is_it: &dyn Fn(&str) -> bool| {
        let mut all = (FIRST..).zip(names.split(':'));
        all.find(|(_, name)| is_it(name))
    };
    let (device, name) = find(&|name| name.starts_with(DEVICE))?;
    let (greeting, _) = find(&|name| name == GREETING)?;
    let (notes, _) = find(&|name| name == NOTES)?;
    let mount = name.strip_prefix(DEVICE)?.parse().ok()?;
    Some(Resume { device, greeting, notes, mount })
}

/// Tells the manager, if there is one, that the mount is live, and gives it the connection to keep.
///
/// # Errors
/// It can't be reached, or takes no descriptors.
pub fn ready(connection: &Connection) -> io::Result<()> {
    let Some(at) = std::env::var_os("NOTIFY_SOCKET") else { return Ok(()) };
    let socket = Socket::to(&at)?;
    if !connection.is_resumed() {
        // `_greeting` stays open until it was sent.
        let (resume, greeting) = connection.hand_over()?;
        let name = format!("{DEVICE}{}", resume.mount);
        let kept = [(name.as_str(), connection.device()), (GREETING, greeting.as_fd())];
        for (name, fd) in kept.into_iter().chain([(NOTES, connection.notes())]) {
            socket.send(&format!("FDSTORE=1\nFDNAME={name}"), Some(fd))?;
        }
    }
    socket.send("READY=1", None)
}

/// Lets the manager forget a connection that is of no more use.
pub fn forget(resume: &Resume) {
    let Some(at) = std::env::var_os("NOTIFY_SOCKET") else { return };
    let names = [format!("{DEVICE}{}", resume.mount), GREETING.into(), NOTES.into()];
    let send =
        |name: &String| Socket::to(&at)?.send(&format!("FDSTOREREMOVE=1\nFDNAME={name}"), None);
    if let Err(e) = names.iter().try_for_each(send) {
        log::warn!("tell the service manager: {e}");
    }
}

struct Socket {
    socket: OwnedFd,
    address: UnixAddr,
}

impl Socket {
    fn to(at: &OsStr) -> io::Result<Socket> {
        let flags = SockFlag::SOCK_CLOEXEC;
        let socket = socket(AddressFamily::Unix, SockType::Datagram, flags, None)?;
        let address = match at.as_bytes() {
            [b'@', name @ ..] => UnixAddr::new_abstract(name)?,
            path => UnixAddr::new(path)?,
        };
        Ok(Socket { socket, address })
    }

    fn send(&self, text: &str, fd: Option<BorrowedFd>) -> io::Result<()> {
        let bytes = [IoSlice::new(text.as_bytes())];
        let raw: Vec<RawFd> = fd.iter().map(AsRawFd::as_raw_fd).collect();
        let rights = [ControlMessage::ScmRights(&raw)];
        let control = if raw.is_empty() { &[] } else { &rights[..] };
        let flags = MsgFlags::MSG_NOSIGNAL;
        sendmsg(self.socket.as_raw_fd(), &bytes, control, flags, Some(&self.address))?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kept_connection_is_found_by_its_names() {
        let found = resume("notes:connection.99:greeting").unwrap();
        assert_eq!(found, Resume { device: 4, greeting: 5, notes: 3, mount: 99 });
        assert_eq!(resume("connection.99:greeting"), None);
        assert_eq!(resume("connection.x:greeting:notes"), None);
        assert_eq!(resume(""), None);
    }
}
