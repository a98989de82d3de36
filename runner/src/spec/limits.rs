//! Limits as the command line gives them.

use std::ffi::OsString;

use serde::{Deserialize, Serialize};

/// Limits of a container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Limits {
    /// Bytes of memory.
    pub(crate) memory: Option<u64>,
    /// Bytes of memory and swap together; `u64::MAX` is no limit. None: as `memory`.
    pub(crate) memory_swap: Option<u64>,
    /// Bytes that the container shall keep when memory gets short.
    pub(crate) memory_reservation: Option<u64>,
    /// Thousandths of a CPU.
    pub(crate) cpus: Option<u64>,
    /// Share of CPU time beside others, 1024 being the normal one (2 … 262144).
    pub(crate) cpu_shares: Option<u64>,
    /// CPUs it may run on, as a list (`0-3,8`).
    pub(crate) cpuset_cpus: Option<String>,
    /// Memory nodes it may use, as a list.
    pub(crate) cpuset_mems: Option<String>,
    /// Processes and threads.
    pub(crate) pids: Option<u64>,
    /// Share of I/O beside others (10 … 1000).
    pub(crate) blkio_weight: Option<u64>,
    /// Rates of devices.
    pub(crate) rates: Vec<DeviceRate>,
}

/// How much may be read or written a second.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct DeviceRate {
    /// The block device, or a file or directory that is on it.
    pub(crate) device: OsString,
    /// What is counted, and how much of it.
    pub(crate) rate: Rate,
}

/// A rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Rate {
    /// What is counted.
    pub(crate) kind: RateKind,
    /// How much of it a second.
    pub(crate) value: u64,
}

/// What a rate counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum RateKind {
    /// Bytes that are read.
    ReadBytes,
    /// Bytes that are written.
    WriteBytes,
    /// Requests to read.
    ReadRequests,
    /// Requests to write.
    WriteRequests,
}

/// A limit of a process (getrlimit(2)).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Ulimit {
    /// Name, such as `nofile`.
    pub(crate) name: String,
    /// The limit that counts; `u64::MAX` is none.
    pub(crate) soft: u64,
    /// How far the process may raise it.
    pub(crate) hard: u64,
}

impl Limits {
    /// Returns the CPUs that a quota needs at least: a program that asks how many there are starts
    /// that many threads.
    pub(crate) fn whole_cpus(&self) -> Option<usize> {
        self.cpus.map(|m| m.div_ceil(1000) as usize)
    }

    /// Returns bytes of swap beside `memory`; `None`: no limit was asked for.
    pub(crate) fn swap(&self) -> Option<u64> {
        let memory = self.memory?;
        match self.memory_swap {
            Some(u64::MAX) => None,
            Some(both) => Some(both.saturating_sub(memory)),
            // A limit that swap can't soften.
            None => Some(0),
        }
    }
}
