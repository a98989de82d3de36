//! Mount, serve, unmount.

use daemon::{Mount, MountRequest, Ready, ServeOptions};

use super::adapter::{Adapter, Counters};
use crate::error::StartError;
use crate::view::Views;

/// Mounts and serves until the mount is gone.
///
/// # Preconditions
/// The process has one thread.
///
/// # Errors
/// The mount failed, or the connection broke.
pub fn serve(
    views: Views,
    request: &MountRequest,
    threads: usize,
    ready: Ready,
) -> Result<(), StartError> {
    let mount = Mount::new(request).map_err(|e| StartError::Failed(e.to_string()))?;
    let adapter = Adapter::new(views);
    let restorer = adapter.restorer();
    let started = Box::new(|notifier| {
        if let Some(restorer) = restorer {
            std::thread::Builder::new()
                .name("sizes".into())
                .spawn(move || restorer.run(notifier))?;
        }
        Ok(())
    });
    let options = ServeOptions { threads, ready, started, statistics: Box::new(statistics) };
    daemon::serve(adapter, mount, options)
        .map_err(|e| StartError::Failed(format!("serve the mount: {e}")))
}

fn statistics() {
    let Counters { opens, fallbacks } = super::adapter::counters();
    crate::logger::say(&format!(
        "{opens} files opened, {fallbacks} of them as the machine has them"
    ));
}
