//! Records on disk, and the reports that are made of them.

mod analysis;
mod csv;
mod ecdf;
mod html;
mod hyperfine;
mod markdown;
mod svg;
mod text;

pub(crate) mod compare;

pub(crate) use analysis::Analysis;

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;

use crate::record::{FILE, Record};

/// The records of a run, written down as they come.
#[derive(Debug)]
pub(crate) struct Log {
    file: File,
    /// All so far.
    pub(crate) records: Vec<Record>,
}

impl Log {
    /// Begins a new file in `dir`.
    pub(crate) fn create(dir: &Path) -> Result<Log, String> {
        let path = dir.join(FILE);
        let file = File::create(&path).map_err(|e| format!("{}: {e}", path.display()))?;
        Ok(Log { file, records: Vec::new() })
    }

    /// Adds a record.
    pub(crate) fn add(&mut self, record: Record) -> Result<(), String> {
        let mut line = serde_json::to_string(&record).map_err(|e| format!("{FILE}: {e}"))?;
        line.push('\n');
        self.file.write_all(line.as_bytes()).map_err(|e| format!("{FILE}: {e}"))?;
        self.records.push(record);
        Ok(())
    }
}

/// Reads the records of a run: a directory with `records.jsonl`, or such a file.
pub(crate) fn load(path: &Path) -> Result<Vec<Record>, String> {
    let path = if path.is_dir() { path.join(FILE) } else { path.to_path_buf() };
    let failed = |e: &dyn std::fmt::Display| format!("{}: {e}", path.display());
    let file = File::open(&path).map_err(|e| failed(&e))?;
    let mut records = Vec::new();
    for (n, line) in BufReader::new(file).lines().enumerate() {
        let line = line.map_err(|e| failed(&e))?;
        let record = serde_json::from_str(&line);
        records.push(record.map_err(|e| failed(&format!("line {}: {e}", n + 1)))?);
    }
    Ok(records)
}

/// Writes all reports into `dir` and prints the short one.
pub(crate) fn write(dir: &Path, records: &[Record]) -> Result<(), String> {
    let analysis = Analysis::of(records);
    let reports = [
        ("results.csv", csv::render(&analysis)),
        ("hyperfine.json", hyperfine::render(&analysis)),
        ("report.md", markdown::render(&analysis)),
        ("report.html", html::render(&analysis)),
    ];
    for (name, text) in reports {
        let path = dir.join(name);
        fs::write(&path, text).map_err(|e| format!("{}: {e}", path.display()))?;
    }
    let mut text = text::render(&analysis);
    text.push_str(&format!(
        "\nRecords and reports are in {}: records.jsonl, results.csv, hyperfine.json, report.md, report.html\n",
        dir.display()
    ));
    match std::io::stdout().lock().write_all(text.as_bytes()) {
        // Whoever read it has seen enough.
        Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(format!("standard output: {e}"))
        }
        _ => Ok(()),
    }
}
