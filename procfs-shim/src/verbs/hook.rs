//! `procfs-shim hook`: what an OCI runtime calls as `createContainer` hook. It runs in the container's
//! mount namespace, whose root directory is still the host's.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use serde_json::Value;

use super::binds;
use crate::error::StartError;

/// Arguments.
#[derive(Debug, Args)]
pub struct HookArgs {
    /// Where the daemon is mounted
    #[arg(long, value_name = "DIR", default_value = binds::MOUNT)]
    mount: PathBuf,
}

/// Reads the container's state from standard input, as the OCI runtime specification has it, and binds.
///
/// # Errors
/// The input has another form, or a file can't be bound.
pub fn hook(args: &HookArgs) -> Result<ExitCode, StartError> {
    let mut text = String::new();
    std::io::stdin()
        .read_to_string(&mut text)
        .map_err(|e| StartError::Failed(format!("hook: read standard input: {e}")))?;
    let root = rootfs(&text)?;
    let root_fd = open(&root, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty())
        .map_err(|e| wrong(format!("open {}: {}", root.display(), e.desc())))?;
    for bind in binds::of_mount(&args.mount)? {
        bind.attach(&root_fd)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn wrong(what: String) -> StartError {
    StartError::Failed(format!("hook: {what}: an OCI runtime calls it as createContainer hook"))
}

/// Returns the container's root directory by its state and the configuration of its bundle.
fn rootfs(state: &str) -> Result<PathBuf, StartError> {
    let parse = |text: &str| serde_json::from_str::<Value>(text);
    let state = parse(state).map_err(|e| wrong(format!("state on standard input: {e}")))?;
    let bundle = state["bundle"].as_str().ok_or_else(|| wrong("state: no `bundle`".into()))?;
    let at = Path::new(bundle).join("config.json");
    let config =
        std::fs::read_to_string(&at).map_err(|e| wrong(format!("{}: {e}", at.display())))?;
    let config = parse(&config).map_err(|e| wrong(format!("{}: {e}", at.display())))?;
    let root = config["root"]["path"].as_str().unwrap_or("rootfs");
    Ok(Path::new(bundle).join(root))
}
