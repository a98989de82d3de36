//! Directories in directories: layers are made by strangers, and a walk goes down by calls.

use super::error::{OfflineError, Result};

/// Most directories that may lie in each other. Paths of `PATH_MAX` name half as many.
const DEPTH_MAX: usize = 4096;
/// A stack on which a walk gets so far down; what isn't used is never there.
const STACK: usize = 256 << 20;

/// Refuses a directory that lies too deep.
pub(super) fn check(path: &[u8]) -> Result<()> {
    let depth = path.iter().filter(|&&b| b == b'/').count() + 1;
    if depth <= DEPTH_MAX {
        return Ok(());
    }
    let start = String::from_utf8_lossy(path.get(..64).unwrap_or(path)).into_owned();
    Err(OfflineError::Words(format!(
        "{start}…: more than {DEPTH_MAX} directories in each other: remove them first"
    )))
}

/// Runs a walk where it has enough stack.
pub(super) fn run<T: Send>(walk: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    std::thread::scope(|scope| {
        let builder = std::thread::Builder::new().name("walk".into()).stack_size(STACK);
        match builder.spawn_scoped(scope, walk) {
            Ok(thread) => thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
            Err(e) => Err(OfflineError::Words(format!("start a thread: {e}"))),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_path_can_name_is_not_too_deep() {
        assert!(check(&[b'd', b'/'].repeat(2047)).is_ok());
        let e = check(&[b'd', b'/'].repeat(5000)).unwrap_err().to_string();
        assert!(e.contains("4096 directories") && e.len() < 200, "{e}");
    }
}
