//! Goes on in the background: the command returns once the program runs, and a process of its own
//! watches it from then on.

use std::fs;
use std::path::Path;

use nix::sys::wait::waitpid;
use nix::unistd::{Pid, chdir, dup2_stderr, dup2_stdin, dup2_stdout, setsid};
use serde::{Deserialize, Serialize};
use sys::process::Fork;

use crate::error::{Context, Error, Result, say};
use crate::launch::exec::open_null;
use crate::launch::sync::Channel;

/// How to say that the program runs.
pub(crate) struct Started(Channel);

/// What the command is told.
#[derive(Debug, Serialize, Deserialize)]
enum Outcome {
    /// The program runs.
    Running,
    /// It doesn't.
    Failed(Error),
}

impl Started {
    /// Says it.
    pub(crate) fn tell(mut self) -> Result<()> {
        match self.0.send(&Outcome::Running) {
            // The command may have been ended meanwhile, which the container doesn't depend on.
            Ok(()) | Err(_) => Ok(()),
        }
    }
}

/// Does `work` in a process of its own, whose messages go to the file `log`; returns as soon as it has
/// told that the program runs.
///
/// # Errors
/// What `work` says before.
pub(crate) fn in_background(log: &Path, work: impl FnOnce(Started) -> Result<u8>) -> Result<()> {
    let (mut ours, theirs) = Channel::pair()?;
    let before = fs::metadata(log).map_or(0, |m| m.len());
    match sys::process::fork().step("go to the background")? {
        Fork::Child => {
            drop(ours);
            std::process::exit(watch(log, theirs, work))
        }
        Fork::Parent(pid) => {
            // To drop a lock that it holds would open it for the supervisor, too.
            std::mem::forget(work);
            drop(theirs);
            let heard = ours.receive::<Outcome>();
            // What it had to say so far is for whoever started it.
            let said = fs::read(log).unwrap_or_default();
            let said = said.get(before as usize..).unwrap_or_default();
            match std::io::Write::write_all(&mut std::io::stderr(), said) {
                Ok(()) | Err(_) => {}
            }
            match heard? {
                None => Err(Error::new("start in the background", "the supervisor was killed")),
                Some((Outcome::Running, _)) => Ok(()),
                Some((Outcome::Failed(e), _)) => {
                    waitpid(Pid::from_raw(pid), None).step("wait for the supervisor")?;
                    Err(e)
                }
            }
        }
    }
}

/// Becomes the supervisor, and returns its exit code.
fn watch(log: &Path, channel: Channel, work: impl FnOnce(Started) -> Result<u8>) -> i32 {
    let mut second = match channel.try_clone() {
        Ok(second) => second,
        Err(e) => {
            say(e);
            return 1;
        }
    };
    let done = leave(log).and_then(|()| work(Started(channel)));
    match done {
        Ok(_) => 0,
        Err(e) => {
            // Before the program runs, the command waits for this; after it, nobody does.
            let text = e.to_string();
            if second.send(&Outcome::Failed(e)).is_err() {
                say(text);
            }
            1
        }
    }
}

/// Lets go of the user's terminal and directory.
fn leave(log: &Path) -> Result<()> {
    setsid().step("make a session")?;
    let null = open_null()?;
    let log = fs::File::options().create(true).append(true).open(log).step_at("open", log)?;
    dup2_stdin(&null).step("redirect standard input")?;
    dup2_stdout(&null).step("redirect standard output")?;
    dup2_stderr(&log).step("redirect standard error")?;
    chdir("/").step_at("enter", "/")
}
