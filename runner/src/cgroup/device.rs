//! Which disk a path is about: rates are those of whole disks.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};

use nix::errno::Errno;
use nix::sys::stat::{major, minor};

use crate::error::{Context, Error, Result};

/// Returns the numbers of a block device, or of the one that a file or directory is on; of a partition,
/// those of its disk.
pub(crate) fn disk(path: &OsStr) -> Result<(u64, u64)> {
    let meta = fs::metadata(path).step_at("--device-…-bps or -iops", path)?;
    let number = if meta.file_type().is_block_device() { meta.rdev() } else { meta.dev() };
    let (major, minor) = (major(number), minor(number));
    let entry = format!("/sys/dev/block/{major}:{minor}");
    let at = fs::canonicalize(&entry).map_err(|e| {
        Error::new("--device-…-bps or -iops", e)
            .at(path)
            .hint_if(Errno::ENOENT, "it is on no disk: give a block device, such as /dev/sda")
    })?;
    if !at.join("partition").exists() {
        return Ok((major, minor));
    }
    let whole = at.parent().map(|p| p.join("dev")).unwrap_or_default();
    let text = fs::read_to_string(&whole).step_at("read", &whole)?;
    let numbers =
        text.trim().split_once(':').and_then(|(a, b)| Some((a.parse().ok()?, b.parse().ok()?)));
    numbers.ok_or_else(|| Error::new("read", "it has no device numbers").at(&whole))
}
