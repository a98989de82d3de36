//! Where images are: blobs by digest, layers unpacked once by DiffID, and one index that says what
//! belongs together.
//!
//! ```text
//! images/index.json          images, names, layers: replaced by rename
//! images/lock                held while the index changes
//! images/use.lock            shared by who adds or uses content, exclusive for who removes it
//! images/blobs/sha256/HEX    configurations, manifests, layers as they travel
//! images/layers/HEX/         a layer's files, in overlayfs's on-disk format
//! images/staging/NAME/       what is not complete, with a lock that its maker holds
//! ```

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};

use crate::error::{Context, Error, Result};
use crate::image::digest::Digest;
use crate::image::index::Index;
use crate::image::staging::Staging;
use crate::store::Store;

/// Images of one user.
#[derive(Clone, Debug)]
pub(crate) struct ImageStore {
    dir: PathBuf,
}

/// Keeps others from removing content (or, exclusive, from using it) for as long as it lives.
#[derive(Debug)]
pub(crate) struct UseLock(#[expect(dead_code, reason = "held, not read")] Flock<fs::File>);

impl ImageStore {
    /// Returns the images of a state directory; makes nothing.
    pub(crate) fn of(store: &Store) -> ImageStore {
        ImageStore { dir: store.dir().join("images") }
    }

    /// Makes the directories that are missing.
    pub(crate) fn prepare(&self) -> Result<()> {
        for dir in [self.dir.clone(), self.dir.join("blobs/sha256"), self.layers(), self.staging()]
        {
            let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(&dir);
            made.map_err(|e| {
                let hint = "give a directory that you may write to by --state";
                Error::new("create directory", e).at(&dir).hint(hint)
            })?;
        }
        Ok(())
    }

    /// Returns the directory of all.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    fn layers(&self) -> PathBuf {
        self.dir.join("layers")
    }

    /// Returns the directory of what is not complete.
    pub(crate) fn staging(&self) -> PathBuf {
        self.dir.join("staging")
    }

    /// Returns where a blob is, or would be.
    pub(crate) fn blob(&self, digest: &Digest) -> PathBuf {
        self.dir.join("blobs/sha256").join(digest.hex())
    }

    /// Returns where a layer's files are, or would be.
    pub(crate) fn layer(&self, diff_id: &Digest) -> PathBuf {
        self.layers().join(diff_id.hex())
    }

    /// Returns the index; an empty one where there is none yet.
    pub(crate) fn index(&self) -> Result<Index> {
        let path = self.dir.join("index.json");
        match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|e| {
                let hint = "restore it from a backup, or remove the directory with all images";
                Error::new("read the index of images", e).at(&path).hint(hint)
            }),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Index::default()),
            Err(e) => Err(e).step_at("read the index of images", &path),
        }
    }

    /// Changes the index in one step that is on disk when this returns; nothing changes on an error.
    pub(crate) fn change<T>(&self, change: impl FnOnce(&mut Index) -> Result<T>) -> Result<T> {
        self.prepare()?;
        let _lock = self.lock("lock", FlockArg::LockExclusive)?;
        let mut index = self.index()?;
        let outcome = change(&mut index)?;
        let bytes = serde_json::to_vec_pretty(&index).step("write the index of images")?;
        let (path, next) = (self.dir.join("index.json"), self.dir.join("index.json.next"));
        let write = || {
            let mut file = fs::File::create(&next)?;
            file.write_all(&bytes)?;
            file.sync_all()?;
            fs::rename(&next, &path)?;
            sync_dir(&self.dir)
        };
        write().step_at("write the index of images", &path)?;
        Ok(outcome)
    }

    /// Keeps content from being removed.
    pub(crate) fn use_lock(&self) -> Result<UseLock> {
        self.prepare()?;
        self.lock("use.lock", FlockArg::LockShared).map(UseLock)
    }

    /// Waits until nobody adds or begins to use content.
    pub(crate) fn removal_lock(&self) -> Result<UseLock> {
        self.prepare()?;
        self.lock("use.lock", FlockArg::LockExclusive).map(UseLock)
    }

    fn lock(&self, name: &str, how: FlockArg) -> Result<Flock<fs::File>> {
        let path = self.dir.join(name);
        let file = fs::File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .step_at("open lock", &path)?;
        Flock::lock(file, how).map_err(|(_, e)| Error::new("lock", e).at(&path))
    }

    /// Makes a place for what is not complete; it goes with the value, or is swept after a crash.
    pub(crate) fn stage(&self) -> Result<Staging> {
        self.prepare()?;
        Staging::new(&self.staging())
    }

    /// Returns the bytes of a small blob, checked against its digest.
    pub(crate) fn read_blob(&self, digest: &Digest, limit: u64) -> Result<Vec<u8>> {
        let path = self.blob(digest);
        let size = fs::metadata(&path).step_at("open blob", &path)?.len();
        if size > limit {
            return Err(Error::new(
                "read blob",
                format!("it has {size} bytes, at most {limit} are read"),
            )
            .at(&path));
        }
        let bytes = fs::read(&path).step_at("read blob", &path)?;
        if Digest::of(&bytes) != *digest {
            return Err(Error::new(
                "read blob",
                "its content doesn't have its digest: the disk or somebody changed it",
            )
            .at(&path)
            .hint("remove the image and get it again"));
        }
        Ok(bytes)
    }

    /// Keeps a small blob; [`ImageStore::sync`] brings it to disk.
    pub(crate) fn write_blob(&self, bytes: &[u8]) -> Result<Digest> {
        let digest = Digest::of(bytes);
        let staging = self.stage()?;
        let path = staging.path().join("blob");
        fs::write(&path, bytes).step_at("write blob", &path)?;
        self.publish_blob(&path, &digest)?;
        Ok(digest)
    }

    /// Brings everything to disk that was added: the index may name it then.
    pub(crate) fn sync(&self) -> Result<()> {
        let dir = fs::File::open(&self.dir).step_at("open", &self.dir)?;
        sys::copy::syncfs(&dir).step_at("write to disk", &self.dir)
    }

    /// Gives a complete blob its name. What has it already is either the same, or was left by a crash
    /// of the machine.
    pub(crate) fn publish_blob(&self, from: &Path, digest: &Digest) -> Result<()> {
        let to = self.blob(digest);
        fs::rename(from, &to).step_at("keep blob", &to)
    }

    /// Gives a complete layer its name. One that has it already stays if the index knows it; else it
    /// may have been left by a crash of the machine, and goes to where the new one was.
    pub(crate) fn publish_layer(&self, from: &Path, diff_id: &Digest) -> Result<()> {
        let to = self.layer(diff_id);
        match fs::rename(from, &to) {
            Err(e) if e.kind() == io::ErrorKind::DirectoryNotEmpty => {}
            r => return r.step_at("keep layer", &to),
        }
        if self.index()?.layers.contains_key(diff_id) {
            return Ok(());
        }
        let (cwd, flags) = (nix::fcntl::AT_FDCWD, nix::libc::RENAME_EXCHANGE);
        sys::name::rename(cwd, from.as_os_str(), cwd, to.as_os_str(), flags)
            .step_at("keep layer", &to)
    }
}

/// Brings the names of a directory to disk.
pub(crate) fn sync_dir(dir: &Path) -> io::Result<()> {
    fs::File::open(dir)?.sync_all()
}
