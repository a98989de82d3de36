//! What the two FUSE daemons share, in the order in which a daemon lives: [`ready`] detaches it,
//! [`mount`] opens `/dev/fuse` and mounts, [`serve`] answers until the mount is gone (its threads in [`turns`]), [`signals`]
//! ends it cleanly. A daemon that must not break its users has a supervisor that holds the connection
//! ([`supervise`]), and workers that go on where another one was killed ([`reattach`]); the service
//! [`manager`] keeps the connection of a supervisor that is killed.
#![forbid(unsafe_code)]

pub mod idle;
pub mod logger;
pub mod manager;
pub mod mount;
pub mod ready;
pub mod reattach;
pub mod serve;
pub mod signals;
pub mod supervise;
pub mod turns;

pub use mount::{Mount, MountError, MountPoint, MountRequest};
pub use ready::Ready;
pub use reattach::{Connection, Resume};
pub use serve::{ServeOptions, Started, serve, serve_connection};
pub use supervise::{Upgrade, supervise};
pub use turns::{Turn, Turns};
