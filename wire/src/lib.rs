//! FUSE as the kernel speaks it: messages of `/dev/fuse` in, replies out, and nothing about what they
//! mean. It is for a file system that wants all that the protocol has, at two system calls a message:
//! node numbers apart from inode numbers, `TMPFILE`, `STATX`, 64-bit `COPY_FILE_RANGE`, what
//! `HANDLE_KILLPRIV_V2` says, passthrough, and counts of all messages.
//!
//! | module | what it has |
//! |---|---|
//! | [`abi`] | the structures and constants of `linux/fuse.h` |
//! | [`message`] | one message, taken apart without a copy |
//! | [`reply`] | its answer |
//! | [`backing`] | files that the kernel reads and writes by itself |
//! | [`session`] | the greeting, and threads that take messages from the device |
//! | [`lanes`] | threads that take them through io_uring |
#![forbid(unsafe_code)]

pub mod abi;
pub mod backing;
mod forgets;
pub mod lanes;
pub mod message;
pub mod reply;
pub mod session;

pub use backing::Backing;
pub use lanes::Lanes;
pub use message::Operation;
pub use reply::{Entries, Reply};
pub use session::{Agreement, Counts, FileSystem, Offer, Running, Session};
