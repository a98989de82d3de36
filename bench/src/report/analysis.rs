//! From records to what is reported: medians, intervals and ratios for each case and subject.

use std::collections::BTreeMap;

use crate::record::{
    Absent, Costs, Environment, Latency, Point, Record, Row, Spent, SubjectInfo, Unit,
};
use crate::stats::{self, Estimate};
use crate::subject::{Family, bases_of};

/// Marked rounds are left out as long as this many others remain.
const ENOUGH: usize = 6;

/// A run, analysed.
#[derive(Debug, Default)]
pub(crate) struct Analysis {
    /// The machine and the command.
    pub(crate) environment: Environment,
    /// What was measured.
    pub(crate) subjects: Vec<SubjectInfo>,
    /// What wasn't.
    pub(crate) absent: Vec<Absent>,
    /// What a reader should know.
    pub(crate) notes: Vec<String>,
    /// Cases in the order of the suites.
    pub(crate) cases: Vec<Case>,
    /// Counts.
    pub(crate) costs: Vec<Costs>,
    /// Seconds of one message and its answer: the fastest median of a case that is one message.
    pub(crate) round_trip: Option<f64>,
    /// Rounds that were finished.
    pub(crate) rounds: u32,
    /// Turns, and how many of them were marked.
    pub(crate) turns: (usize, usize),
    /// Seconds of all turns of each block, and where they went.
    pub(crate) spent: BTreeMap<String, (f64, Spent)>,
}

/// One case, on all subjects.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    /// Suite.
    pub(crate) suite: String,
    /// Name.
    pub(crate) name: String,
    /// Point of a curve.
    pub(crate) point: Option<Point>,
    /// What its values are.
    pub(crate) unit: Unit,
    /// One for each subject that has rows.
    pub(crate) cells: Vec<Cell>,
}

/// One case on one subject.
#[derive(Clone, Debug)]
pub(crate) struct Cell {
    /// Subject.
    pub(crate) subject: String,
    /// Seconds or bytes for one operation.
    pub(crate) value: Option<Estimate>,
    /// CPU seconds of caller and daemon for one operation.
    pub(crate) cpu: f64,
    /// CPU seconds of the daemon for one operation.
    pub(crate) daemon: f64,
    /// Name of the peer, and how many times longer this takes.
    pub(crate) peer: Option<(String, Estimate)>,
    /// The same for CPU time.
    pub(crate) peer_cpu: Option<Estimate>,
    /// The same, for the floor.
    pub(crate) floor: Option<(String, Estimate)>,
    /// Medians of the rounds' percentiles; NaN where a round has too few operations for one.
    pub(crate) latency: Option<Latency>,
    /// Operations of all rounds by how long they took, as in a row's `spread`.
    pub(crate) spread: BTreeMap<u16, u64>,
    /// Bytes per second.
    pub(crate) throughput: Option<f64>,
    /// Medians.
    pub(crate) rss: f64,
    /// Descriptors.
    pub(crate) fds: f64,
    /// Bytes written for one operation.
    pub(crate) written: f64,
    /// Every value that counted, by round.
    pub(crate) values: Vec<f64>,
    /// Rounds that the noise guard marked.
    pub(crate) marked: usize,
    /// What went wrong, in the first round in which it did, and in how many.
    pub(crate) error: Option<(String, usize)>,
    /// What is different and doesn't void the values.
    pub(crate) remark: Option<String>,
}

impl Analysis {
    /// Analyses records.
    pub(crate) fn of(records: &[Record]) -> Analysis {
        let mut analysis = Analysis::default();
        let mut rows: Vec<&Row> = Vec::new();
        for record in records {
            match record {
                Record::Environment(e) => analysis.environment = e.clone(),
                Record::Subject(s) => analysis.subjects.push(s.clone()),
                Record::Absent(a) => analysis.absent.push(a.clone()),
                Record::Note(n) => analysis.notes.push(n.clone()),
                Record::Costs(c) => analysis.costs.push(c.clone()),
                Record::Row(r) => rows.push(r),
                Record::Guard(g) => {
                    analysis.turns.0 += 1;
                    analysis.turns.1 += usize::from(g.noisy);
                    let (seconds, spent) = analysis.spent.entry(g.block.clone()).or_default();
                    *seconds += g.seconds;
                    spent.add(&g.spent);
                }
            }
        }
        analysis.rounds = rows.iter().map(|r| r.round + 1).max().unwrap_or(0);
        analysis.cases = cases(&rows, &analysis.subjects, analysis.environment.peer.as_deref());
        let order: Vec<_> =
            analysis.cases.iter().map(|c| (c.suite.clone(), c.name.clone())).collect();
        let rank = |c: &Costs| order.iter().position(|(s, n)| (s, n) == (&c.suite, &c.case));
        analysis.costs.sort_by_key(|c| rank(c).unwrap_or(order.len()));
        analysis.round_trip =
            analysis.costs.iter().filter_map(|c| analysis.single(c)).reduce(f64::min);
        analysis
    }

