//! Runs a process in a container: namespaces, limits and a layered root, with or without privileges.
//!
//! Rooms in reading order; a room calls those after it only:
//!
//! | room | what it is for |
//! |---|---|
//! | `cli` | what the user typed |
//! | `oci` | what podman, containerd and others ask of a runtime, by bundles |
//! | `plan` | decides the whole container before anything is touched |
//! | `launch` | builds it, watches it, undoes everything at its end |
//! | `rootfs` | from layers to a root directory; the two daemons |
//! | `cgroup` | limits |
//! | `image` | images: layers by content, formats in and out, registries |
//! | `store` | what containers keep while they live |
//! | `identity` | whose users a container has |
//! | `spec` | the container as data: what `plan` decides and `launch` executes |
//!
//! `error` belongs to no room: each may name it.
//!
//! This one program is five: by the name it is called by (`argv[0]`) it is `unionfs`,
//! `procfs-shim`, `runner-oci`, the builder of a container, or else `runner`.
#![forbid(unsafe_code)]

mod cgroup;
mod cli;
mod error;
mod identity;
mod image;
mod launch;
mod oci;
mod plan;
mod rootfs;
mod spec;
mod store;

use std::ffi::{CStr, OsString};
use std::path::Path;
use std::process::ExitCode;

/// Runs the program with `args` (the first is the name it was called by) and returns its exit code.
pub fn run(args: impl Iterator<Item = OsString>) -> ExitCode {
    let args: Vec<OsString> = args.collect();
    let name = args.first().and_then(|a| Path::new(a).file_name()).and_then(|n| n.to_str());
    match name {
        Some("unionfs") => {
            call_process(c"unionfs");
            unionfs::run(args.into_iter())
        }
        Some("procfs-shim") => {
            call_process(c"procfs-shim");
            procfs_shim::run(args.into_iter())
        }
        Some(oci::NAME) => oci::run(args),
        Some(launch::BUILDER) => launch::builder(&args),
        _ => cli::run(args),
    }
}

/// Gives the process the name that `ps` and `top` show: it is started as /proc/self/exe.
fn call_process(name: &CStr) {
    error::best_effort("name the process", nix::sys::prctl::set_name(name));
}
