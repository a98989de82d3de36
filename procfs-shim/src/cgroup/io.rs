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
    V1 { bytes: HeldFile, operations: HeldFile },
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
        for (bytes, operations) in v1::IO_FILES {
            if let (Some(bytes), Some(operations)) = (leaf.find(bytes)?, leaf.find(operations)?) {
                return Ok(Some(IoGroup(Files::V1 { bytes, operations })));
            }
        }
        Ok(None)
    }

    /// Reads the counters.
    ///
    /// # Errors
    /// `ENODEV`: the cgroup is gone.
    pub fn counts(&self) -> Result<IoTable, ReadError> {
        match &self.0 {
            Files::V1 { bytes, operations } => parse::blkio(&bytes.text()?, &operations.text()?)
                .map_err(ReadError::of(bytes.path())),
            Files::V2(file) => parse::io_stat(&file.text()?).map_err(ReadError::of(file.path())),
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
