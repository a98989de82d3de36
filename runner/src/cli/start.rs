//! `runner start`, `runner restart`, `runner attach`.

use std::path::Path;

use clap::Args;

use crate::cli::{each, print, run, stop, values};
use crate::error::{Error, Result};
use crate::launch::{Attach, Keys, attach as follow};
use crate::plan::Trace;
use crate::spec::{Audience, Stdin};
use crate::store::{self, Entry, Status, Store};

/// Start containers that were made or have ended; each has the changes of its earlier runs.
#[derive(Debug, Args)]
pub(crate) struct StartArgs {
    /// Show what the program writes, and end with it
    #[arg(short, long)]
    attach: bool,
    /// Let the program read standard input
    #[arg(short, long, requires = "attach")]
    interactive: bool,
    /// Containers
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
}

/// Stop containers and start them again.
#[derive(Debug, Args)]
pub(crate) struct RestartArgs {
    /// Seconds to wait before killing [default: as asked for at creation]
    #[arg(short, long, value_name = "SECONDS")]
    time: Option<u32>,
    /// Containers
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
}

/// Show what a running container writes, and let it read what is typed.
#[derive(Debug, Args)]
pub(crate) struct AttachArgs {
    /// Carry nothing to the container
    #[arg(long)]
    no_stdin: bool,
    /// Keys that let go of the container: letters, or ctrl- and one of a-z @ ^ [ , _
    #[arg(long, value_name = "KEYS", default_value = "ctrl-p,ctrl-q", value_parser = values::keys)]
    detach_keys: Keys,
    /// Container
    #[arg(value_name = "CONTAINER")]
    container: String,
}

/// Starts containers; with --attach, returns the exit code of the program.
pub(super) fn start(args: StartArgs, state: Option<&Path>) -> Result<u8> {
    let store = Store::choose(state)?;
    if let (true, [one]) = (args.attach, args.containers.as_slice()) {
        let mut entry = store::find(&store, one)?;
        if entry.status() == Status::Running {
            return attach_to(&entry, args.interactive, Keys(vec![16, 17]));
        }
        let container = entry.lock()?;
        entry.refresh();
        let mut record = entry.record.clone();
        if !args.interactive {
            record.request.process.stdin = Stdin::Null;
        }
        let (state, caller) = (entry.state, Audience::Caller);
        return run::start(&store, record, container, state, caller, None, Trace::Off);
    }
    if args.attach {
        return Err(Error::new("--attach", "one container can be attached to at a time"));
    }
    each(&args.containers, |name| {
        start_one(&store, name)?;
        print(&format!("{name}\n"))
    })
}

fn start_one(store: &Store, name: &str) -> Result<()> {
    let mut entry = store::find(store, name)?;
    if entry.status() == Status::Running {
        return Ok(());
    }
    let container = entry.lock()?;
    entry.refresh();
    run::start_detached(store, entry.record, container, entry.state, Trace::Off)
}

/// Restarts containers.
pub(super) fn restart(args: RestartArgs, state: Option<&Path>) -> Result<u8> {
    let store = Store::choose(state)?;
    each(&args.containers, |name| {
        let entry = store::find(&store, name)?;
        stop::stop_one(&entry, args.time)?;
        start_one(&store, &entry.id)?;
        print(&format!("{name}\n"))
    })
}

/// Attaches to a container; returns its exit code.
pub(super) fn attach(args: AttachArgs, state: Option<&Path>) -> Result<u8> {
    let entry = store::find(&Store::choose(state)?, &args.container)?;
    attach_to(&entry, !args.no_stdin, args.detach_keys)
}

fn attach_to(entry: &Entry, interactive: bool, keys: Keys) -> Result<u8> {
    let process = &entry.record.request.process;
    // Only who asked for it at the start has an input that can be written to.
    let stdin = if interactive { process.stdin } else { Stdin::Null };
    follow(&entry.dir, &Attach { stdin, terminal: process.terminal, keys })
}
