//! `state`, `list` and `ps`.

use std::fs;
use std::path::Path;
use std::process::Command;

use nix::unistd::{Uid, User};
use serde_json::{Value, json};

use crate::cgroup::place;
use crate::error::{Context, Error, Result};
use crate::oci::options::{IdArgs, ListArgs, ListFormat, PsArgs};
use crate::oci::print;
use crate::oci::state::{Record, Status, peek};
use crate::store::rfc3339;

/// Prints the state of a container.
pub(super) fn state(args: &IdArgs, root: &Path) -> Result<u8> {
    let (record, status) = peek(root, &args.id)?;
    print(&format!("{:#}\n", describe(&record, status))).map(|()| 0)
}

/// Returns the state: what the specification names, and what runc adds.
fn describe(record: &Record, status: Status) -> Value {
    let mut all = record.told.clone();
    let pid = record.first.filter(|_| status != Status::Stopped).map_or(0, |f| f.pid);
    all.insert("status".into(), status.word().into());
    all.insert("pid".into(), pid.into());
    all.insert("rootfs".into(), record.rootfs.to_string_lossy().into());
    all.insert("created".into(), rfc3339(record.created).into());
    let owner = User::from_uid(Uid::from_raw(record.owner)).ok().flatten();
    all.insert("owner".into(), owner.map_or(record.owner.to_string(), |u| u.name).into());
    Value::Object(all)
}

/// Lists containers.
pub(super) fn list(args: &ListArgs, root: &Path) -> Result<u8> {
    let mut all = Vec::new();
    for entry in fs::read_dir(root).into_iter().flatten().flatten() {
        // One that goes meanwhile isn't listed.
        if let Ok((record, status)) = peek(root, &entry.file_name().to_string_lossy()) {
            all.push((record, status));
        }
    }
    all.sort_by(|a, b| a.0.id.cmp(&b.0.id));
    if args.quiet {
        let names: String = all.iter().map(|(r, _)| format!("{}\n", r.id)).collect();
        return print(&names).map(|()| 0);
    }
    let rows: Vec<Value> = all.iter().map(|(r, s)| describe(r, *s)).collect();
    if args.format == ListFormat::Json {
        return print(&format!("{}\n", Value::from(rows))).map(|()| 0);
    }
    let mut table = vec![["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"].map(str::to_owned)];
    for row in rows {
        let cell = |key: &str| match row.get(key) {
            Some(Value::String(text)) => text.clone(),
            Some(other) => other.to_string(),
            None => String::new(),
        };
        table.push(["id", "pid", "status", "bundle", "created", "owner"].map(cell));
    }
    print(&columns(&table)).map(|()| 0)
}

fn columns(table: &[[String; 6]]) -> String {
    let width =
        |n: usize| table.iter().filter_map(|row| row.get(n)).map(String::len).max().unwrap_or(0);
    let widths: Vec<usize> = (0..6).map(width).collect();
    let line = |row: &[String; 6]| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        cells.collect::<Vec<_>>().join("   ").trim_end().to_owned() + "\n"
    };
    table.iter().map(line).collect()
}

/// Lists the processes of a container.
pub(super) fn ps(args: &PsArgs, root: &Path) -> Result<u8> {
    let (record, status) = peek(root, &args.id)?;
    if status == Status::Stopped {
        let what = "it has no processes, as it is stopped";
        return Err(Error::new(format!("container {}", args.id), what));
    }
    let pids = match record.cgroups.is_empty() {
        false => place::processes(&record.cgroups),
        // Without a cgroup, who belongs to it is known by the pid namespace.
        true => same_namespace(record.first.map_or(0, |f| f.pid)),
    };
    if args.format == ListFormat::Json {
        return print(&format!("{}\n", json!(pids))).map(|()| 0);
    }
    let options: Vec<String> = match args.options.is_empty() {
        true => vec!["-ef".to_owned()],
        false => args.options.clone(),
    };
    let out = Command::new("ps").args(&options).output().step_at("start", "ps")?;
    if !out.status.success() {
        let said = String::from_utf8_lossy(&out.stderr).trim().to_owned();
        return Err(Error::new("ps", said));
    }
    print(&rows_of(&String::from_utf8_lossy(&out.stdout), &pids)?).map(|()| 0)
}

/// Returns the heading of a list of ps(1), and the rows of some processes.
fn rows_of(list: &str, pids: &[i32]) -> Result<String> {
    let heading = list.lines().next().unwrap_or_default();
    let column = heading.split_whitespace().position(|word| word == "PID");
    let column = column.ok_or_else(|| Error::new("ps", "these options show no PID"))?;
    let is_ours = |line: &&str| {
        let pid = line.split_whitespace().nth(column).and_then(|p| p.parse::<i32>().ok());
        pid.is_some_and(|pid| pids.contains(&pid))
    };
    let rows = list.lines().skip(1).filter(is_ours);
    Ok(std::iter::once(heading).chain(rows).map(|line| format!("{line}\n")).collect())
}

fn same_namespace(first: i32) -> Vec<i32> {
    let of = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/pid")).ok();
    let Some(own) = of(&first.to_string()) else { return Vec::new() };
    if Some(&own) == of("self").as_ref() {
        return vec![first];
    }
    let numbers = fs::read_dir("/proc").into_iter().flatten().flatten();
    let mut all: Vec<i32> = numbers
        .filter_map(|e| e.file_name().to_str()?.parse().ok())
        .filter(|pid: &i32| of(&pid.to_string()).as_ref() == Some(&own))
        .collect();
    all.sort_unstable();
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_chosen_by_the_column_of_the_heading() {
        let list = "UID PID CMD\nroot 7 sh\nroot 70 7\n";
        assert_eq!(rows_of(list, &[7]).unwrap(), "UID PID CMD\nroot 7 sh\n");
        assert!(rows_of("CMD\nsh\n", &[7]).is_err());
    }
}
