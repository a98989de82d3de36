//! `runner ps`, `runner inspect`.

use std::path::Path;

use clap::Args;

use crate::cli::describe;
use crate::cli::format::Format;
use crate::cli::{each, print};
use crate::error::{Error, Result};
use crate::store::{self, Entry, Status, Store};

/// List containers that run.
#[derive(Debug, Args)]
pub(crate) struct PsArgs {
    /// All containers
    #[arg(short, long)]
    all: bool,
    /// Ids only
    #[arg(short, long)]
    quiet: bool,
    /// Whole ids and commands
    #[arg(long)]
    no_trunc: bool,
    /// Those only that match: name=TEXT, id=START, status=WORD, label=KEY[=VALUE], ancestor=IMAGE,
    /// volume=NAME
    #[arg(short, long, value_name = "FILTER")]
    filter: Vec<String>,
    /// json, or a template such as {{.Names}}
    #[arg(long)]
    format: Option<String>,
    /// As --format json
    #[arg(long)]
    json: bool,
}

/// Print all that is known of containers, as JSON.
#[derive(Debug, Args)]
pub(crate) struct InspectArgs {
    /// json, or a template such as {{.State.Pid}}
    #[arg(short, long)]
    format: Option<String>,
    /// Containers
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
}

/// Lists containers.
pub(super) fn ps(args: PsArgs, state: Option<&Path>) -> Result<u8> {
    let store = Store::choose(state)?;
    let asks_status = args.filter.iter().any(|f| f.starts_with("status="));
    let mut shown = Vec::new();
    for entry in store::all(&store)? {
        let is_running = matches!(entry.status(), Status::Running | Status::Busy);
        if (args.all || asks_status || is_running) && matches_all(&entry, &args.filter)? {
            shown.push(entry);
        }
    }
    // The newest first.
    shown.reverse();
    if args.quiet {
        let id = |e: &Entry| if args.no_trunc { e.id.clone() } else { e.short().to_owned() };
        let lines: Vec<String> = shown.iter().map(|e| id(e) + "\n").collect();
        return print(&lines.concat()).map(|()| 0);
    }
    let rows: Vec<_> = shown.iter().map(|e| describe::row(e, args.no_trunc)).collect();
    let columns = [
        ("CONTAINER ID", "ID"),
        ("IMAGE", "Image"),
        ("COMMAND", "Command"),
        ("CREATED", "RunningFor"),
        ("STATUS", "Status"),
        ("PORTS", "Ports"),
        ("NAMES", "Names"),
    ];
    let format = Format::of(args.format.as_deref(), args.json);
    print(&format.list(&columns, &rows)?).map(|()| 0)
}

fn matches_all(entry: &Entry, filters: &[String]) -> Result<bool> {
    for filter in filters {
        let (key, value) = filter.split_once('=').unwrap_or((filter, ""));
        let labels = &entry.record.request.labels;
        let holds = match key {
            "name" => entry.name().contains(value),
            "id" => entry.id.starts_with(value),
            "status" => describe::status_word(entry) == value,
            "ancestor" => describe::image(entry).contains(value),
            "volume" => {
                let volumes = &entry.record.request.volumes;
                volumes.iter().any(|v| v.name.as_deref() == Some(value) || v.target == value)
            }
            "label" => match value.split_once('=') {
                Some((key, value)) => labels.get(key).is_some_and(|v| v == value),
                None => labels.contains_key(value),
            },
            _ => {
                return Err(Error::new("--filter", format!("`{key}` is not known"))
                    .hint("name, id, status, label, ancestor and volume are"));
            }
        };
        if !holds {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Prints containers as JSON.
pub(super) fn inspect(args: InspectArgs, state: Option<&Path>) -> Result<u8> {
    let store = Store::choose(state)?;
    let mut found = Vec::new();
    let code = each(&args.containers, |name| {
        found.push(describe::inspect(&store::find(&store, name)?));
        Ok(())
    })?;
    print(&Format::of(args.format.as_deref(), false).objects(found)?).map(|()| code)
}
