//! Exact counts, taken once, after the rounds: tracing slows what it watches.

use std::io;

use super::link::{Ended, Measured, turn};
use super::{Run, limit};
use crate::bed::protocol::Mode;
use crate::measure::trace::Tracing;
use crate::record::{Absent, Costs, Record};
use crate::subject::Family;

/// How messages were counted.
const MESSAGES_BY: &str = "trace event fuse:fuse_request_send, by connection (no FORGET)";
/// The same without trace events.
const MESSAGES_BY_DAEMON: &str = "the daemon itself, asked by SIGUSR1 (no FORGET)";
/// How system calls were counted.
const SYSCALLS_BY: &str = "trace event raw_syscalls:sys_enter, by the daemon's threads";

/// The same without trace events.
const SYSCALLS_BY_STRACE: &str = "strace -c -f, which may miss the first calls of new threads";

impl Run {
    /// Counts messages and system calls of every block that wants it; returns false if an end was
    /// asked for before.
    pub(super) fn costs(&mut self) -> io::Result<bool> {
        let tracing = Tracing::new(&self.stage.path().join("trace"));
        if let Err(why) = &tracing {
            let why = format!(
                "{why}: root may count them; here a daemon that counts its own is asked, and system calls are counted by strace"
            );
            let absent = Absent { name: "messages".to_owned(), why };
            self.log.add(Record::Absent(absent)).map_err(io::Error::other)?;
        }
        let tracing = tracing.ok();
        for block in self.plan.blocks.clone() {
            if !block.counted || block.family != Family::FileSystem {
                continue;
            }
            for subject in self.able(&block).iter().filter(|s| s.kind.has_daemon()) {
                let mode = if tracing.is_some() { Mode::Count } else { Mode::Watch };
                let job = self.job(subject, Some(&block), mode)?;
                let identity = self.identity(subject);
                // Tracing makes everything slower.
                let limit = limit(&self.plan.scale) * 4;
                let (rows, ended) = turn(&job, identity, limit, tracing.as_ref(), &mut self.stop)?;
                match ended {
                    Ended::Stopped => return Ok(false),
                    Ended::Failed(why) => {
                        let name = format!("counts of {} on {}", block.name, subject.name);
                        let absent = Absent { name, why };
                        self.log.add(Record::Absent(absent)).map_err(io::Error::other)?;
                    }
                    Ended::Done(_) => {}
                }
                for costs in rows.into_iter().filter_map(costs_of) {
                    self.log.add(Record::Costs(costs)).map_err(io::Error::other)?;
                }
            }
        }
        Ok(true)
    }
}

/// Returns the counts that a measurement came with, if its work didn't fail.
fn costs_of((row, counts): Measured) -> Option<Costs> {
    if row.error.is_some() {
        return None;
    }
    let mut costs = Costs {
        suite: row.suite,
        case: row.case,
        subject: row.subject,
        ops: row.ops,
        ..Costs::default()
    };
    match (counts, row.syscalls) {
        (Some(Ok((messages, syscalls))), _) => {
            (costs.messages, costs.syscalls) = (messages, syscalls);
            costs.messages_by = MESSAGES_BY.into();
            costs.syscalls_by = SYSCALLS_BY.into();
        }
        (None, Some(syscalls)) => {
            costs.syscalls = syscalls;
            costs.messages_by = "not counted".into();
            if let Some(messages) = row.messages {
                costs.messages = messages;
                costs.messages_by = MESSAGES_BY_DAEMON.into();
            }
            costs.syscalls_by = SYSCALLS_BY_STRACE.into();
        }
        (Some(Err(why)), _) => costs.messages_by = format!("not counted: {why}"),
        (None, None) => return None,
    }
    Some(costs)
}