    /// Returns the cell of a case and a subject.
    pub(crate) fn cell(&self, suite: &str, case: &str, subject: &str) -> Option<&Cell> {
        let case = self.cases.iter().find(|c| (c.suite.as_str(), c.name.as_str()) == (suite, case));
        case?.cells.iter().find(|c| c.subject == subject)
    }

    /// Returns the median time of a case whose every operation is one message.
    fn single(&self, costs: &Costs) -> Option<f64> {
        if (each(costs) - 1.0).abs() > 0.05 || costs.ops < 50 {
            return None;
        }
        Some(self.cell(&costs.suite, &costs.case, &costs.subject)?.latency?.p50)
    }

    /// Returns the time that the messages of one operation take whoever answers them, and whether
    /// the peer has done all by then.
    pub(crate) fn floor(&self, costs: &Costs) -> Option<(f64, bool)> {
        let floor = each(costs) * self.round_trip?;
        let (peer, _) = self.cell(&costs.suite, &costs.case, &costs.subject)?.peer.clone()?;
        let peer = self.cell(&costs.suite, &costs.case, &peer)?.value?;
        Some((floor, floor > peer.median))
    }

    /// Returns the suites that have cases, in their order.
    pub(crate) fn suites(&self) -> Vec<&str> {
        let mut all: Vec<&str> = Vec::new();
        for case in &self.cases {
            if !all.contains(&case.suite.as_str()) {
                all.push(&case.suite);
            }
        }
        all
    }
}

fn suite_rank(name: &str) -> usize {
    let known = crate::suite::SUITES;
    known.iter().position(|(n, _)| *n == name).unwrap_or(known.len())
}

fn cases(rows: &[&Row], subjects: &[SubjectInfo], peer: Option<&str>) -> Vec<Case> {
    let mut grouped: BTreeMap<(&str, &str), Vec<&Row>> = BTreeMap::new();
    let mut order: Vec<(&str, &str)> = Vec::new();
    for row in rows {
        let at = (row.suite.as_str(), row.case.as_str());
        grouped.entry(at).or_insert_with(|| {
            order.push(at);
            Vec::new()
        });
        grouped.entry(at).and_modify(|g| g.push(row));
    }
    let blocks: Vec<_> = crate::suite::all().iter().map(|b| (b.suite, b.name)).collect();
    let block = |at: &(&str, &str)| {
        let name = grouped.get(at).and_then(|g| g.first()).map_or("", |r| r.block.as_str());
        blocks.iter().position(|b| *b == (at.0, name)).unwrap_or(blocks.len())
    };
    order.sort_by_key(|at| (suite_rank(at.0), block(at)));
    let case = |at: (&str, &str)| {
        let group = grouped.get(&at)?;
        let has = |name: &str| group.iter().any(|r| r.subject == name);
        let cells = subjects.iter().filter(|s| has(&s.name)).map(|s| cell(s, group, peer));
        Some(Case {
            suite: at.0.to_owned(),
            name: at.1.to_owned(),
            point: group.iter().find_map(|r| r.point.clone()),
            unit: group.first()?.unit,
            cells: cells.collect(),
        })
    };
    order.into_iter().filter_map(case).collect()
}

/// Returns the messages of one operation.
fn each(costs: &Costs) -> f64 {
    costs.messages.values().sum::<u64>() as f64 / costs.ops.max(1) as f64
}

fn family_of(name: &str) -> Family {
    let all = [Family::FileSystem, Family::Shim, Family::Container, Family::Engine];
    all.into_iter().find(|f| f.name() == name).unwrap_or(Family::FileSystem)
}

