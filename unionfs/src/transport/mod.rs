//! The only room that names `fuser`: [`adapter`] decodes requests and encodes replies, [`reply`]
//! translates types, [`session`] negotiates and serves, `opens` counts open
//! files where the kernel wants to be told of them.

pub mod adapter;
mod opens;
pub mod reply;
pub mod session;

pub use session::{Cache, Io, Served};
