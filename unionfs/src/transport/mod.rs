//! The only room that names `fuser`: [`adapter`] decodes requests and encodes replies, [`reply`]
//! translates types, [`session`] negotiates and serves.

pub mod adapter;
pub mod reply;
pub mod session;

pub use session::{Cache, Served};
