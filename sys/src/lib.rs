//! Safe wrappers around the system calls that the programs need, one call a function.
//!
//! The only crate of the workspace in which `unsafe` may be written; each block argues why it is
//! sound. Wrappers take borrowed descriptors (`AsFd`) and give owned ones back; errors are the
//! kernel's own [`Errno`], unchanged. What `nix` wraps already is used through `nix`.
//!
//! | module | what it wraps |
//! |---|---|
//! | [`openat`] | `openat2` confined below a directory descriptor; reopening of `O_PATH` descriptors |
//! | [`stat`] | `statx` into a typed [`stat::Stat`]; `statfs` |
//! | [`getdents`] | directory entries with type and inode number |
//! | [`xattr`] | byte-named extended attributes on descriptors, names and symlinks |
//! | [`copy`] | reflink, `copy_file_range`, holes, `fallocate`, file flags |
//! | [`name`] | `renameat2`, `linkat`, `mknodat`, `fchmodat`, `utimensat` |
//! | [`handle`] | `name_to_handle_at` |
//! | [`map`] | shared mappings of files, for reading |
//! | [`memory`] | memory that an idle process gives back |
//! | [`mount`] | mounting, the new mount API, `pivot_root` |
//! | [`process`] | `fork`, `clone3`, pidfds, inherited descriptors |
//! | [`bpf`] | programs that say which devices a cgroup may use |
//! | [`caps`] | the capability sets of the calling thread |
//! | [`seccomp`] | filters of system calls, and calls that another process answers |
//! | [`tty`] | pseudo terminals: unlock, open the other end, size, controlling terminal |
//! | [`net`] | network interfaces up, the domain name |
//! | [`keyring`] | session keyrings |
//! | [`fuse`] | requests of `/dev/fuse` |
//! | [`uring`] | messages of FUSE through io_uring |
#![allow(unsafe_code)]

pub use nix::errno::Errno;

/// Result of a system call: the error is the kernel's number, unchanged.
pub type Result<T> = std::result::Result<T, Errno>;

pub mod bpf;
pub mod caps;
pub mod copy;
pub mod fuse;
pub mod getdents;
pub mod handle;
pub mod keyring;
pub mod map;
pub mod memory;
pub mod mount;
pub mod name;
pub mod net;
pub mod openat;
pub mod process;
pub mod seccomp;
pub mod stat;
pub mod tty;
pub mod uring;
pub mod xattr;

use std::ffi::{CString, OsStr};
use std::os::unix::ffi::OsStrExt;

/// Returns `name` as a C string; a NUL byte inside is `EINVAL`, as no file can be called that.
pub(crate) fn cstr(name: &OsStr) -> Result<CString> {
    CString::new(name.as_bytes()).map_err(|_| Errno::EINVAL)
}
