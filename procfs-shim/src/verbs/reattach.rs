//! `procfs-shim reattach`: where the daemon behind a container's files has died with its supervisor,
//! binds those of a living one in their place.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{ExitCode, exit};

use clap::Args;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;
use sys::process::Fork;

use super::binds::{self, Bind, Bound};
use crate::error::{ReadError, StartError};
use crate::host::process::Processes;

/// Arguments.
#[derive(Debug, Args)]
pub struct ReattachArgs {
    /// Where the living daemon is mounted
    #[arg(long, value_name = "DIR", default_value = binds::MOUNT)]
    mount: PathBuf,

    /// A process of the container [default: all containers]
    #[arg(value_name = "PID")]
    pid: Option<u32>,
}

/// Looks through all mount namespaces, or one, and revives what is dead.
///
/// # Errors
/// No daemon is mounted, or a container can't be entered; the others are revived.
pub fn reattach(args: &ReattachArgs) -> Result<ExitCode, StartError> {
    let binds = binds::of_mount(&args.mount)?;
    let failed = |e: ReadError| StartError::Failed(e.to_string());
    let pids = match args.pid {
        Some(pid) => vec![pid],
        None => {
            let all = Processes::open(Path::new("/proc")).and_then(|p| p.list()).map_err(failed)?;
            all.into_iter().map(|pid| pid.0).collect()
        }
    };
    let mut seen = BTreeSet::new();
    let mut code = ExitCode::SUCCESS;
    for pid in pids {
        // A process that ends meanwhile needs nothing.
        let namespace = std::fs::read_link(format!("/proc/{pid}/ns/mnt"));
        let text = std::fs::read_to_string(format!("/proc/{pid}/mountinfo"));
        let (Ok(namespace), Ok(text)) = (namespace, text) else { continue };
        let bound = binds::bound(&text);
        if bound.is_empty() || !seen.insert(namespace) {
            continue;
        }
        if !in_a_child(|| revive(pid, &bound, &binds))? {
            code = ExitCode::FAILURE;
        }
    }
    Ok(code)
}

/// Does `work` in a process of its own, which may enter a namespace; returns whether it succeeded.
fn in_a_child(work: impl FnOnce() -> Result<(), StartError>) -> Result<bool, StartError> {
    let failed =
        |e: nix::errno::Errno| StartError::Failed(format!("start a process: {}", e.desc()));
    match sys::process::fork().map_err(failed)? {
        Fork::Child => match work() {
            Ok(()) => exit(0),
            Err(e) => {
                log::error!("{e}");
                exit(1)
            }
        },
        Fork::Parent(pid) => {
            let status = waitpid(Pid::from_raw(pid), None).map_err(failed)?;
            Ok(matches!(status, WaitStatus::Exited(_, 0)))
        }
    }
}

fn revive(pid: u32, bound: &[Bound], binds: &[Bind]) -> Result<(), StartError> {
    let root = binds::enter(pid)?;
    binds::stay_below(&root)?;
    for dead in bound.iter().filter(|b| binds::is_dead(&b.at)) {
        binds::unbind(&dead.at)?;
        // A file that the living daemon doesn't have is the kernel's own again.
        if let Some(bind) = binds.iter().find(|b| b.path == dead.file) {
            bind.attach_at(&dead.at)?;
        }
    }
    Ok(())
}
