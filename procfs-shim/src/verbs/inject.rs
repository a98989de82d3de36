//! `procfs-shim inject`: binds the daemon's files into a container that runs already.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::binds;
use crate::error::StartError;

/// Arguments.
#[derive(Debug, Args)]
pub struct InjectArgs {
    /// A process of the container
    #[arg(value_name = "PID")]
    pid: u32,

    /// Where the daemon is mounted
    #[arg(long, value_name = "DIR", default_value = binds::MOUNT, conflicts_with = "undo")]
    mount: PathBuf,

    /// Take the files away again
    #[arg(long)]
    undo: bool,
}

/// Binds, or undoes it. What was bound before a failure is unbound again.
///
/// # Errors
/// There is no such process or daemon, or a file can't be bound.
pub fn inject(args: &InjectArgs) -> Result<ExitCode, StartError> {
    let mountinfo = format!("/proc/{}/mountinfo", args.pid);
    let before = std::fs::read_to_string(&mountinfo).map_err(|e| {
        StartError::Failed(format!("read {mountinfo}: {e}: give a running container's process"))
    })?;
    let binds = if args.undo { Vec::new() } else { binds::of_mount(&args.mount)? };
    let root = binds::enter(args.pid)?;
    if args.undo {
        binds::stay_below(&root)?;
        let unbind = |bound: binds::Bound| binds::unbind(&bound.at);
        binds::bound(&before).into_iter().try_for_each(unbind)?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut done = Vec::new();
    for bind in &binds {
        match bind.attach(&root) {
            Ok(true) => done.push(PathBuf::from("/").join(&bind.path)),
            Ok(false) => {}
            Err(e) => {
                binds::stay_below(&root)?;
                for at in done.iter().rev() {
                    binds::unbind(at)?;
                }
                return Err(e);
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}
