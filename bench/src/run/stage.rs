//! Where a run works: a directory with a home for each identity, gone at the end.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};

use super::link::Identity;

/// The directory.
#[derive(Debug)]
pub(crate) struct Stage {
    dir: tempfile::TempDir,
}

impl Stage {
    /// Makes it in `base`.
    pub(crate) fn new(base: &Path) -> io::Result<Stage> {
        let dir = tempfile::Builder::new().prefix("bench-").tempdir_in(base)?;
        // The ordinary user has to pass through.
        fs::set_permissions(dir.path(), Permissions::from_mode(0o711))?;
        Ok(Stage { dir })
    }

    /// Returns its path.
    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Returns its name, which cgroups that workers make have as well.
    pub(crate) fn name(&self) -> String {
        self.dir.path().file_name().unwrap_or_default().to_string_lossy().into_owned()
    }

    /// Makes the home of an identity; `None` is whoever runs this.
    pub(crate) fn home(&self, identity: Option<Identity>) -> io::Result<PathBuf> {
        let name = if identity.is_some() { "user" } else { "own" };
        let home = self.dir.path().join(name);
        if !home.exists() {
            fs::create_dir(&home)?;
            if let Some(who) = identity {
                chown(&home, Some(who.uid.as_raw()), Some(who.gid.as_raw()))?;
            }
        }
        Ok(home)
    }
}
