//! Reads a bundle: a directory with config.json.

use std::fs;
use std::path::{Path, PathBuf};

use oci_spec::runtime::{self, Spec};

use crate::error::{Context, Error, Result};
use crate::oci::{absolute, validate};
use crate::spec::Hook;

/// A bundle.
#[derive(Debug)]
pub(super) struct Bundle {
    /// Its directory, absolute.
    pub(super) dir: PathBuf,
    /// Its configuration.
    pub(super) config: Spec,
}

impl Bundle {
    /// Reads a bundle, and refuses what we don't know.
    pub(super) fn read(dir: &Path) -> Result<Bundle> {
        let dir = absolute(dir)?;
        let path = dir.join("config.json");
        let text = fs::read(&path).step_at("read", &path)?;
        let config: Spec = serde_json::from_slice(&text).step_at("read", &path)?;
        validate::config(&config).map_err(|why| Error::new("config.json", why).at(&path))?;
        Ok(Bundle { dir, config })
    }

    /// Returns the root directory, absolute.
    pub(super) fn rootfs(&self) -> Result<PathBuf> {
        let root = self.config.root().as_ref();
        let root = root.ok_or_else(|| Error::new("config.json", "root: it is missing"))?;
        let path = self.dir.join(root.path());
        let path = path.canonicalize().step_at("root.path", &path)?;
        match path.is_dir() {
            true => Ok(path),
            false => Err(Error::new("root.path", "it is no directory").at(&path)),
        }
    }

    /// Returns the process that is to be started.
    pub(super) fn process(&self) -> Result<&runtime::Process> {
        let missing = || Error::new("config.json", "process: it is missing").at(&self.dir);
        self.config.process().as_ref().ok_or_else(missing)
    }
}

/// Returns hooks as we keep them.
pub(super) fn hooks(all: &Option<Vec<runtime::Hook>>) -> Result<Vec<Hook>> {
    all.iter().flatten().map(hook).collect()
}

fn hook(hook: &runtime::Hook) -> Result<Hook> {
    if !hook.path().is_absolute() {
        return Err(Error::new("hooks", "the path must be absolute").at(hook.path()));
    }
    let timeout = match hook.timeout() {
        None => None,
        Some(n) if n > 0 => Some(n as u64),
        Some(n) => return Err(Error::new("hooks", format!("timeout {n}: it must be above 0"))),
    };
    Ok(Hook {
        path: hook.path().as_os_str().to_owned(),
        args: hook.args().iter().flatten().map(Into::into).collect(),
        env: variables(hook.env().as_deref().unwrap_or_default()),
        timeout,
    })
}

/// Takes variables apart; one without a value is empty.
pub(super) fn variables(all: &[String]) -> Vec<(std::ffi::OsString, std::ffi::OsString)> {
    let one = |text: &String| {
        let (name, value) = text.split_once('=').unwrap_or((text, ""));
        (name.into(), value.into())
    };
    all.iter().map(one).collect()
}
