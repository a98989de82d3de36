//! What a union file system does, one file a behaviour, each test on ours and on the kernel's.
#![forbid(unsafe_code)]

mod ahead;
mod bad_input;
mod concurrency;
mod copyup;
mod crash;
mod deep;
mod differential;
mod dirs;
mod durability;
mod files;
mod formats;
mod identity;
mod io;
mod large;
mod lifecycle;
mod matrix;
mod memory;
mod metadata;
mod nameless;
mod namespaced;
mod offline;
mod offline_fsck;
mod owners;
mod rename;
mod requests;
mod rootless;
mod sqlite;
mod subjects;
mod tracer;
mod unionctl;
mod unlinked;
mod uring;
mod whiteout;
mod xattr;