/// CPU seconds for one operation.
fn cpu(row: &Row) -> f64 {
    (row.caller + row.daemon) / row.ops.max(1) as f64
}

fn cell(subject: &SubjectInfo, group: &[&Row], chosen: Option<&str>) -> Cell {
    let own: Vec<&Row> = group.iter().filter(|r| r.subject == subject.name).copied().collect();
    let mut good: Vec<&Row> = own.iter().filter(|r| r.value.is_some()).copied().collect();
    let marked = good.iter().filter(|r| r.noisy).count();
    if good.len() - marked >= ENOUGH {
        good.retain(|r| !r.noisy);
    }
    let values: Vec<f64> = good.iter().filter_map(|r| r.value).collect();
    let middle = |of: &dyn Fn(&Row) -> f64| {
        let all: Vec<f64> = good.iter().map(|r| of(r)).collect();
        stats::median(&all).unwrap_or(0.0)
    };
    let present = |name: &str| group.iter().any(|r| r.subject == name && r.value.is_some());
    let has = |name: &str| group.iter().any(|r| r.subject == name);
    let [usual, floor] = bases_of(family_of(&subject.family), &subject.name, has, present);
    let peer = chosen.map_or(usual, str::to_owned);
    let against = |base: &str, of: &dyn Fn(&Row) -> f64| {
        if base == subject.name { None } else { stats::ratio(&pairs(&own, group, base, of)) }
    };
    let value = |r: &Row| r.value.unwrap_or(0.0);
    let errors: Vec<_> = own.iter().filter_map(|r| r.error.clone()).collect();
    Cell {
        subject: subject.name.clone(),
        value: stats::estimate(&values),
        cpu: middle(&cpu),
        daemon: middle(&|r| r.daemon / r.ops.max(1) as f64),
        peer: against(&peer, &value).map(|e| (peer.clone(), e)),
        peer_cpu: against(&peer, &cpu),
        floor: against(&floor, &value).map(|e| (floor.clone(), e)),
        latency: latency(&good),
        spread: spread(&good),
        throughput: good
            .first()
            .filter(|r| r.bytes > 0)
            .map(|_| middle(&|r| r.bytes as f64 / (value(r) * r.ops as f64).max(1e-9))),
        rss: middle(&|r| r.rss as f64),
        fds: middle(&|r| r.fds as f64),
        written: middle(&|r| r.written as f64 / r.ops.max(1) as f64),
        values,
        marked,
        remark: own.iter().find_map(|r| r.remark.clone()),
        error: errors.first().map(|first| (first.clone(), errors.len())),
    }
}

/// Returns what this and the base needed in each round that has both.
fn pairs(own: &[&Row], group: &[&Row], base: &str, of: &dyn Fn(&Row) -> f64) -> Vec<(f64, f64)> {
    let pair = |row: &&Row| {
        let both = |o: &&&Row| o.round == row.round && o.subject == base && o.value.is_some();
        let other = group.iter().find(both)?;
        row.value?;
        Some((row.noisy || other.noisy, (of(row), of(other))))
    };
    let all: Vec<_> = own.iter().filter_map(pair).collect();
    let quiet = all.iter().filter(|(noisy, _)| !noisy).count();
    let kept = all.into_iter().filter(|(noisy, _)| !noisy || quiet < ENOUGH);
    kept.map(|(_, pair)| pair).collect()
}

fn spread(good: &[&Row]) -> BTreeMap<u16, u64> {
    let mut all = BTreeMap::new();
    for (step, count) in good.iter().flat_map(|r| &r.spread) {
        *all.entry(*step).or_default() += count;
    }
    all
}

