//! Removes directories that the container's users filled, whoever they are on the host.

use std::fs;
use std::io;
use std::path::Path;

use crate::error::{Context, Error, Result};
use crate::identity;
use crate::spec::Identity;

/// Removes a directory with all that is below it; one that is gone is fine. What belongs to other
/// ids of the container, or has no permission bits, is removed from inside its user namespace.
pub(crate) fn remove_tree(path: &Path, identity: &Identity) -> Result<()> {
    match fs::remove_dir_all(path) {
        Ok(()) => Ok(()),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(e) if e.kind() == io::ErrorKind::PermissionDenied => match identity {
            Identity::Host => Err(e).step_at("remove", path),
            Identity::Mapped(maps) => {
                identity::in_namespace(maps, || match fs::remove_dir_all(path) {
                    Err(e) if e.kind() != io::ErrorKind::NotFound => {
                        Err(Error::new("remove", e).at(path))
                    }
                    _ => Ok(()),
                })
            }
        },
        Err(e) => Err(e).step_at("remove", path),
    }
}
