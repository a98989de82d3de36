//! Debian's cloud kernel: fetched from the package archive, kept beside the build, never installed.

use std::path::{Path, PathBuf};
use std::process::Command;

use support::process::run;

/// A kernel and its modules.
#[derive(Debug)]
pub(crate) struct Kernel {
    dir: PathBuf,
    release: String,
}

/// The package that depends on the newest kernel.
const PACKAGE: &str = "linux-image-cloud-amd64";

/// Returns the kernel, fetched unless it was before.
///
/// # Errors
/// In words: no package archive can be reached.
pub(crate) fn fetch() -> Result<Kernel, String> {
    let tools = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/tools");
    let dir = tools.join("guest-kernel");
    if let Some(release) = release(&dir) {
        return Ok(Kernel { dir, release });
    }
    // Prepared beside it and moved: two runs at once, or one that is stopped, leave a whole one.
    std::fs::create_dir_all(&tools).map_err(|e| format!("{}: {e}", tools.display()))?;
    let staged = tempfile::tempdir_in(&tools).map_err(|e| format!("{}: {e}", tools.display()))?;
    let name = newest()?;
    say("apt-get", Command::new("apt-get").args(["download", &name]).current_dir(&staged))?;
    let package = std::fs::read_dir(&staged).map_err(|e| e.to_string())?.flatten().next();
    let package = package.ok_or_else(|| format!("apt-get left no file of {name}"))?.path();
    let root = staged.path().join("root");
    say("dpkg-deb", Command::new("dpkg-deb").arg("-x").arg(&package).arg(&root))?;
    if let Err(e) = std::fs::rename(&root, &dir)
        && release(&dir).is_none()
    {
        return Err(format!("{}: {e}", dir.display()));
    }
    let release = release(&dir).ok_or_else(|| format!("there is no kernel in {name}"))?;
    Ok(Kernel { dir, release })
}

/// Returns the name of the package of the newest kernel.
fn newest() -> Result<String, String> {
    let said = say("apt-cache", Command::new("apt-cache").args(["depends", PACKAGE]))?;
    let found = said.lines().find_map(|l| l.trim().strip_prefix("Depends: linux-image-"));
    found
        .map(|rest| format!("linux-image-{rest}"))
        .ok_or_else(|| format!("the package archive has no {PACKAGE} (run apt-get update)"))
}

fn say(name: &str, command: &mut Command) -> Result<String, String> {
    let out = run(command);
    if out.status.success() {
        return Ok(String::from_utf8_lossy(&out.stdout).into_owned());
    }
    Err(format!("{name}: {}", String::from_utf8_lossy(&out.stderr).trim()))
}

/// Returns which release is in a directory, if one is.
fn release(dir: &Path) -> Option<String> {
    let names = std::fs::read_dir(dir.join("boot")).ok()?.flatten();
    names.filter_map(|e| Some(e.file_name().to_str()?.strip_prefix("vmlinuz-")?.to_owned())).next()
}

impl Kernel {
    /// What QEMU boots.
    pub(crate) fn image(&self) -> PathBuf {
        self.dir.join(format!("boot/vmlinuz-{}", self.release))
    }

    /// Returns a module's content, by its path below `kernel`.
    pub(crate) fn module(&self, path: &str) -> Vec<u8> {
        let file = self.dir.join(format!("lib/modules/{}/kernel/{path}", self.release));
        std::fs::read(&file).unwrap_or_else(|e| panic!("{}: {e}", file.display()))
    }
}
