//! What a run writes down: one record is one line of JSON in `records.jsonl`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Name of the file that holds the records of a run.
pub(crate) const FILE: &str = "records.jsonl";

/// One line of a run's file.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Record {
    /// Where and how it was measured.
    Environment(Environment),
    /// What was measured.
    Subject(SubjectInfo),
    /// What was not, and why.
    Absent(Absent),
    /// One measurement.
    Row(Box<Row>),
    /// Exact counts of one piece of work.
    Costs(Costs),
    /// The noise guard's opinion of one turn of one subject.
    Guard(Guard),
    /// Something that a reader should know.
    Note(String),
}

/// The machine and the command.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Environment {
    /// Name and value, in the order in which they are shown.
    pub(crate) facts: Vec<(String, String)>,
    /// The command line.
    pub(crate) command: Vec<String>,
    /// Subject that others are compared with, where it isn't the usual one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) peer: Option<String>,
    /// Rounds that were asked for.
    pub(crate) rounds: u32,
    /// `quick`, `default` or `full`.
    pub(crate) scale: String,
    /// The seed of all random choices.
    pub(crate) seed: u64,
    /// Start, in seconds since 1970.
    pub(crate) started: u64,
}

/// A file system or program that was measured.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct SubjectInfo {
    /// As reported.
    pub(crate) name: String,
    /// `file system`, `shim` or `container`.
    pub(crate) family: String,
    /// What it says of itself.
    pub(crate) version: String,
    /// The command or mount options, as they were used.
    pub(crate) how: String,
}

/// A subject or a suite that could not be measured.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Absent {
    /// Of what.
    pub(crate) name: String,
    /// For people.
    pub(crate) why: String,
}

/// What a value means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Unit {
    /// Seconds for one operation.
    #[default]
    Seconds,
    /// Bytes.
    Bytes,
}

/// A point of a curve: the same work at several sizes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Point {
    /// Name of the curve.
    pub(crate) curve: String,
    /// What `x` counts.
    pub(crate) axis: String,
    /// Where on the axis.
    pub(crate) x: f64,
}

/// Percentiles of single operations, in seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Latency {
    /// Half were as fast or faster.
    pub(crate) p50: f64,
    /// Nine of ten.
    pub(crate) p90: f64,
    /// 99 of 100.
    pub(crate) p99: f64,
    /// 999 of 1,000.
    pub(crate) p999: f64,
    /// The slowest.
    pub(crate) max: f64,
}

/// One case, done once by one subject in one round.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Row {
    /// Suite.
    pub(crate) suite: String,
    /// Block of it.
    #[serde(default)]
    pub(crate) block: String,
    /// Case.
    pub(crate) case: String,
    /// Subject.
    pub(crate) subject: String,
    /// From 0.
    pub(crate) round: u32,
    /// Operations done.
    pub(crate) ops: u64,
    /// Unit of `value`.
    #[serde(default)]
    pub(crate) unit: Unit,
    /// What is compared: seconds or bytes for one operation. Absent where it failed.
    pub(crate) value: Option<f64>,
    /// CPU seconds of the caller and its children, all operations together.
    pub(crate) caller: f64,
    /// CPU seconds of the daemon.
    pub(crate) daemon: f64,
    /// Bytes that the work reads or writes, for throughput; 0 where that says nothing.
    pub(crate) bytes: u64,
    /// Percentiles, where single operations were timed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) latency: Option<Latency>,
    /// How the times of single operations are spread: how many took about 2^(n/8) ns, with n. Those of
    /// several rounds can be added.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) spread: Vec<(u16, u64)>,
    /// Point of a curve.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) point: Option<Point>,
    /// Resident memory of the daemon after the work, in bytes.
    pub(crate) rss: u64,
    /// Descriptors of the daemon after the work.
    pub(crate) fds: u64,
    /// Bytes that caller and daemon caused to be written to storage, by /proc/PID/io.
    pub(crate) written: u64,
    /// Digest of what the work saw and of the tree that it left: names, types, modes, owners, sizes,
    /// contents.
    pub(crate) digest: String,
    /// The same with hard links, and times where the work sets them.
    pub(crate) exact: String,
    /// What is different and doesn't void the row.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) remark: Option<String>,
    /// Why there is no value, or why it is void.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) error: Option<String>,
    /// Whether the noise guard marked the turn.
    pub(crate) noisy: bool,
    /// System calls of the daemon, where a worker counted them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) syscalls: Option<BTreeMap<String, u64>>,
    /// Messages that the daemon says it got, where a worker asked it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) messages: Option<BTreeMap<String, u64>>,
}

/// Exact counts of one case.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Costs {
    /// Suite.
    pub(crate) suite: String,
    /// Case.
    pub(crate) case: String,
    /// Subject.
    pub(crate) subject: String,
    /// Operations done while counting.
    pub(crate) ops: u64,
    /// FUSE messages by name, all operations together.
    pub(crate) messages: BTreeMap<String, u64>,
    /// System calls of the daemon by name.
    pub(crate) syscalls: BTreeMap<String, u64>,
    /// How messages were counted, or why not.
    pub(crate) messages_by: String,
    /// How system calls were counted, or why not.
    pub(crate) syscalls_by: String,
}

/// How busy the machine was around one turn.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Guard {
    /// Round.
    pub(crate) round: u32,
    /// Suite and block.
    pub(crate) block: String,
    /// Subject.
    pub(crate) subject: String,
    /// Time of the idle loop, by the fastest that was ever seen in this run.
    pub(crate) idle: f64,
    /// Share of the CPU time that the hypervisor took away.
    pub(crate) steal: f64,
    /// Whether the turn was marked.
    pub(crate) noisy: bool,
    /// How long the whole turn took, mounting and checking included.
    pub(crate) seconds: f64,
    /// Where that time went.
    #[serde(default)]
    pub(crate) spent: Spent,
}

/// Where the time of a turn went, in seconds; what is missing is the worker's start and end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Spent {
    /// Work that is measured.
    pub(crate) work: f64,
    /// Mounting, unmounting, and making and removing what is mounted.
    pub(crate) beds: f64,
    /// Waiting until everything is written back.
    pub(crate) settling: f64,
    /// Checksums.
    pub(crate) checks: f64,
}

impl Spent {
    /// Returns the names and values of its parts.
    pub(crate) fn parts(&self) -> [(&'static str, f64); 4] {
        [
            ("work", self.work),
            ("beds", self.beds),
            ("settling", self.settling),
            ("checks", self.checks),
        ]
    }

    /// Adds another.
    pub(crate) fn add(&mut self, other: &Spent) {
        self.work += other.work;
        self.beds += other.beds;
        self.settling += other.settling;
        self.checks += other.checks;
    }
}
