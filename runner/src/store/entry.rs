//! Containers as they are found: by name or id, with what is written of them and what is true.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::error::{Error, Result};
use crate::spec::{Identity, RootRequest};
use crate::store::container::Container;
use crate::store::record::{Record, State, boot, read_json};
use crate::store::{FlockArg, Store, lock};

/// How long a command waits for another one that holds a container.
const LOCK_PATIENCE: Duration = Duration::from_secs(10);

/// What a container is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Status {
    /// It was never started.
    Created,
    /// Its supervisor is making it, or clearing it.
    Busy,
    /// Its program runs.
    Running,
    /// Its program has ended.
    Exited,
}

/// A container.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    /// 64 hexadecimal digits.
    pub(crate) id: String,
    /// Its directory.
    pub(crate) dir: PathBuf,
    /// How it was asked for.
    pub(crate) record: Record,
    /// What was written of it last.
    pub(crate) state: State,
}

impl Entry {
    /// Reads a container; `None`: it is being made, or has just gone.
    pub(crate) fn read(dir: &Path) -> Result<Option<Entry>> {
        let Some(record) = read_json::<Record>(&dir.join("record.json"))? else { return Ok(None) };
        // What an interrupted machine left of it says nothing about the present.
        let state = read_json(&dir.join("state.json")).ok().flatten().unwrap_or_default();
        Ok(Some(Entry { id: record.id.clone(), dir: dir.to_path_buf(), record, state }))
    }

    /// Reads again what became of it.
    pub(crate) fn refresh(&mut self) {
        self.state = read_json(&self.dir.join("state.json")).ok().flatten().unwrap_or_default();
    }

    /// Returns its name.
    pub(crate) fn name(&self) -> &str {
        &self.record.name
    }

    /// Returns what it is doing, from its processes.
    pub(crate) fn status(&self) -> Status {
        let here = self.state.boot == boot();
        let alive = |p: &Option<crate::store::ProcessId>| here && p.is_some_and(|p| p.is_alive());
        let ended = self.state.finished.is_some();
        match (alive(&self.state.first), alive(&self.state.supervisor)) {
            (true, _) if !ended => Status::Running,
            (_, true) if !ended => Status::Busy,
            _ if self.state.supervisor.is_none() => Status::Created,
            _ => Status::Exited,
        }
    }

    /// Returns the code that it ended with. One whose supervisor was killed was killed with it.
    pub(crate) fn code(&self) -> i32 {
        if self.state.code.is_none() && self.status() == Status::Exited {
            // It may have ended since it was read; what a dead supervisor wrote is its last word.
            let mut last = self.clone();
            last.refresh();
            return last.state.code.unwrap_or(137);
        }
        self.state.code.unwrap_or(0)
    }

    /// Returns the directory of its changes, which may be missing while there are none.
    pub(crate) fn upper(&self) -> PathBuf {
        match &self.record.request.upper {
            Some(theirs) => theirs.clone(),
            None => self.dir.join("upper"),
        }
    }

    /// Returns its read-only layers, the topmost first.
    pub(crate) fn layers(&self) -> Vec<PathBuf> {
        match &self.record.request.root {
            RootRequest::Host => vec![PathBuf::from("/")],
            RootRequest::Layers(all) => all.clone(),
        }
    }

    /// Returns the places in it that volumes cover.
    pub(crate) fn volume_targets(&self) -> Vec<PathBuf> {
        let request = &self.record.request;
        let volumes = request.volumes.iter().map(|v| PathBuf::from(&v.target));
        volumes.chain(request.tmpfs.iter().map(|t| PathBuf::from(&t.target))).collect()
    }

    /// Returns whose ids its files have.
    pub(crate) fn identity(&self) -> &Identity {
        &self.record.identity
    }

    /// Returns the beginning of its id that people are shown.
    pub(crate) fn short(&self) -> &str {
        short(&self.id)
    }

    /// Returns the file of what its program wrote.
    pub(crate) fn log(&self) -> PathBuf {
        self.dir.join("ctr.log")
    }

    /// Locks a container that isn't running, after waiting for commands that are at it.
    ///
    /// # Errors
    /// It is running, or was removed meanwhile.
    pub(crate) fn lock(&self) -> Result<Container> {
        let since = Instant::now();
        let path = self.dir.join("lock");
        let gone = || Error::new(format!("container {}", self.name()), "it was just removed");
        let mut now = self.clone();
        loop {
            if !path.exists() {
                return Err(gone());
            }
            if let Some(held) = lock(&path, FlockArg::LockExclusiveNonblock)? {
                // The directory may have gone between the two.
                if !path.exists() {
                    return Err(gone());
                }
                let container = Container::new(self.dir.clone(), held);
                // What a killed supervisor left of its run.
                container.end_run(self.identity())?;
                return Ok(container);
            }
            now.refresh();
            if now.status() == Status::Running || since.elapsed() > LOCK_PATIENCE {
                return Err(Error::new(format!("container {}", self.name()), "it is running")
                    .hint("stop it first, by `runner stop`"));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// Returns the beginning of an id that people are shown.
pub(crate) fn short(id: &str) -> &str {
    id.get(..12).unwrap_or(id)
}

/// Returns all containers, the oldest first.
pub(crate) fn all(store: &Store) -> Result<Vec<Entry>> {
    let mut entries = Vec::new();
    for dir in fs::read_dir(store.dir().join("containers")).into_iter().flatten().flatten() {
        match Entry::read(&dir.path()) {
            Ok(found) => entries.extend(found),
            Err(e) => crate::error::warn(e),
        }
    }
    entries.sort_by(|a, b| (a.record.created, &a.id).cmp(&(b.record.created, &b.id)));
    Ok(entries)
}

/// Finds a container by name, by id, or by the beginning of an id that no other has.
pub(crate) fn find(store: &Store, asked: &str) -> Result<Entry> {
    let missing = || {
        Error::new("container", format!("there is none called {asked}"))
            .hint("see `runner ps --all`")
    };
    if asked.is_empty() || asked.contains('/') || asked.starts_with('.') {
        return Err(missing());
    }
    let read = |dir: PathBuf| Entry::read(&dir).transpose();
    let link = store.name_link(asked);
    if let Ok(id) = fs::read_link(&link)
        && let Some(found) = read(store.container_dir(&id.to_string_lossy()))
    {
        return found;
    }
    let mut matching = Vec::new();
    if asked.bytes().all(|b| b.is_ascii_hexdigit()) {
        let dirs = fs::read_dir(store.dir().join("containers")).into_iter().flatten().flatten();
        matching.extend(
            dirs.filter(|d| d.file_name().to_string_lossy().starts_with(asked)).map(|d| d.path()),
        );
    }
    match matching.as_slice() {
        [one] => read(one.clone()).unwrap_or_else(|| Err(missing())),
        [] => Err(missing()),
        _ => Err(Error::new("container", format!("several ids begin with {asked}"))
            .hint("give more digits, or the name")),
    }
}
