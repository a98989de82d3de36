//! The layers: an upper that may be written, and lowers that may not.

pub mod acl;
pub mod idmap;
pub mod lower;
pub mod marks;
pub mod origin;
mod prepare;
mod probe;
pub mod spot;
pub mod tree;
pub mod upper;

pub use lower::{LowerLayer, LowerRef};
pub use prepare::open_upper;
pub use spot::Spot;
pub use upper::{Over, UpperLayer};

use sys::{Errno, Result};

/// The upper on top, the lowers below it.
#[derive(Debug)]
pub struct LayerStack {
    upper: Option<UpperLayer>,
    lowers: Vec<LowerLayer>,
}

impl LayerStack {
    /// Puts layers together; the first lower is the topmost.
    pub fn new(upper: Option<UpperLayer>, lowers: Vec<LowerLayer>) -> LayerStack {
        LayerStack { upper, lowers }
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

    /// Returns a lower by index.
    ///
    /// # Errors
    /// `EIO`: there is no such layer.
    pub fn lower(&self, index: u16) -> Result<&LowerLayer> {
        self.lowers.get(usize::from(index)).ok_or(Errno::EIO)
    }
}
