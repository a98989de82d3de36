//! Fixtures of the suites; no test.
//!
//! Reading order: [`subject`] says which file system is tested, [`union`] lays out layers and mounts
//! them, [`mount`] keeps a mount and takes it down whatever happens, [`tree`] turns text into
//! directory trees and back, [`privilege`] says who acts and why something can't be tested here,
//! [`requests`] counts FUSE messages. For figures of /proc: [`cgroups`] limits, [`container`] runs
//! things inside, [`figures`] says what is right.
#![forbid(unsafe_code)]

pub mod cgroups;
pub mod container;
pub mod figures;
pub mod mount;
pub mod privilege;
pub mod process;
pub mod requests;
pub mod scratch;
pub mod subject;
pub mod tree;
pub mod union;

pub use mount::Mounted;
pub use scratch::Scratch;
pub use subject::Subject;
pub use union::Union;
