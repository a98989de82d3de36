//! tar archives as hostile input: a reader that allocates no more than it must and believes nothing.

mod entries;
mod members;
mod pax;
mod sparse;

pub(crate) use entries::{Entries, Entry, Kind};
pub(crate) use members::Members;
