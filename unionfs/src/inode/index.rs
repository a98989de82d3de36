//! The index of hard links: a lower file with several names that was copied up under one of them is
//! found from all of them by its handle.

use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use sys::stat::Stat;
use sys::{Errno, Result};

use crate::inode::{Core, InUpper};
use crate::layer::{LowerLayer, LowerRef, origin};

/// Returns the handle of a lower object, as `overlay.origin` holds it; `None` where the file system
/// has no handles.
pub fn origin_of(core: &Core, at: &LowerRef, fd: &OwnedFd) -> Option<Vec<u8>> {
    let handle = sys::handle::of_at(fd, "".as_ref()).ok()?;
    let uuid = core.origins.get(usize::from(at.layer))?.uuid;
    origin::encode(&handle, &uuid)
}

/// Returns what is known of the lower object that a copy was made of, by its origin handle; `None`
/// without the right to look objects up by handle, or where it is in none of the lowers.
pub fn lower_of(core: &Core, origin: &[u8]) -> Option<Stat> {
    let (uuid, handle) = origin::decode(origin)?;
    let roots = core.origins.iter().filter(|o| o.uuid == uuid).filter_map(|o| o.root.as_ref());
    roots.filter_map(|root| sys::handle::open(root, &handle).ok()).find_map(|fd| {
        let stat = sys::stat::stat_fd(fd).ok()?;
        (stat.nlink > 0).then_some(stat)
    })
}

/// Returns the number of the lower object that an origin handle names, as far as the handle itself tells
/// it; the object may be gone, or another one, where layers were moved.
pub fn number_in(core: &Core, origin: &[u8]) -> Option<u64> {
    let (uuid, handle) = origin::decode(origin)?;
    let ino = handle.inode_number()?;
    let mut devices = (0u16..).zip(&core.origins).filter(|(_, o)| o.uuid == uuid);
    let device = |(layer, _)| core.stack.lower(layer).ok().map(LowerLayer::dev);
    let first = device(devices.next()?)?;
    // File systems without a UUID are all alike.
    devices.all(|d| device(d) == Some(first)).then(|| core.numbers.of(first, ino))
}

/// Returns the name that a lower object has in the index, if there is an index.
pub fn name_of(core: &Core, at: &LowerRef) -> Result<Option<OsString>> {
    let Some(upper) = core.stack.upper_opt() else { return Ok(None) };
    if upper.index().is_none() {
        return Ok(None);
    }
    let fd = core.stack.lower(at.layer)?.open_at(&at.path, libc::O_PATH)?;
    Ok(origin_of(core, at, &fd).map(|o| origin::index_name(&o).into()))
}

/// Returns the copied-up object of a lower file with several names, if there is one.
pub fn find(core: &Core, at: &LowerRef) -> Result<Option<InUpper>> {
    let Some(name) = name_of(core, at)? else { return Ok(None) };
    let Some(index) = core.stack.upper_opt().and_then(|u| u.index()) else { return Ok(None) };
    match sys::openat::open_at(index, &name, libc::O_PATH | libc::O_NOFOLLOW, 0) {
        Ok(fd) => {
            let stat = sys::stat::stat_fd(&fd)?;
            Ok(stat.is_file().then(|| InUpper::Pinned(stat.ino, Arc::new(fd))))
        }
        Err(Errno::ENOENT) => Ok(None),
        Err(e) => Err(e),
    }
}
