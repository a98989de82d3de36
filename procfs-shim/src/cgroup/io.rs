//! Use of block devices, and the pressure figures of a cgroup.

use std::collections::BTreeMap;

use super::{Level, Version, parse, v1, v2};
use crate::error::ReadError;
use crate::host::held::HeldFile;

/// A block device by its numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Device {
    /// Major number.
    pub major: u32,
    /// Minor number.
    pub minor: u32,
}

/// What a cgroup and its descendants did on a device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IoCounts {
    /// Bytes read.
    pub read_bytes: u64,
    /// Reads.
    pub reads: u64,
    /// Bytes written.
    pub written_bytes: u64,
    /// Writes.
    pub writes: u64,
    /// Bytes discarded.
    pub discarded_bytes: u64,
    /// Discards.
    pub discards: u64,
}

/// Counts by device; devices that were not touched are absent.
pub type IoTable = BTreeMap<Device, IoCounts>;

#[derive(Debug)]
enum Files {
    /// Bytes and operations, by each who counts them.
    V1(Vec<(HeldFile, HeldFile)>),
    V2(HeldFile),
}

/// Where the use of devices is counted.
#[derive(Debug)]
pub struct IoGroup(Files);

impl IoGroup {
    /// Opens the counters of a cgroup; `None` where it has none.
    ///
    /// # Errors
    /// The cgroup is gone, or a file can't be opened.
    pub fn open(leaf: &Level) -> Result<Option<IoGroup>, ReadError> {
        if leaf.version() == Version::V2 {
            return Ok(leaf.find(v2::IO_FILE)?.map(|f| IoGroup(Files::V2(f))));
        }
        let mut all = Vec::new();
        for (bytes, operations) in v1::IO_FILES {
            all.extend(leaf.find(bytes)?.zip(leaf.find(operations)?));
        }
        Ok((!all.is_empty()).then_some(IoGroup(Files::V1(all))))
    }

    /// Reads the counters.
    ///
    /// # Errors
    /// `ENODEV`: the cgroup is gone.
    pub fn counts(&self) -> Result<IoTable, ReadError> {
        match &self.0 {
            Files::V1(all) => {
                let mut table = IoTable::new();
                for (bytes, operations) in all {
                    let one = parse::blkio(&bytes.text()?, &operations.text()?);
                    merge(&mut table, one.map_err(ReadError::of(bytes))?);
                }
                Ok(table)
            }
            Files::V2(file) => parse::io_stat(&file.text()?).map_err(ReadError::of(file)),
        }
    }
}

/// Adds what another one has counted: of the same requests, the one that has seen more has seen all.
fn merge(table: &mut IoTable, other: IoTable) {
    for (device, counts) in other {
        let known = table.entry(device).or_default();
        if counts.reads + counts.writes > known.reads + known.writes {
            *known = counts;
        }
    }
}

/// A resource whose pressure is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resource {
    /// Processors.
    Cpu,
    /// Memory.
    Memory,
    /// Block devices.
    Io,
}

impl Resource {
    /// Name of the file of a cgroup.
    pub fn file(self) -> &'static str {
        match self {
            Resource::Cpu => "cpu.pressure",
            Resource::Memory => "memory.pressure",
            Resource::Io => "io.pressure",
        }
    }
}

/// The pressure of a cgroup of the unified hierarchy. Its files are opened when they are asked for,
/// as hardly anybody does.
#[derive(Debug)]
pub struct PressureGroup(Level);

impl PressureGroup {
    /// The pressure of the first of `levels`.
    pub fn new(levels: Vec<Level>) -> Option<PressureGroup> {
        levels.into_iter().next().map(PressureGroup)
    }

    /// Reads the figures of a resource; `None` where the kernel has none.
    ///
    /// # Errors
    /// The cgroup is gone; `EOPNOTSUPP`: the kernel was started without.
    pub fn text(&self, resource: Resource) -> Result<Option<String>, ReadError> {
        self.0.find(resource.file())?.map(|f| f.text()).transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_seen_more_of_a_device_is_believed() {
        let counts = |reads| IoCounts { reads, ..IoCounts::default() };
        let device = |minor| Device { major: 8, minor };
        let mut table = IoTable::from([(device(0), counts(0)), (device(1), counts(5))]);
        merge(&mut table, IoTable::from([(device(0), counts(3)), (device(1), counts(4))]));
        let expected = IoTable::from([(device(0), counts(3)), (device(1), counts(5))]);
        assert_eq!(table, expected);
    }
}
