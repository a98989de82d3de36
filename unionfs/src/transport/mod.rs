//! The only room that speaks FUSE: [`adapter`] takes messages and answers them, [`reply`] translates
//! types, [`session`] negotiates, `opens` counts open files where the kernel wants to be told of them.

pub mod adapter;
mod opens;
pub mod reply;
pub mod session;

pub use session::{Cache, Io, Served, Uring, Ways};
