//! `runner rm`, `runner prune`.

use std::path::Path;

use clap::Args;

use crate::cli::{each, print, stop};
use crate::error::{Error, Result, best_effort};
use crate::identity;
use crate::store::{self, Entry, Status, Store, Volumes};

/// Remove containers that aren't running, with their changes.
#[derive(Debug, Args)]
pub(crate) struct RmArgs {
    /// Also those that run, which are killed; don't fail for one that isn't there
    #[arg(short, long)]
    force: bool,
    /// Also their volumes that nobody named
    #[arg(short, long)]
    volumes: bool,
    /// All containers
    #[arg(short, long)]
    all: bool,
    /// Don't fail for a container that isn't there
    #[arg(short, long)]
    ignore: bool,
    /// Containers
    #[arg(required_unless_present = "all", value_name = "CONTAINER")]
    containers: Vec<String>,
}

/// Remove all containers that aren't running, and what killed commands left behind.
#[derive(Debug, Args)]
pub(crate) struct PruneArgs {
    /// Also volumes that no container has
    #[arg(long)]
    volumes: bool,
    /// Always so: nothing is asked
    #[arg(short, long, hide = true)]
    force: bool,
}

/// Removes containers.
pub(super) fn rm(args: RmArgs, state: Option<&Path>) -> Result<u8> {
    let store = Store::choose(state)?;
    let names = match args.all {
        true => store::all(&store)?.into_iter().map(|e| e.id).collect(),
        false => args.containers,
    };
    each(&names, |name| {
        let entry = match store::find(&store, name) {
            Err(_) if args.force || args.ignore || args.all => return Ok(()),
            r => r?,
        };
        if args.force {
            stop::stop_one(&entry, Some(0))?;
            // One that goes with its program has gone.
            if !entry.dir.join("record.json").exists() {
                return print(&format!("{name}\n"));
            }
        }
        remove(&store, &entry, args.volumes)?;
        print(&format!("{name}\n"))
    })
}

/// Removes a container that isn't running.
fn remove(store: &Store, entry: &Entry, with_volumes: bool) -> Result<()> {
    if entry.status() == Status::Running {
        return Err(Error::new(format!("remove {}", entry.name()), "it is running")
            .hint("stop it first, or give --force"));
    }
    entry.lock()?.clear(entry.identity())?;
    if with_volumes {
        let own = entry.record.request.volumes.iter().filter(|v| v.anonymous);
        for name in own.filter_map(|v| v.name.as_ref()) {
            let removed = Volumes::of(store).remove(name, entry.identity());
            best_effort("remove the container's volume", removed);
        }
    }
    Ok(())
}

/// Removes what isn't used.
pub(super) fn prune(args: PruneArgs, state: Option<&Path>) -> Result<u8> {
    let store = Store::choose(state)?;
    let (identity, _) = identity::decide();
    store.clear_leftovers(&identity)?;
    for entry in store::all(&store)? {
        if matches!(entry.status(), Status::Created | Status::Exited) {
            match remove(&store, &entry, false) {
                Ok(()) => print(&format!("{}\n", entry.id))?,
                Err(e) => crate::error::warn(e),
            }
        }
    }
    if args.volumes {
        crate::cli::volume::prune_unused(&store)?;
    }
    Ok(0)
}
