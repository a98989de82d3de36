//! What the two FUSE daemons share, in the order in which a daemon lives: [`ready`] detaches it,
//! [`mount`] opens `/dev/fuse` and mounts, [`serve`] answers until the mount is gone, [`signals`]
//! ends it cleanly.
#![forbid(unsafe_code)]

pub mod logger;
pub mod mount;
pub mod ready;
pub mod serve;
pub mod signals;

pub use mount::{Mount, MountError, MountPoint, MountRequest};
pub use ready::Ready;
pub use serve::{ServeOptions, serve};
