//! The layers: an upper that may be written, and lowers that may not.

pub mod acl;
pub mod idmap;
pub mod lower;
pub mod marks;
pub mod origin;
pub mod owners;
pub mod permissions;
mod prepare;
mod probe;
pub mod spot;
pub mod tree;
pub mod upper;

pub use lower::{LowerLayer, LowerRef};
pub use owners::{Mapped, Owners};
pub use permissions::Permissions;
pub use prepare::{is_in_use, open_upper};
pub use spot::Spot;
pub use upper::{Over, UpperLayer, Wishes};

use sys::{Errno, Result};

/// The upper on top, the lowers below it.
#[derive(Debug)]
pub struct LayerStack {
    upper: Option<UpperLayer>,
    lowers: Vec<LowerLayer>,
    /// How many of the lowers merge; those after them have only data for metacopies.
    merging: usize,
}

impl LayerStack {
    /// Puts layers together; the first lower is the topmost, and the first `merging` ones merge.
    pub fn new(upper: Option<UpperLayer>, lowers: Vec<LowerLayer>, merging: usize) -> LayerStack {
        LayerStack { upper, lowers, merging }
    }

    /// Returns the upper.
    ///
    /// # Errors
    /// `EROFS`: there is none.
    pub fn upper(&self) -> Result<&UpperLayer> {
        self.upper.as_ref().ok_or(Errno::EROFS)
    }

    /// Returns the upper, if there is one.
    pub fn upper_opt(&self) -> Option<&UpperLayer> {
        self.upper.as_ref()
    }

    /// Returns all lowers, topmost first.
    pub fn lowers(&self) -> &[LowerLayer] {
        &self.lowers
    }

    /// Returns the lowers that merge, topmost first.
    pub fn merging(&self) -> &[LowerLayer] {
        self.lowers.get(..self.merging).unwrap_or_default()
    }

    /// Returns a lower by index.
    ///
    /// # Errors
    /// `EIO`: there is no such layer.
    pub fn lower(&self, index: u16) -> Result<&LowerLayer> {
        self.lowers.get(usize::from(index)).ok_or(Errno::EIO)
    }
}
