//! Exact counts, taken once, after the rounds: tracing slows what it watches.

use std::io;

use super::link::{Ended, turn};
use super::{Run, limit};
use crate::bed::protocol::Mode;
use crate::measure::trace::Tracing;
use crate::record::{Absent, Costs, Record};
use crate::subject::Family;

/// How messages were counted.
const MESSAGES_BY: &str = "trace event fuse:fuse_request_send, by connection (no FORGET)";
/// How system calls were counted.
const SYSCALLS_BY: &str = "trace event raw_syscalls:sys_enter, by the daemon's threads";

impl Run {
    /// Counts messages and system calls of every block that wants it; returns false if an end was
    /// asked for before.
    pub(super) fn costs(&mut self) -> io::Result<bool> {
        let tracing = match Tracing::new(&self.stage.path().join("trace")) {
            Ok(tracing) => tracing,
            Err(why) => {
                let name = "messages and system calls".to_owned();
                let why = format!("{why}: root may count them");
                self.log.add(Record::Absent(Absent { name, why })).map_err(io::Error::other)?;
                return Ok(true);
            }
        };
        for block in self.plan.blocks.clone() {
            if !block.counted || block.family != Family::FileSystem {
                continue;
            }
            for subject in self.able(&block).iter().filter(|s| s.kind.has_daemon()) {
                let job = self.job(subject, Some(&block), Mode::Count)?;
                let identity = self.identity(subject);
                // Tracing makes everything slower.
                let limit = limit(&self.plan.scale) * 4;
                let (rows, ended) = turn(&job, identity, limit, Some(&tracing), &mut self.stop)?;
                if let Ended::Stopped = ended {
                    return Ok(false);
                }
                for (row, counts) in rows {
                    let Some(counts) = counts else { continue };
                    if row.error.is_some() {
                        continue;
                    }
                    let mut costs = Costs {
                        suite: row.suite,
                        case: row.case,
                        subject: row.subject,
                        ops: row.ops,
                        ..Costs::default()
                    };
                    match counts {
                        Ok((messages, syscalls)) => {
                            (costs.messages, costs.syscalls) = (messages, syscalls);
                            costs.messages_by = MESSAGES_BY.into();
                            costs.syscalls_by = SYSCALLS_BY.into();
                        }
                        Err(why) => costs.messages_by = format!("not counted: {why}"),
                    }
                    self.log.add(Record::Costs(costs)).map_err(io::Error::other)?;
                }
            }
        }
        Ok(true)
    }
}
