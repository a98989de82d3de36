//! `bench compare`: what has changed from one run to another.

use std::path::PathBuf;

use clap::Args;

use crate::report::compare::changes;
use crate::report::{Analysis, load};

#[derive(Debug, Args)]
pub(super) struct CompareArgs {
    /// The run before: a directory with records.jsonl.
    before: PathBuf,
    /// The run after.
    after: PathBuf,
    /// End with exit code 3 if anything got slower by more than this many percent, and surely so
    /// (its 95 % interval doesn't hold "as fast").
    #[arg(long, value_name = "PERCENT", value_parser = percent)]
    fail_if_slower: Option<f64>,
    /// Also print what hasn't changed.
    #[arg(long)]
    all: bool,
}

fn percent(text: &str) -> Result<f64, String> {
    let value = text.trim_end_matches('%').parse::<f64>();
    let value = value.ok().filter(|v| v.is_finite() && *v >= 0.0);
    value.ok_or_else(|| "give a percentage, 0 or more, as in 5 or 5%".into())
}

/// Prints the changes; returns whether something is slower than allowed.
pub(super) fn compare(args: &CompareArgs) -> Result<bool, String> {
    let analysis = |path| load(path).map(|records| Analysis::of(&records));
    let (before, after) = (analysis(&args.before)?, analysis(&args.after)?);
    let mut changes = changes(&before, &after);
    if changes.is_empty() {
        return Err("the two runs have no case on the same subject".into());
    }
    changes.sort_by(|a, b| b.ratio.median.total_cmp(&a.ratio.median));
    let same = changes.iter().filter(|c| c.same()).count();
    let mut failed = false;
    for change in changes.iter().filter(|c| args.all || !c.same()) {
        let slower = args.fail_if_slower.is_some_and(|p| change.slower(p));
        failed |= slower;
        let what = match (change.same(), change.ratio.median > 1.0) {
            (true, _) => "no difference",
            (_, true) if slower => "SLOWER than allowed",
            (_, true) => "slower",
            (_, false) => "faster",
        };
        println!(
            "{:>6.2} [{:.2}, {:.2}]  {:<64} {} -> {}  {what}",
            change.ratio.median,
            change.ratio.low,
            change.ratio.high,
            change.name,
            change.values.0,
            change.values.1
        );
    }
    println!("{} compared, {same} without a difference", changes.len());
    Ok(failed)
}
