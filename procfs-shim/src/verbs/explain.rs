//! `procfs-shim explain`: renders files as the daemon does, and says where each figure is from.

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use clap::Args;
use serde_json::{Value, json};

use crate::cgroup::{Controller, Tree, Version};
use crate::error::StartError;
use crate::files::formula::Formula;
use crate::files::{Content, Row, TABLE, fields};
use crate::host::process::Pid;
use crate::host::{Host, trace};
use crate::view::{Rules, Views};

/// Arguments.
#[derive(Debug, Args)]
pub struct ExplainArgs {
    /// File, by its path below the mount or its last part: meminfo, pressure/cpu, online [default:
    /// all]
    #[arg(value_name = "FILE")]
    file: Option<String>,

    /// Field of it, such as MemFree
    #[arg(value_name = "FIELD")]
    field: Option<String>,

    /// As the process PID would read it [default: this one]
    #[arg(long, value_name = "PID")]
    pid: Option<u32>,

    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Prints field, value, source and formula of the files that are asked for.
///
/// # Errors
/// There is no such file, field or process.
pub fn explain(args: &ExplainArgs) -> Result<ExitCode, StartError> {
    let rows: Vec<&Row> = TABLE.iter().filter(|row| is_meant(row, args.file.as_deref())).collect();
    if rows.is_empty() {
        return Err(usage(format!(
            "explain {}: no such file is served: see `procfs-shim explain` for all",
            args.file.as_deref().unwrap_or_default()
        )));
    }
    let failed = |e: crate::error::ReadError| StartError::Failed(format!("explain: {e}"));
    let host = Host::open(Path::new("/")).map_err(failed)?;
    let tree = super::hierarchy()?;
    let version = tree.tree(Controller::Memory).map_or(Version::V2, Tree::version);
    let views = Views::by_reader(host, tree, Rules::USUAL, None).map_err(failed)?;
    let reader = Pid(args.pid.unwrap_or_else(std::process::id));
    let explained: Vec<Value> =
        rows.iter().map(|row| file(&views, version, row, reader, args)).collect();
    let has_fields = |e: &Value| e["fields"].as_array().is_some_and(|f| !f.is_empty());
    if let Some(field) = &args.field
        && !explained.iter().any(has_fields)
    {
        return Err(usage(format!("explain {field}: the file has no such field")));
    }
    let text = match args.json {
        true => format!("{:#}\n", Value::from(explained)),
        false => explained.iter().map(in_words).collect(),
    };
    super::print(&text)
}

fn usage(what: String) -> StartError {
    StartError::Usage(what)
}

fn is_meant(row: &Row, asked: Option<&str>) -> bool {
    let Some(asked) = asked.map(|a| a.trim_start_matches('/')) else { return true };
    row.path == asked || row.path.strip_suffix(asked).is_some_and(|rest| rest.ends_with('/'))
}

/// What no renderer has told of.
const UNKNOWN: Formula = Formula::new("the machine", "as it is");

fn file(views: &Views, version: Version, row: &Row, reader: Pid, args: &ExplainArgs) -> Value {
    let (made, trace) = trace::of(|| views.of(reader).and_then(|view| (row.render)(&view)));
    let (text, told) = match made {
        Ok(Content::Text(text)) => (String::from_utf8_lossy(&text).into_owned(), None),
        Ok(Content::Host) => {
            (machine(views, row), Some("nothing but the machine limits it".into()))
        }
        Err(e) => (machine(views, row), Some(e.to_string())),
    };
    let is_meant = |name: &str| args.field.as_deref().is_none_or(|f| f == name);
    let fields = fields::split(row.path, &text).into_iter().filter(|(name, _)| is_meant(name));
    let field = |(name, value): (&str, &str)| match &told {
        Some(_) => {
            json!({"field": name, "value": value, "source": format!("/{}", row.path), "formula": "the machine's"})
        }
        None => {
            let of = trace.figure(name).unwrap_or(UNKNOWN);
            let formula = fields::in_words_of(version, of.words);
            json!({"field": name, "value": value, "source": of.source, "formula": formula})
        }
    };
    json!({
        "file": row.path,
        "pid": reader.0,
        "machine": told,
        "reads": trace.reads,
        "fields": fields.map(field).collect::<Vec<_>>(),
    })
}

fn machine(views: &Views, row: &Row) -> String {
    views.host().text(row.fallback).unwrap_or_default()
}

fn in_words(file: &Value) -> String {
    let of = |value: &Value, name: &str| value[name].as_str().unwrap_or_default().to_owned();
    let list = |name: &str| file[name].as_array().cloned().unwrap_or_default();
    if list("fields").is_empty() {
        return String::new();
    }
    let mut text = format!("{} for process {}\n", of(file, "file"), file["pid"]);
    if let Some(why) = file["machine"].as_str() {
        text.push_str(&format!("  the machine's own: {why}\n"));
    }
    for read in list("reads").iter().filter_map(Value::as_str) {
        text.push_str(&format!("  reads {read}\n"));
    }
    for field in list("fields") {
        text.push_str(&format!(
            "  {} = {}  <- {}: {}\n",
            of(&field, "field"),
            of(&field, "value"),
            of(&field, "source"),
            of(&field, "formula"),
        ));
    }
    text
}

/// Writes to standard output, whose reader may have enough (`| head`).
pub(super) fn print(text: &str) -> Result<ExitCode, StartError> {
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(StartError::Failed(format!("write to standard output: {e}")))
        }
        _ => Ok(ExitCode::SUCCESS),
    }
}
