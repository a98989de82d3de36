//! Counts the messages that the kernel sends to a FUSE daemon, exactly, by the kernel's own trace
//! events.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, mount, umount2};

use crate::Scratch;
use crate::privilege::Missing;

/// Messages by name (`LOOKUP`, `CREATE`, …).
pub type Messages = BTreeMap<String, u64>;

/// A trace instance that records the messages of one mount.
#[derive(Debug)]
pub struct Counter {
    instance: PathBuf,
    tracefs: PathBuf,
    _scratch: Scratch,
}

impl Counter {
    /// Prepares to count the messages of the FUSE mount at `point`.
    ///
    /// # Errors
    /// The kernel has no such trace events (they came with Linux 6.11), or they may not be used.
    pub fn new(point: &Path) -> Result<Counter, Missing> {
        crate::privilege::root()?;
        let scratch = Scratch::new();
        let tracefs = scratch.dir("trace");
        let none = MsFlags::empty();
        mount(Some("tracefs"), &tracefs, Some("tracefs"), none, None::<&str>)
            .map_err(|e| Missing::Kernel(format!("no tracefs ({})", e.desc())))?;
        if !tracefs.join("events/fuse/fuse_request_send").exists() {
            return Err(Missing::Kernel("no trace event fuse_request_send (Linux 6.11)".into()));
        }
        let name = scratch.path().file_name().expect("a scratch name").to_owned();
        let instance = tracefs.join("instances").join(name);
        std::fs::create_dir(&instance)
            .map_err(|e| Missing::Kernel(format!("no trace instance ({e})")))?;
        let counter = Counter { instance, tracefs, _scratch: scratch };
        let device = std::fs::metadata(point).expect("stat the mount point").dev();
        // The event has the kernel's device number; for a mount without a device, that's the minor.
        let connection = nix::sys::stat::minor(device);
        counter.set("buffer_size_kb", "8192");
        counter.set("events/fuse/fuse_request_send/filter", &format!("connection == {connection}"));
        Ok(counter)
    }

    /// Returns the messages that `action` causes. Messages that want no answer (FORGET) are not
    /// among them.
    pub fn count(&self, action: impl FnOnce()) -> Messages {
        self.set("trace", "");
        self.set("events/fuse/fuse_request_send/enable", "1");
        action();
        self.set("events/fuse/fuse_request_send/enable", "0");
        let text = std::fs::read_to_string(self.instance.join("trace")).expect("read the trace");
        let mut messages = Messages::new();
        for line in text.lines() {
            let Some((_, rest)) = line.split_once("(FUSE_") else { continue };
            let name = rest.split(')').next().unwrap_or(rest);
            *messages.entry(name.to_owned()).or_default() += 1;
        }
        messages
    }

    fn set(&self, file: &str, value: &str) {
        let path = self.instance.join(file);
        std::fs::write(&path, value).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    }
}

impl Drop for Counter {
    fn drop(&mut self) {
        if let Err(e) = std::fs::remove_dir(&self.instance) {
            eprintln!("remove {}: {e}", self.instance.display());
        }
        if let Err(e) = umount2(&self.tracefs, MntFlags::MNT_DETACH) {
            eprintln!("unmount {}: {e}", self.tracefs.display());
        }
    }
}

/// Writes messages down in one line, for messages to people.
pub fn summary(messages: &Messages) -> String {
    let all: Vec<_> = messages.iter().map(|(name, n)| format!("{n} {name}")).collect();
    all.join(", ")
}
