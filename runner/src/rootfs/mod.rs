//! From layers to a root directory: the merged tree, what is mounted in it, and the step into it.

pub(crate) mod bundle;
mod copy_up;
pub(crate) mod daemon;
pub(crate) mod dev;
mod init_layer;
pub(crate) mod mask;
pub(crate) mod path;
pub(crate) mod pivot;
pub(crate) mod shim;
pub(crate) mod special;
pub(crate) mod union;
pub(crate) mod volume;

use std::ffi::{CStr, OsStr};
use std::os::fd::OwnedFd;

use nix::errno::Errno;

use crate::error::{Context, Error, Result};

/// One option of a file system.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Opt<'a> {
    /// A key that has no value.
    Flag(&'a CStr),
    /// A key and its value.
    Value(&'a CStr, &'a str),
}

/// Makes a mount of a new file system that is attached nowhere yet.
pub(crate) fn new_mount(kind: &CStr, options: &[Opt<'_>], attributes: u64) -> Result<OwnedFd> {
    let name = kind.to_string_lossy();
    let step = format!("mount {name}");
    let context = sys::mount::fsopen(kind).map_err(|e| {
        Error::new(step.clone(), e)
            .hint_if(Errno::ENODEV, "this kernel doesn't have that file system")
            .hint_if(Errno::ENOSYS, "Linux 5.12 or later is needed")
    })?;
    let set = |o: &Opt<'_>| match *o {
        Opt::Flag(key) => sys::mount::fsconfig_flag(&context, key),
        Opt::Value(key, value) => sys::mount::fsconfig_string(&context, key, OsStr::new(value)),
    };
    let made = options.iter().try_for_each(set);
    let made = made.and_then(|()| sys::mount::fsconfig_create(&context));
    made.map_err(|e| match sys::mount::fs_message(&context) {
        Some(said) => Error::new(step.clone(), format!("{}: {said}", e.desc().to_lowercase())),
        None => Error::new(step.clone(), e),
    })?;
    sys::mount::fsmount(&context, attributes).step(&step)
}
