//! Medians, paired ratios, and how they are written down.

use std::fmt::Write;
use std::path::Path;

use serde_json::{Value, json};

use crate::cli::RunArgs;
use crate::measure::Cost;
use crate::messages::PerOperation;
use crate::subject::{Kind, Subject};
use crate::workload::{self, Layer, Workload};

/// One measurement.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Row {
    pub(crate) round: u32,
    pub(crate) kind: Kind,
    pub(crate) layer: Layer,
    pub(crate) work: Workload,
    pub(crate) cost: Cost,
}

type Counted = Result<[(&'static str, PerOperation); 2], String>;

/// Everything that was found.
#[derive(Debug)]
pub(crate) struct Report {
    rows: Vec<Row>,
    absent: Vec<(Kind, String)>,
    messages: Vec<(Kind, Counted)>,
    files: u32,
}

impl Report {
    pub(crate) fn new(args: &RunArgs) -> Report {
        Report { rows: Vec::new(), absent: Vec::new(), messages: Vec::new(), files: args.files }
    }

    /// Notes that a subject can't be measured here, and why.
    pub(crate) fn absent(&mut self, kind: Kind, why: String) {
        self.absent.push((kind, why));
    }

    /// Adds the measurements of a whole round.
    pub(crate) fn add(&mut self, rows: Vec<Row>) {
        self.rows.extend(rows);
    }

    /// Adds the messages of a subject, or why they can't be counted.
    pub(crate) fn messages(&mut self, kind: Kind, counted: Counted) {
        self.messages.push((kind, counted));
    }

    /// Prints the report, and writes the measurements to a file if asked.
    pub(crate) fn finish(&self, args: &RunArgs, subjects: &[Subject]) -> Result<(), String> {
        print!("{}", self.text(subjects));
        match &args.json {
            None => Ok(()),
            Some(file) => {
                let text = format!("{:#}\n", self.json(subjects));
                std::fs::write(file, text).map_err(|e| format!("{}: {e}", file.display()))
            }
        }
    }

    fn of(&self, kind: Kind, layer: Layer, work: Workload) -> impl Iterator<Item = &Row> {
        let wanted = move |r: &&Row| (r.kind, r.layer, r.work) == (kind, layer, work);
        self.rows.iter().filter(wanted)
    }

    /// Returns the median, over the rounds that have both, of what `kind` needs for what `base`
    /// needs one.
    fn ratio(
        &self,
        kind: Kind,
        base: Kind,
        (layer, work): (Layer, Workload),
        value: impl Fn(&Cost) -> f64,
    ) -> Option<f64> {
        let ratios = self.of(kind, layer, work).filter_map(|row| {
            let other = self.of(base, layer, work).find(|o| o.round == row.round)?;
            Some(value(&row.cost) / value(&other.cost))
        });
        median(ratios.collect())
    }

    fn text(&self, subjects: &[Subject]) -> String {
        let mut out = String::new();
        line(&mut out, format_args!("{}", machine()));
        for subject in subjects {
            line(&mut out, format_args!("{:<16}{}", subject.kind.name(), subject.version));
        }
        for (kind, why) in &self.absent {
            line(&mut out, format_args!("{:<16}not measured: {why}", kind.name()));
        }
        let rounds = self.rows.iter().map(|r| r.round + 1).max().unwrap_or(0);
        let files = self.files;
        line(
            &mut out,
            format_args!("\n{files} files, {rounds} rounds; medians; CPU is caller + daemon"),
        );
        line(
            &mut out,
            format_args!(
                "{:<18}{:<16}{:>9}{:>9}{:>9}  ratio of wall, CPU to overlayfs / to fuse-overlayfs",
                "work", "subject", "wall s", "CPU s", "daemon s"
            ),
        );
        for work in workload::ALL {
            for subject in subjects {
                self.write_line(&mut out, work, subject.kind);
            }
        }
        self.write_messages(&mut out);
        out
    }

    fn write_line(&self, out: &mut String, at: (Layer, Workload), kind: Kind) {
        let of = |value: fn(&Cost) -> f64| {
            median(self.of(kind, at.0, at.1).map(|r| value(&r.cost)).collect())
        };
        let (Some(wall), Some(cpu), Some(daemon)) =
            (of(|c| c.wall), of(Cost::cpu), of(|c| c.daemon))
        else {
            return;
        };
        let pair = |base| {
            let number = |r: Option<f64>| r.map_or("-".to_owned(), |r| format!("{r:.2}"));
            let wall = self.ratio(kind, base, at, |c| c.wall);
            format!("{:>6} {:>6}", number(wall), number(self.ratio(kind, base, at, Cost::cpu)))
        };
        line(
            out,
            format_args!(
                "{:<18}{:<16}{wall:>9.3}{cpu:>9.3}{daemon:>9.3}  {} / {}",
                workload::name(at.0, at.1),
                kind.name(),
                pair(Kind::Overlayfs),
                pair(Kind::FuseOverlayfs)
            ),
        );
    }

    fn write_messages(&self, out: &mut String) {
        for (kind, counted) in &self.messages {
            match counted {
                Err(why) => {
                    line(out, format_args!("\nmessages of {}: not counted: {why}", kind.name()))
                }
                Ok(operations) => {
                    line(
                        out,
                        format_args!("\nFUSE messages of {}, exact, per operation", kind.name()),
                    );
                    for (operation, messages) in operations {
                        let total = messages.values().fold(0.0, |sum, n| sum + n);
                        let parts: Vec<_> =
                            messages.iter().map(|(name, n)| format!("{n:.2} {name}")).collect();
                        line(
                            out,
                            format_args!("  {operation:<24}{total:>6.2}  ({})", parts.join(", ")),
                        );
                    }
                }
            }
        }
    }

    fn json(&self, subjects: &[Subject]) -> Value {
        let rows = self.rows.iter().map(|r| {
            json!({
                "round": r.round, "subject": r.kind.name(),
                "work": workload::name(r.layer, r.work),
                "wall": r.cost.wall, "caller_cpu": r.cost.caller, "daemon_cpu": r.cost.daemon,
            })
        });
        let absent = self.absent.iter().map(|(k, why)| json!({"subject": k.name(), "why": why}));
        let versions =
            subjects.iter().map(|s| json!({"subject": s.kind.name(), "version": s.version}));
        let messages = self.messages.iter().map(|(kind, counted)| match counted {
            Err(why) => json!({"subject": kind.name(), "why_not": why}),
            Ok(operations) => {
                let all =
                    operations.iter().map(|(name, m)| json!({"operation": name, "messages": m}));
                json!({"subject": kind.name(), "per_operation": all.collect::<Vec<_>>()})
            }
        });
        json!({
            "machine": machine(),
            "files": self.files,
            "subjects": versions.collect::<Vec<_>>(),
            "absent": absent.collect::<Vec<_>>(),
            "measurements": rows.collect::<Vec<_>>(),
            "messages": messages.collect::<Vec<_>>(),
        })
    }
}

fn line(out: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing to a string can't fail.
    writeln!(out, "{text}").unwrap_or_default();
}

/// Returns the middle value; between two, their mean.
fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() % 2 {
        1 => Some(values[middle]),
        _ if values.is_empty() => None,
        _ => Some((values[middle - 1] + values[middle]) / 2.0),
    }
}

/// Returns kernel, processor and load: what a figure means nothing without.
fn machine() -> String {
    let read = |path: &str| std::fs::read_to_string(Path::new(path)).unwrap_or_default();
    let cpu = read("/proc/cpuinfo");
    let model = cpu.lines().find_map(|l| l.strip_prefix("model name")?.split_once(": "));
    let count = cpu.lines().filter(|l| l.starts_with("processor")).count();
    let release = read("/proc/sys/kernel/osrelease");
    let load = read("/proc/loadavg");
    let load: Vec<_> = load.split(' ').take(3).collect();
    format!(
        "Linux {}, {count} x {}, load {}",
        release.trim(),
        model.map_or("unknown processor", |m| m.1),
        load.join(" ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), Some(2.5));
        assert_eq!(median(Vec::new()), None);
    }

    #[test]
    fn ratios_are_taken_within_a_round() {
        let row = |round, kind, wall| Row {
            round,
            kind,
            layer: Layer::Upper,
            work: Workload::Untar,
            cost: Cost { wall, caller: wall, daemon: 0.0 },
        };
        let rows = vec![
            row(0, Kind::Overlayfs, 1.0),
            row(0, Kind::Unionfs, 2.0),
            row(1, Kind::Overlayfs, 10.0),
            row(1, Kind::Unionfs, 20.0),
            row(2, Kind::Unionfs, 99.0),
        ];
        let report = Report { rows, absent: Vec::new(), messages: Vec::new(), files: 1 };
        let at = (Layer::Upper, Workload::Untar);
        let ratio = report.ratio(Kind::Unionfs, Kind::Overlayfs, at, |c| c.wall);
        assert_eq!(ratio, Some(2.0));
    }
}
