//! The only room that names `fuser`.

mod adapter;
mod handles;
mod session;
mod sizes;
mod sysfs;
mod tree;

pub use session::{connect, serve, supervise};
