//! Volumes that outlive containers: `volumes/NAME/data`, with a note of what they are.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::error::{Context, Error, Result};
use crate::spec::Identity;
use crate::store::record::{Durable, now, read_json, write_json};
use crate::store::remove::remove_tree;
use crate::store::{Store, entry, lock_all, private_dir};

/// What is written of a volume.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ManagedVolume {
    /// Its name.
    pub(crate) name: String,
    /// When it was made, in nanoseconds since 1970.
    pub(crate) created: u64,
    /// Labels.
    pub(crate) labels: BTreeMap<String, String>,
    /// Whether nobody named it.
    pub(crate) anonymous: bool,
}

/// The volumes of a store.
#[derive(Debug)]
pub(crate) struct Volumes<'a> {
    store: &'a Store,
}

impl<'a> Volumes<'a> {
    /// Returns those of a store.
    pub(crate) fn of(store: &'a Store) -> Volumes<'a> {
        Volumes { store }
    }

    fn dir(&self, name: &str) -> PathBuf {
        self.store.dir().join("volumes").join(name)
    }

    /// Returns where a volume's files are.
    pub(crate) fn data(&self, name: &str) -> PathBuf {
        self.dir(name).join("data")
    }

    /// Finds a volume.
    pub(crate) fn get(&self, name: &str) -> Result<Option<ManagedVolume>> {
        read_json(&self.dir(name).join("volume.json"))
    }

    /// Makes a volume.
    ///
    /// # Errors
    /// There is one of that name.
    pub(crate) fn create(&self, volume: &ManagedVolume) -> Result<()> {
        if !self.ensure(volume)? {
            let what = format!("there is one called {}", volume.name);
            return Err(Error::new("create volume", what).hint("choose another name"));
        }
        Ok(())
    }

    /// Makes a volume unless there is one of that name; returns whether it was made.
    pub(crate) fn ensure(&self, volume: &ManagedVolume) -> Result<bool> {
        private_dir(self.store.dir())?;
        private_dir(&self.store.dir().join("volumes"))?;
        let _guard = lock_all(self.store.dir())?;
        if self.get(&volume.name)?.is_some() {
            return Ok(false);
        }
        let dir = self.dir(&volume.name);
        let made = |path: &PathBuf| {
            // What an interrupted command left is taken over.
            match fs::DirBuilder::new().mode(0o755).create(path) {
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(()),
                r => r.step_at("create directory", path),
            }
        };
        made(&dir)?;
        made(&self.data(&volume.name))?;
        write_json(&dir.join("volume.json"), volume, Durable::Yes)?;
        Ok(true)
    }

    /// Returns all volumes, by name.
    pub(crate) fn all(&self) -> Result<Vec<ManagedVolume>> {
        let mut all = Vec::new();
        let dirs = fs::read_dir(self.store.dir().join("volumes")).into_iter().flatten().flatten();
        for dir in dirs {
            all.extend(self.get(&dir.file_name().to_string_lossy())?);
        }
        all.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(all)
    }

    /// Returns the containers that have a volume.
    pub(crate) fn users(&self, name: &str) -> Result<Vec<entry::Entry>> {
        let mut all = entry::all(self.store)?;
        all.retain(|e| e.record.request.volumes.iter().any(|v| v.name.as_deref() == Some(name)));
        Ok(all)
    }

    /// Removes a volume with its files.
    ///
    /// # Errors
    /// There is none, or a container has it.
    pub(crate) fn remove(&self, name: &str, identity: &Identity) -> Result<()> {
        let _guard = lock_all(self.store.dir())?;
        if self.get(name)?.is_none() {
            return Err(Error::new("volume", format!("there is none called {name}"))
                .hint("see `runner volume ls`"));
        }
        if let Some(user) = self.users(name)?.first() {
            let what = format!("container {} has it", user.name());
            return Err(Error::new(format!("remove volume {name}"), what)
                .hint("remove the container first, or give --force"));
        }
        // Without its note it is no volume any more, whatever is left of it.
        let note = self.dir(name).join("volume.json");
        fs::remove_file(&note).step_at("remove", &note)?;
        remove_tree(&self.dir(name), identity)
    }

    /// Returns a volume that nobody has named.
    pub(crate) fn unnamed(name: String) -> ManagedVolume {
        ManagedVolume { name, created: now(), labels: BTreeMap::new(), anonymous: true }
    }
}
