//! `runner volume create|ls|inspect|rm|prune`.

use std::path::Path;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use crate::cli::format::Format;
use crate::cli::{each, make, print, values};
use crate::error::{Error, Result};
use crate::identity;
use crate::store::{self, ManagedVolume, Store, Volumes, now, rfc3339};

/// Manage volumes, which outlive containers.
#[derive(Debug, Args)]
pub(crate) struct VolumeArgs {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Make a volume, and print its name
    Create {
        /// Note something on it; may be repeated
        #[arg(short, long, value_name = "KEY=VALUE", value_parser = values::label)]
        label: Vec<(String, String)>,
        /// Don't fail if there is one of that name
        #[arg(long)]
        ignore: bool,
        /// Name [default: made up]
        #[arg(value_parser = values::name)]
        name: Option<String>,
    },
    /// List volumes
    #[command(alias = "list")]
    Ls {
        /// Names only
        #[arg(short, long)]
        quiet: bool,
        /// json, or a template such as {{.Name}}
        #[arg(long)]
        format: Option<String>,
        /// As --format json
        #[arg(long)]
        json: bool,
    },
    /// Print what is known of volumes, as JSON
    Inspect {
        /// json, or a template such as {{.Mountpoint}}
        #[arg(short, long)]
        format: Option<String>,
        /// Volumes
        #[arg(required = true, value_name = "VOLUME")]
        volumes: Vec<String>,
    },
    /// Remove volumes with their files
    Rm {
        /// Also the containers that have them; don't fail for one that isn't there
        #[arg(short, long)]
        force: bool,
        /// All volumes
        #[arg(short, long)]
        all: bool,
        /// Volumes
        #[arg(required_unless_present = "all", value_name = "VOLUME")]
        volumes: Vec<String>,
    },
    /// Remove all volumes that no container has
    Prune {
        /// Always so: nothing is asked
        #[arg(short, long, hide = true)]
        force: bool,
    },
}

/// Does what is asked.
pub(super) fn volume(args: VolumeArgs, state: Option<&Path>) -> Result<u8> {
    let store = Store::choose(state)?;
    let volumes = Volumes::of(&store);
    match args.verb {
        Verb::Create { label, ignore, name } => {
            let name = name.map_or_else(|| make::random_hex(32), Ok)?;
            let anonymous = false;
            let labels = label.into_iter().collect();
            let new = ManagedVolume { name: name.clone(), created: now(), labels, anonymous };
            match ignore {
                true => volumes.ensure(&new).map(drop)?,
                false => volumes.create(&new)?,
            }
            print(&format!("{name}\n")).map(|()| 0)
        }
        Verb::Ls { quiet, format, json } => {
            let all = volumes.all()?;
            if quiet {
                let names: Vec<String> = all.into_iter().map(|v| v.name + "\n").collect();
                return print(&names.concat()).map(|()| 0);
            }
            let rows: Vec<Value> = all.iter().map(|v| describe(&volumes, v)).collect();
            let columns = [("DRIVER", "Driver"), ("VOLUME NAME", "Name")];
            print(&Format::of(format.as_deref(), json).list(&columns, &rows)?).map(|()| 0)
        }
        Verb::Inspect { format, volumes: names } => {
            let find = |name: &String| match volumes.get(name)? {
                Some(v) => Ok(describe(&volumes, &v)),
                None => Err(Error::new("volume", format!("there is none called {name}"))
                    .hint("see `runner volume ls`")),
            };
            let all = names.iter().map(find).collect::<Result<Vec<_>>>()?;
            print(&Format::of(format.as_deref(), false).objects(all)?).map(|()| 0)
        }
        Verb::Rm { force, all, volumes: names } => {
            let names = match all {
                true => volumes.all()?.into_iter().map(|v| v.name).collect(),
                false => names,
            };
            each(&names, |name| remove(&store, name, force))
        }
        Verb::Prune { .. } => prune_unused(&store).map(|()| 0),
    }
}

fn describe(volumes: &Volumes<'_>, v: &ManagedVolume) -> Value {
    json!({
        "Name": v.name,
        "Driver": "local",
        "Mountpoint": volumes.data(&v.name),
        "CreatedAt": rfc3339(v.created),
        "Labels": v.labels,
        "Scope": "local",
        "Options": {},
        "Anonymous": v.anonymous,
    })
}

fn remove(store: &Store, name: &str, force: bool) -> Result<()> {
    let volumes = Volumes::of(store);
    if force {
        if volumes.get(name)?.is_none() {
            return Ok(());
        }
        for entry in volumes.users(name)? {
            crate::cli::stop::stop_one(&entry, Some(0))?;
            // One that goes with its program has gone.
            if entry.dir.exists() {
                entry.lock()?.clear(entry.identity())?;
            }
        }
    }
    volumes.remove(name, &identity::decide().0)?;
    print(&format!("{name}\n"))
}

/// Removes the volumes that no container has.
pub(super) fn prune_unused(store: &Store) -> Result<()> {
    let volumes = Volumes::of(store);
    let used: Vec<store::Entry> = store::all(store)?;
    let has = |name: &str| {
        let of_name = |v: &crate::spec::Volume| v.name.as_deref() == Some(name);
        used.iter().any(|e| e.record.request.volumes.iter().any(of_name))
    };
    for v in volumes.all()?.into_iter().filter(|v| !has(&v.name)) {
        remove(store, &v.name, false)?;
    }
    Ok(())
}
