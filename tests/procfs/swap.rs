//! Swap of the machine for a while: a file on a disk, in use until this is dropped or its process has ended
//! in whatever way.

use std::io::Read;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use support::privilege::{Missing, installed, root};

/// Makes the file, says so, and takes it out of use at the end of its standard input.
const SCRIPT: &str = r#"set -e
trap 'rm -f "$1"' EXIT
head -c 134217728 /dev/zero > "$1"
chmod 600 "$1"
mkswap "$1" > /dev/null
swapon "$1"
printf up
cat
swapoff "$1"
"#;

/// Machine-wide figures of swap change while somebody has it for writing.
static SWAP: RwLock<()> = RwLock::new(());

/// 128 MiB of swap.
#[derive(Debug)]
pub(crate) struct Swap {
    keeper: Child,
    _alone: RwLockWriteGuard<'static, ()>,
}

/// Keeps the machine's swap as it is.
pub(crate) fn unchanged() -> RwLockReadGuard<'static, ()> {
    SWAP.read().unwrap_or_else(PoisonError::into_inner)
}

impl Swap {
    /// Puts a file in `dir` to use.
    ///
    /// # Errors
    /// The machine or its file system can't do that.
    pub(crate) fn on(dir: &Path) -> Result<Swap, Missing> {
        root()?;
        ["mkswap", "swapon", "swapoff"].into_iter().try_for_each(installed)?;
        let alone = SWAP.write().unwrap_or_else(PoisonError::into_inner);
        // In a session of its own: a signal of the terminal must not end it before its work is done.
        let mut command = Command::new("setsid");
        command.args(["sh", "-c", SCRIPT, "sh"]).arg(dir.join("swap"));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let keeper = command.spawn().expect("start a shell");
        let mut swap = Swap { keeper, _alone: alone };
        let mut up = [0; 2];
        match swap.keeper.stdout.as_mut().expect("a pipe").read_exact(&mut up) {
            Ok(()) => Ok(swap),
            Err(_) => {
                let mut said = String::new();
                let stderr = swap.keeper.stderr.as_mut().expect("a pipe");
                stderr.read_to_string(&mut said).expect("read what it said");
                Err(Missing::Kernel(format!("no swap file can be used: {}", said.trim())))
            }
        }
    }
}

impl Drop for Swap {
    fn drop(&mut self) {
        drop(self.keeper.stdin.take());
        match self.keeper.wait() {
            Ok(status) if status.success() => {}
            how => eprintln!("end of the swap file: {how:?}"),
        }
    }
}
