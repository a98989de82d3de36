//! Runs work on images as root of the container's user namespace: layers have files of all its users.

use crate::error::Result;
use crate::identity::{as_root_of, decide};
use crate::image::unpack::{Owners, Rules};
use crate::spec::{Identity, MapWriter};

/// Bytes that the files of a layer may have, unless more is allowed.
pub(crate) const SIZE_MAX: u64 = 64 << 30;

/// Runs `work` with the rules that hold for this user, in a process of its own where a user namespace
/// is needed, and returns its exit code.
///
/// # Preconditions
/// The process has one thread.
pub(crate) fn inside(size_max: u64, work: impl FnOnce(Rules) -> Result<u8>) -> Result<u8> {
    // That only root exists is worth a word only where something becomes root's.
    let (identity, _) = decide();
    match &identity {
        Identity::Host => {
            let privileged = !crate::store::in_user_namespace();
            work(Rules { owners: Owners::Mapped, privileged, size_max })
        }
        Identity::Mapped(maps) => {
            let owners = match maps.writer {
                MapWriter::Ourselves => Owners::RootOnly,
                MapWriter::Helpers | MapWriter::Privileged => Owners::Mapped,
            };
            as_root_of(maps, || work(Rules { owners, privileged: false, size_max }))
        }
    }
}
