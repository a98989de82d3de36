//! Where a name lives; never writes. [`find`] follows one name through the layers, [`listing`]
//! merges all names of a directory, [`enter`] makes an inode of what was found.

pub mod listing;
pub mod name;
mod redirect;

use std::ffi::OsStr;
use std::sync::Arc;

use sys::Result;
use sys::stat::Stat;

use crate::inode::{Core, InUpper, Ino, Inode, Lowers, Name, Place, Seen};

pub use name::{Standing, find, standing};

/// What a name leads to.
#[derive(Debug)]
pub struct Found {
    /// What the topmost layer says.
    pub stat: Stat,
    /// The object in the upper.
    pub upper: InUpper,
    /// The upper has it at this very name (else only in the index).
    pub named_in_upper: bool,
    /// The objects in lowers, as in [`Place::lowers`].
    pub lowers: Lowers,
    /// The data is in the last lower.
    pub metacopy: bool,
    /// As [`Place::nlink_diff`].
    pub nlink_diff: Option<i32>,
    /// Inode number.
    pub number: u64,
    /// Children of the upper directory were copied up.
    pub impure: bool,
}

/// Returns the inode of what was found, with one more lookup, and what users see of it.
pub fn enter(core: &Core, parent: &Arc<Inode>, name: &OsStr, found: Found) -> (Arc<Inode>, Stat) {
    let kind = found.stat.kind();
    let same = |i: &Inode| is_same(i, kind, (parent, name), &found.upper, &found.lowers);
    let make = |id: Ino| {
        let mut place = Place::new(&found.upper, &found.lowers);
        place.metacopy = found.metacopy;
        place.set_nlink_diff(found.nlink_diff);
        place.push_name(Name::new(parent, name, found.named_in_upper));
        Arc::new(Inode::new(id, kind, place))
    };
    let inode = core.table.enter(Ino(found.number), same, make);
    if found.impure
        && let Some(dir) = &inode.dir
    {
        dir.impure.store(true, std::sync::atomic::Ordering::Relaxed);
    }
    let known = {
        let place = inode.place.read();
        let known = place.is_known_as(parent, name);
        known.then(|| core.shown(&inode, &place, found.stat))
    };
    let stat = known.unwrap_or_else(|| {
        let mut place = inode.place.write();
        place.push_name(Name::new(parent, name, found.named_in_upper));
        // A pinned object that has a name again needs its descriptor no longer.
        if found.named_in_upper {
            place.unpin();
        }
        core.shown(&inode, &place, found.stat)
    });
    (inode, stat)
}

/// Returns what users see at a name, with one more lookup; asks no layer where the listing and the
/// inode are known. `None` is a name that doesn't exist.
pub fn hold(core: &Core, parent: &Arc<Inode>, name: &OsStr) -> Result<Option<Arc<Inode>>> {
    let listed = core.dir(parent)?.listing.read().as_ref().map(|l| l.get(name));
    if let Some(entry) = listed {
        let Some(entry) = entry.filter(|e| e.seen == Seen::Present) else { return Ok(None) };
        if let Some(inode) = core.table.hold(Ino(entry.number)) {
            if inode.place.read().is_known_as(parent, name) {
                return Ok(Some(inode));
            }
            core.table.forget(inode.id, 1);
        }
    }
    Ok(find(core, parent, name)?.map(|found| enter(core, parent, name, found).0))
}

/// Whether an inode that has the number already is the object that was found at a name: the upper's own
/// number decides, else the lowers do. What a copy says of the number that it had in a lower proves
/// nothing: layers may have been moved to another disk, where another file has it.
fn is_same(
    inode: &Inode,
    kind: u32,
    (parent, name): (&Inode, &OsStr),
    upper: &InUpper,
    lowers: &Lowers,
) -> bool {
    if inode.kind() != kind {
        return false;
    }
    let place = inode.place.read();
    match (place.upper_number(), upper.number()) {
        (Some(a), Some(b)) => a == b,
        // Lower directories can be found at two places where a layer lies in another; lower files
        // with one number are hard links.
        _ if inode.is_dir() => *lowers != Lowers::No && place.lowers() == *lowers,
        (None, None) => true,
        // Copied up between the look at the layers and now, or a hard link of such a file.
        (Some(_), None) => place.was_seen_in_lower() || place.is_known_as(parent, name),
        (None, Some(_)) => false,
    }
}

/// Returns the inode number of an object of a layer.
pub(crate) fn number_of(core: &Core, stat: &Stat) -> u64 {
    core.numbers.of(stat.dev, stat.ino)
}

/// Result of looking for a name.
pub type Lookup = Result<Option<Found>>;
