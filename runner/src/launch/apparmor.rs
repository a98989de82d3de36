//! AppArmor: the profile that the program gets as it is executed.

use std::fs::File;
use std::io::Write;

use nix::errno::Errno;

use crate::error::{Context, Error, Result};

/// A change of profile at the next `execve`, prepared where /proc is the host's.
#[derive(Debug)]
pub(super) struct OnExec(Option<(File, String)>);

impl OnExec {
    /// Opens what has to be written to.
    ///
    /// # Errors
    /// A profile is asked for, and the kernel has no AppArmor.
    pub(super) fn prepare(profile: Option<&String>) -> Result<OnExec> {
        let Some(profile) = profile else { return Ok(OnExec(None)) };
        let own = ["/proc/thread-self/attr/apparmor/exec", "/proc/thread-self/attr/exec"];
        let open = |path: &str| File::options().write(true).open(path);
        let [first, second] = own;
        let file = open(first).or_else(|_| open(second));
        let file = file.step_at("process.apparmorProfile: open", second)?;
        Ok(OnExec(Some((file, profile.clone()))))
    }

    /// Asks for the change.
    pub(super) fn apply(self) -> Result<()> {
        let Some((mut file, profile)) = self.0 else { return Ok(()) };
        let written = file.write_all(format!("exec {profile}").as_bytes());
        written.map_err(|e| {
            Error::new("process.apparmorProfile", e)
                .at(&profile)
                .hint_if(Errno::ENOENT, "load it with `apparmor_parser -r FILE` first")
        })
    }
}
