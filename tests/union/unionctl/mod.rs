//! The command line of `unionctl`: what it prints, its exit codes, its errors, and what strangers'
//! layers do to it. What it means is tested beside the library (`offline`, `offline_fsck`).

mod archive;
mod dialects;
mod fsck;
mod hostile;
mod lists;
mod stats;
mod usage;

use std::ffi::OsStr;
use std::path::Path;
use std::process::{Command, Output};

use support::process::{run, shell};
use support::{Scratch, Union};

use crate::subjects::ours;

/// How a call ended, and what it said.
#[derive(Debug, PartialEq, Eq)]
struct Said {
    code: Option<i32>,
    out: String,
    err: String,
}

impl Said {
    /// Returns standard output of a call that succeeded in silence.
    #[track_caller]
    fn well(self) -> String {
        assert_eq!((self.code, self.err.as_str()), (Some(0), ""), "{}", self.out);
        self.out
    }

    /// Returns what a call complained of in one line when it failed with `code`.
    #[track_caller]
    fn failed(self, code: i32) -> String {
        assert_eq!((self.code, self.out.as_str()), (Some(code), ""), "{}", self.err);
        if code == 1 {
            assert_eq!(self.err.matches('\n').count(), 1, "one line: {:?}", self.err);
        }
        self.err
    }
}

fn command(dir: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_unionctl-under-test"));
    command.current_dir(dir).env_remove("RUST_BACKTRACE");
    command
}

fn said(out: Output) -> Said {
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    Said { code: out.status.code(), out: text(&out.stdout), err: text(&out.stderr) }
}

/// Runs `unionctl` with some words in a directory.
fn unionctl<S: AsRef<OsStr>>(dir: &Path, words: impl IntoIterator<Item = S>) -> Said {
    said(run(command(dir).args(words)))
}

/// The same for words without blanks.
fn ctl(dir: &Path, words: &str) -> Said {
    unionctl(dir, words.split(' '))
}

/// Layers on disk that a script made: `upper`, `work` and `lower`, without a mount.
fn layers(script: &str) -> Scratch {
    let scratch = Scratch::new();
    for name in ["upper", "work", "lower"] {
        scratch.dir(name);
    }
    shell(scratch.path(), script);
    scratch
}

/// The same by a mount that is gone again. The directory is the layers' own.
fn changed(lower: &str, script: &str) -> Union {
    let mut u =
        Union::on(&ours()).layer(lower).option("redirect_dir=on").option("metacopy=on").mount();
    shell(u.root(), script);
    u.unmount();
    u
}

/// Returns where the layers of a [`Union`] are: `upper`, `work`, `lower0`.
fn home(u: &Union) -> &Path {
    u.scratch().path()
}
