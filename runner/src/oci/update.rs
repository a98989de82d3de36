//! `update`: other limits for a container that lives.

use std::io::Read;
use std::path::Path;

use oci_spec::runtime::LinuxResources;
use serde_json::{Map, Value, json};

use crate::cgroup::place;
use crate::cgroup::resources::{self, When};
use crate::error::{Context, Error, Result};
use crate::oci::Log;
use crate::oci::options::UpdateArgs;
use crate::oci::state::{Locked, Status};

/// Changes limits.
pub(super) fn update(args: &UpdateArgs, root: &Path, log: &Log) -> Result<u8> {
    let (locked, record) = Locked::find(root, &args.id)?;
    if locked.status(&record) == Status::Stopped {
        let what = "its limits can't be changed, as it is stopped";
        return Err(Error::new(format!("container {}", args.id), what));
    }
    let limits: LinuxResources = match &args.resources {
        None => serde_json::from_value(typed(args)).step("update")?,
        Some(path) if path == Path::new("-") => {
            let mut text = Vec::new();
            std::io::stdin().read_to_end(&mut text).step("read standard input")?;
            serde_json::from_slice(&text).step_at("--resources: read", "-")?
        }
        Some(path) => {
            let text = std::fs::read(path).step_at("--resources: read", path)?;
            serde_json::from_slice(&text).step_at("--resources: read", path)?
        }
    };
    let placed = place::of(&record.cgroups);
    for weaker in resources::apply(&limits, &placed, &[], When::Changed)? {
        log.warn(&weaker);
    }
    Ok(0)
}

/// Returns the limits that were given as options.
fn typed(args: &UpdateArgs) -> Value {
    let mut all = Map::new();
    let mut put = |group: &str, key: &str, value: Option<Value>| {
        if let (Some(value), Value::Object(group)) =
            (value, all.entry(group).or_insert_with(|| json!({})))
        {
            group.insert(key.to_owned(), value);
        }
    };
    put("memory", "limit", args.memory.map(Into::into));
    put("memory", "swap", args.memory_swap.map(Into::into));
    put("memory", "reservation", args.memory_reservation.map(Into::into));
    put("cpu", "quota", args.cpu_quota.map(Into::into));
    put("cpu", "period", args.cpu_period.map(Into::into));
    put("cpu", "shares", args.cpu_share.map(Into::into));
    put("cpu", "cpus", args.cpuset_cpus.clone().map(Into::into));
    put("cpu", "mems", args.cpuset_mems.clone().map(Into::into));
    if let Some(limit) = args.pids_limit {
        put("pids", "limit", Some(limit.into()));
    }
    put("blockIO", "weight", args.blkio_weight.map(Into::into));
    Value::Object(all)
}
