//! Layers that nobody has mounted: what an upper changed, as a list and as an archive; whether it is
//! sound; and the same in another dialect.
//!
//! Only the upper is walked, so the cost follows the change and not the size of the layers below:
//! those are looked up name by name. They are read as a mount reads them (by [`crate::resolve`]), so
//! whiteouts, redirects and metadata-only copies mean the same.

mod changes;
pub mod cli;
mod convert;
mod deep;
mod error;
mod export;
mod fsck;
mod links;
mod lock;
mod output;
mod printed;
mod raw;
mod tar;
mod view;
mod walk;

pub use changes::{Change, ChangeKind, changes};
pub use convert::{Converted, Form, Wanted, convert};
pub use error::{OfflineError, Result};
pub use export::{Exported, Whiteouts, export};
pub use fsck::{Finding, FindingKind, Layers, Repair, fsck};
pub use walk::Stack;