fn latency(good: &[&Row]) -> Option<Latency> {
    let all: Vec<Latency> = good.iter().filter_map(|r| r.latency).collect();
    let ops = good.iter().map(|r| r.ops).min().unwrap_or(0);
    let middle = |of: fn(&Latency) -> f64| {
        let values: Vec<_> = all.iter().map(of).collect();
        stats::median(&values)
    };
    // Of fewer operations than that, a percentile would only be another name of the slowest one.
    let of_many = |least: u64, value: f64| if ops >= least { value } else { f64::NAN };
    Some(Latency {
        p50: middle(|l| l.p50)?,
        p90: of_many(10, middle(|l| l.p90)?),
        p99: of_many(100, middle(|l| l.p99)?),
        p999: of_many(1000, middle(|l| l.p999)?),
        max: middle(|l| l.max)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn records(rows: Vec<Row>) -> Vec<Record> {
        let subject = |name: &str| {
            Record::Subject(SubjectInfo {
                name: name.into(),
                family: "file system".into(),
                version: "1".into(),
                how: String::new(),
            })
        };
        let subjects = ["bare", "overlay", "ours", "ours@user", "overlay@user"].map(subject);
        subjects.into_iter().chain(rows.into_iter().map(|r| Record::Row(Box::new(r)))).collect()
    }

    fn row(round: u32, subject: &str, value: f64) -> Row {
        Row {
            suite: "ops".into(),
            case: "stat".into(),
            subject: subject.into(),
            round,
            ops: 1,
            value: Some(value),
            caller: value / 2.0,
            ..Row::default()
        }
    }

    #[test]
    fn ratios_are_paired_and_rootless_ones_have_a_rootless_peer() {
        let mut rows = Vec::new();
        for round in 0..10 {
            let slow = f64::from(1 + round);
            rows.push(row(round, "overlay", slow));
            rows.push(row(round, "ours", 3.0 * slow));
            rows.push(row(round, "overlay@user", 10.0 * slow));
            rows.push(row(round, "ours@user", 5.0 * slow));
        }
        let analysis = Analysis::of(&records(rows));
        let cell = analysis.cell("ops", "stat", "ours").expect("a cell");
        let (peer, ratio) = cell.peer.clone().expect("a ratio");
        assert_eq!(
            (peer.as_str(), ratio.median, ratio.low, ratio.high),
            ("overlay", 3.0, 3.0, 3.0)
        );
        let cell = analysis.cell("ops", "stat", "ours@user").expect("a cell");
        let (peer, ratio) = cell.peer.clone().expect("a ratio");
        assert_eq!((peer.as_str(), ratio.median), ("overlay@user", 0.5));
        assert_eq!(cell.floor, None);
    }

    #[test]
    fn marked_rounds_are_left_out_while_enough_others_remain() {
        let mut rows: Vec<_> = (0..10).map(|n| row(n, "overlay", 1.0)).collect();
        for row in rows.iter_mut().take(3) {
            (row.noisy, row.value) = (true, Some(100.0));
        }
        let analysis = Analysis::of(&records(rows.clone()));
        let cell = analysis.cell("ops", "stat", "overlay").expect("a cell");
        assert_eq!((cell.value.map(|v| (v.n, v.high)), cell.marked), (Some((7, 1.0)), 3));
        for row in rows.iter_mut().take(5) {
            row.noisy = true;
        }
        let analysis = Analysis::of(&records(rows));
        let cell = analysis.cell("ops", "stat", "overlay").expect("a cell");
        assert_eq!((cell.value.map(|v| v.n), cell.marked), (Some(10), 5));
    }

    #[test]
    fn a_percentile_needs_operations() {
        let of = |ops: u64| {
            let known = Latency { p50: 1.0, p90: 2.0, p99: 3.0, p999: 4.0, max: 5.0 };
            let one = Row { ops, latency: Some(known), ..row(0, "ours", 1.0) };
            let analysis = Analysis::of(&records(vec![one]));
            let cell = analysis.cell("ops", "stat", "ours").expect("a cell");
            cell.latency.expect("percentiles")
        };
        assert_eq!((of(1000).p99, of(1000).p999), (3.0, 4.0));
        assert!(of(999).p999.is_nan() && of(999).p99 == 3.0 && of(99).p99.is_nan());
        assert!(of(9).p90.is_nan() && of(1).p50 == 1.0);
    }

    #[test]
    fn what_failed_has_a_reason_and_no_value() {
        let mut bad = row(0, "ours", 1.0);
        (bad.value, bad.error) = (None, Some("void: the result differs".into()));
        let analysis = Analysis::of(&records(vec![row(0, "overlay", 1.0), bad]));
        let cell = analysis.cell("ops", "stat", "ours").expect("a cell");
        assert_eq!(cell.value, None);
        assert_eq!(cell.error, Some(("void: the result differs".into(), 1)));
        assert_eq!(cell.peer, None);
    }
}
