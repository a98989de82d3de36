//! Objects in the making: invisible until complete, gone if they never are.

use std::ffi::{OsStr, OsString};
use std::os::fd::OwnedFd;
use std::sync::Arc;

use sys::{Errno, Result};

use crate::error::best_effort;
use crate::layer::tree::remove_tree;
use crate::layer::{Over, Spot, UpperLayer, permissions};

/// An object in the work directory, or without any name; dropping it removes it.
#[derive(Debug)]
pub struct Staged<'a> {
    upper: &'a UpperLayer,
    /// A name in the work directory.
    temp: Option<OsString>,
    /// The open file of a regular one.
    file: Option<Arc<OwnedFd>>,
    is_dir: bool,
}

impl<'a> Staged<'a> {
    /// Makes a regular file: nameless where the file system can.
    pub fn file(upper: &'a UpperLayer) -> Result<Staged<'a>> {
        match Staged::nameless(upper) {
            Err(Errno::EOPNOTSUPP) => {
                let temp = upper.temp_name();
                let fd = upper.create(upper.work(), &temp, real_mode(upper))?;
                Ok(Staged { upper, temp: Some(temp), file: Some(Arc::new(fd)), is_dir: false })
            }
            other => other,
        }
    }

    /// Makes a regular file that has no name, so that it can be given one later.
    ///
    /// # Errors
    /// `EOPNOTSUPP`: the file system can't.
    pub fn nameless(upper: &'a UpperLayer) -> Result<Staged<'a>> {
        let file = Some(Arc::new(upper.tmpfile()?));
        Ok(Staged { upper, temp: None, file, is_dir: false })
    }

    /// Makes a directory.
    pub fn directory(upper: &'a UpperLayer) -> Result<Staged<'a>> {
        let temp = upper.temp_name();
        upper.mkdir(upper.work(), &temp, real_mode(upper))?;
        Ok(Staged { upper, temp: Some(temp), file: None, is_dir: true })
    }

    /// Makes a symlink.
    pub fn symlink(upper: &'a UpperLayer, target: &OsStr) -> Result<Staged<'a>> {
        let temp = upper.temp_name();
        upper.symlink(target, upper.work(), &temp)?;
        Ok(Staged { upper, temp: Some(temp), file: None, is_dir: false })
    }

    /// Makes a node.
    pub fn node(upper: &'a UpperLayer, mode: u32, rdev: u64) -> Result<Staged<'a>> {
        let temp = upper.temp_name();
        upper.mknod(upper.work(), &temp, mode, rdev)?;
        Ok(Staged { upper, temp: Some(temp), file: None, is_dir: false })
    }

    /// Returns the open file of a regular one.
    pub fn file_fd(&self) -> Result<&Arc<OwnedFd>> {
        self.file.as_ref().ok_or(Errno::EIO)
    }

    /// Returns where the object is.
    pub fn spot(&self) -> Spot {
        match (&self.file, &self.temp) {
            (Some(fd), _) => Spot::Fd(Arc::clone(fd)),
            (None, temp) => {
                let work = Arc::clone(self.upper.work());
                Spot::At(work, temp.clone().unwrap_or_default())
            }
        }
    }

    /// Puts the object at its place in one step, and returns the open file of a regular one.
    pub fn publish(
        mut self,
        dir: &OwnedFd,
        name: &OsStr,
        over: Over,
    ) -> Result<Option<Arc<OwnedFd>>> {
        match (&self.temp, &self.file) {
            (Some(temp), _) => self.upper.publish(temp, dir, name, self.is_dir, over)?,
            (None, Some(file)) => self.upper.publish_tmpfile(file, dir, name, over)?,
            (None, None) => return Err(Errno::EIO),
        }
        self.temp = None;
        Ok(self.file.take())
    }

    /// Returns a descriptor of the object, which then has no name.
    pub fn into_nameless(self) -> Result<Arc<OwnedFd>> {
        match &self.file {
            Some(fd) => Ok(Arc::clone(fd)),
            None => self.spot().open(libc::O_PATH).map(Arc::new),
        }
    }
}

/// Permission bits until the right ones are set: none for others, unless the right ones are kept in
/// an attribute.
fn real_mode(upper: &UpperLayer) -> u32 {
    if upper.permissions().is_some() { permissions::REAL_MODE } else { 0o700 }
}

impl Drop for Staged<'_> {
    fn drop(&mut self) {
        if let Some(temp) = &self.temp {
            best_effort("remove what was not finished", remove_tree(self.upper.work(), temp));
        }
    }
}
