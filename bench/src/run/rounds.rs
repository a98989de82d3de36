//! The rounds: every block on every subject, in an order that changes.

use std::collections::BTreeMap;
use std::io;
use std::time::Instant;

use fastrand::Rng;

use super::guard::NoiseGuard;
use super::link::{Ended, turn};
use super::progress::Progress;
use super::{Run, limit};
use crate::bed::protocol::Mode;
use crate::record::{Guard, Record, Row, Spent};
use crate::subject::{Family, Kind, Subject};
use crate::suite::Block;

/// What the same work gave on a plain directory, by suite and case.
type Expected = BTreeMap<(String, String), (String, String)>;

impl Run {
    /// Does all rounds; returns false if an end was asked for before.
    pub(super) fn rounds(&mut self) -> io::Result<bool> {
        let blocks = self.plan.blocks.clone();
        let turns: usize = blocks.iter().map(|b| self.able(b).len()).sum();
        let progress = Progress::new((turns * self.plan.rounds as usize) as u64);
        let mut expected = Expected::new();
        let mut guard = NoiseGuard::new();
        let mut rng = Rng::with_seed(self.plan.seed);
        for round in 0..self.plan.rounds {
            let start = Instant::now();
            let mut finished = Vec::new();
            let mut order = blocks.clone();
            rng.shuffle(&mut order);
            for block in &order {
                let mut subjects = self.able(block);
                rng.shuffle(&mut subjects);
                if round == 0 {
                    self.expect(block, &mut expected)?;
                }
                for subject in &subjects {
                    progress.doing(&format!("{}/{} on {}", block.suite, block.name, subject.name));
                    let began = Instant::now();
                    guard.before();
                    let job = self.job(subject, Some(block), Mode::Time)?;
                    let identity = self.identity(subject);
                    let limit = limit(&self.plan.scale);
                    let (rows, ended) = turn(&job, identity, limit, None, &mut self.stop)?;
                    let verdict = guard.after();
                    if let Ended::Stopped = ended {
                        progress.end();
                        return self.stopped(round);
                    }
                    let rows = rows.into_iter().map(|(row, _)| row);
                    let mut rows: Vec<_> = rows.collect();
                    let mut spent = Spent::default();
                    match ended {
                        Ended::Done(known) => spent = known,
                        Ended::Failed(why) => rows.push(broken(block, subject, why)),
                        Ended::Stopped => {}
                    }
                    for mut row in rows {
                        row.round = round;
                        row.noisy = verdict.noisy;
                        check(&mut row, &expected);
                        finished.push(Record::Row(Box::new(row)));
                    }
                    finished.push(Record::Guard(Guard {
                        round,
                        block: format!("{}/{}", block.suite, block.name),
                        subject: subject.name.clone(),
                        idle: verdict.idle,
                        steal: verdict.steal,
                        noisy: verdict.noisy,
                        seconds: began.elapsed().as_secs_f64(),
                        spent,
                    }));
                    progress.done();
                }
            }
            for record in finished {
                self.log.add(record).map_err(io::Error::other)?;
            }
            if self.out_of_time(start, round)? {
                break;
            }
        }
        progress.end();
        Ok(true)
    }

    /// Returns the subjects that a block can be done on.
    pub(super) fn able(&self, block: &Block) -> Vec<Subject> {
        self.subjects.iter().filter(|s| block.suits(s)).cloned().collect()
    }

    fn stopped(&mut self, finished: u32) -> io::Result<bool> {
        let note =
            format!("stopped by a signal: {finished} of {} rounds were finished", self.plan.rounds);
        crate::worker::remark(&note);
        self.log.add(Record::Note(note)).map_err(io::Error::other)?;
        Ok(false)
    }

    fn out_of_time(&mut self, start: Instant, round: u32) -> io::Result<bool> {
        let Some(budget) = self.plan.budget else { return Ok(false) };
        let last = round + 1 == self.plan.rounds;
        // The counts that come after the rounds take about as long as one of them.
        let needed = start.elapsed() * if self.plan.costs { 2 } else { 1 };
        if last || self.began.elapsed() + needed <= budget {
            return Ok(false);
        }
        let note =
            format!("{} of {} rounds fit into {budget:?} (--budget)", round + 1, self.plan.rounds);
        crate::worker::remark(&note);
        self.log.add(Record::Note(note)).map_err(io::Error::other)?;
        Ok(true)
    }

    /// Does a block on a plain directory, by which the results of all subjects are judged.
    fn expect(&mut self, block: &Block, expected: &mut Expected) -> io::Result<()> {
        if block.family != Family::FileSystem {
            return Ok(());
        }
        let Some(mut subject) =
            self.subjects.iter().find(|s| s.kind.family() == block.family).cloned()
        else {
            return Ok(());
        };
        subject.kind = Kind::Bare;
        let job = self.job(&subject, Some(block), Mode::Time)?;
        let identity = self.identity(&subject);
        let limit = limit(&self.plan.scale);
        let (rows, _) = turn(&job, identity, limit, None, &mut self.stop)?;
        for (row, _) in rows {
            if row.error.is_none() {
                expected.insert((row.suite, row.case), (row.digest, row.exact));
            }
        }
        Ok(())
    }
}

/// Voids a row whose work gave another result than on a plain directory.
fn check(row: &mut Row, expected: &Expected) {
    let at = (row.suite.clone(), row.case.clone());
    let Some((wanted, exactly)) = expected.get(&at) else { return };
    if row.error.is_some() || row.digest.is_empty() {
        return;
    }
    if row.digest != *wanted {
        row.error = Some(format!(
            "void: the result differs from that on a plain directory (checksum {}, not {wanted})",
            row.digest
        ));
        row.value = None;
    } else if row.exact != *exactly {
        row.remark = Some("hard links or times differ from those on a plain directory".into());
    }
}

fn broken(block: &Block, subject: &Subject, why: String) -> Row {
    Row {
        suite: block.suite.to_owned(),
        block: block.name.to_owned(),
        case: format!("({})", block.name),
        subject: subject.name.clone(),
        error: Some(why),
        ..Row::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_result_voids_the_row() {
        let at = ("work".to_owned(), "untar".to_owned());
        let expected = Expected::from([(at, ("aa".to_owned(), "cc".to_owned()))]);
        let row = |digest: &str, exact: &str| Row {
            suite: "work".into(),
            case: "untar".into(),
            digest: digest.into(),
            exact: exact.into(),
            value: Some(1.0),
            ..Row::default()
        };
        let (mut right, mut wrong) = (row("aa", "cc"), row("bb", "cc"));
        check(&mut right, &expected);
        check(&mut wrong, &expected);
        assert_eq!((right.value, right.error), (Some(1.0), None));
        assert_eq!(wrong.value, None);
        assert!(wrong.error.is_some_and(|e| e.starts_with("void: ")));
        let mut links = row("aa", "dd");
        check(&mut links, &expected);
        assert!(links.value.is_some() && links.remark.is_some(), "{links:?}");
    }
}
