//! The only room that names `fuser`.

mod adapter;
mod counters;
mod handles;
mod metrics;
mod session;
mod sizes;
mod sysfs;
mod tree;

pub use session::{Service, connect, serve, supervise};
