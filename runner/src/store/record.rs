//! What is written of a container: how it was asked for, and what became of it.

use std::fs;
use std::io::Write;
use std::path::Path;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::error::{Context, Result};
use crate::spec::{Cgroup, Identity, Request};

/// How a container was asked for.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Record {
    /// 64 hexadecimal digits.
    pub(crate) id: String,
    /// Name, that a person gave or that was made up.
    pub(crate) name: String,
    /// When, in nanoseconds since 1970.
    pub(crate) created: u64,
    /// What it was made of.
    pub(crate) image: Option<ImageRef>,
    /// Whether it outlives its program.
    pub(crate) keep: Keep,
    /// Whose ids its files have.
    pub(crate) identity: Identity,
    /// What was asked for.
    pub(crate) request: Request,
}

/// An image as a container names it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ImageRef {
    /// Its name at that time.
    pub(crate) reference: String,
    /// Digest of its configuration.
    pub(crate) id: String,
}

/// Whether a container outlives its program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Keep {
    /// It stays, with its changes, until it is removed.
    Kept,
    /// It goes with its program.
    Thrown,
}

/// What became of a container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct State {
    /// Identity of the boot in which the processes live.
    pub(crate) boot: String,
    /// The process that watches it.
    pub(crate) supervisor: Option<ProcessId>,
    /// Its first process, once its program was started.
    pub(crate) first: Option<ProcessId>,
    /// When it was started last, in nanoseconds since 1970.
    pub(crate) started: Option<u64>,
    /// When it ended last; `None` while it runs.
    pub(crate) finished: Option<u64>,
    /// The code that its program ended with.
    pub(crate) code: Option<i32>,
    /// Whether the kernel killed it as the memory limit was reached.
    pub(crate) oom: bool,
    /// Why it could not be started, or ended early.
    pub(crate) error: Option<String>,
    /// How often it was started again.
    pub(crate) restarts: u32,
    /// Its cgroups.
    pub(crate) cgroups: Vec<Cgroup>,
    /// Its daemons: name and pid.
    pub(crate) daemons: Vec<(String, i32)>,
    /// Whether somebody asked it to end.
    pub(crate) stopped: bool,
}

impl State {
    /// Begins a run.
    pub(crate) fn begin(&mut self) {
        let restarts = self.restarts + u32::from(self.started.is_some());
        *self = State {
            boot: boot(),
            supervisor: ProcessId::of(std::process::id() as i32),
            started: Some(now()),
            restarts,
            ..State::default()
        };
    }

    /// Ends a run.
    pub(crate) fn end(&mut self, outcome: &Result<u8>, memory_kills: u64, ran: bool) {
        self.finished = Some(now());
        self.code = Some(match outcome {
            Ok(code) => i32::from(*code),
            Err(e) => e.exit() as i32,
        });
        self.oom = memory_kills > 0 && self.code == Some(137);
        self.error = outcome.as_ref().err().map(ToString::to_string);
        if !ran && outcome.is_err() {
            // It never ran, and is as it was before.
            self.started = None;
        }
    }
}

/// A process that can't be taken for a later one of the same number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ProcessId {
    /// Its number.
    pub(crate) pid: i32,
    /// When it was started, in ticks since the start of the machine.
    pub(crate) start: u64,
}

impl ProcessId {
    /// Returns the identity of a process that lives; `None`: there is none of that number.
    pub(crate) fn of(pid: i32) -> Option<ProcessId> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name may hold blanks and brackets; after it come the state (field 3) and the rest.
        let rest = stat.get(stat.rfind(')')? + 1..)?;
        let mut fields = rest.split_whitespace();
        match fields.next()? {
            // It has ended, and nobody has waited for it yet.
            "Z" | "X" => None,
            _ => Some(ProcessId { pid, start: fields.nth(18)?.parse().ok()? }),
        }
    }

    /// Whether it lives.
    pub(crate) fn is_alive(self) -> bool {
        ProcessId::of(self.pid) == Some(self)
    }
}

/// Returns the identity of this boot of the machine.
pub(crate) fn boot() -> String {
    let text = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    text.trim().to_owned()
}

/// Whether a file must survive a loss of power.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Durable {
    /// It must.
    Yes,
    /// It says nothing that holds after one.
    No,
}

/// Writes a file that is never seen half written.
pub(crate) fn write_json(path: &Path, value: &impl Serialize, durable: Durable) -> Result<()> {
    let text = serde_json::to_vec_pretty(value).step_at("write", path)?;
    write_whole(path, &text, durable).step_at("write", path)
}

fn write_whole(path: &Path, bytes: &[u8], durable: Durable) -> std::io::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}", std::process::id()));
    let new = path.with_file_name(name);
    let written = (|| {
        let mut file = fs::File::create(&new)?;
        file.write_all(bytes)?;
        if durable == Durable::Yes {
            file.sync_all()?;
        }
        fs::rename(&new, path)?;
        match path.parent() {
            Some(dir) if durable == Durable::Yes => fs::File::open(dir)?.sync_all(),
            _ => Ok(()),
        }
    })();
    if written.is_err() {
        match fs::remove_file(&new) {
            // The first failure is what is told.
            Ok(()) | Err(_) => {}
        }
    }
    written
}

/// Reads a file that [`write_json`] wrote; `None`: there is none.
pub(crate) fn read_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    match fs::read(path) {
        Ok(bytes) => serde_json::from_slice(&bytes).map(Some).step_at("read", path),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e).step_at("read", path),
    }
}

/// Returns the time in nanoseconds since 1970.
pub(crate) fn now() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.map_or(0, |d| d.as_nanos() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_known_by_its_start() {
        let me = ProcessId::of(std::process::id() as i32).unwrap();
        assert!(me.is_alive());
        assert!(!ProcessId { start: me.start + 1, ..me }.is_alive());
        assert!(ProcessId::of(i32::MAX).is_none());
    }

    #[test]
    fn files_are_replaced_as_a_whole() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.json");
        assert_eq!(read_json::<u32>(&path).unwrap(), None);
        write_json(&path, &1, Durable::Yes).unwrap();
        write_json(&path, &2, Durable::No).unwrap();
        assert_eq!(read_json::<u32>(&path).unwrap(), Some(2));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
