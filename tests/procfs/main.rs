//! What `procfs-shim` shows: goldens of recorded machines, properties of the pure parts, and live
//! containers in real cgroups.
#![forbid(unsafe_code)]

mod beside;
mod callers;
mod cli;
mod container;
mod counts;
mod delivery;
mod disks;
mod explained;
mod figures;
mod golden;
mod kept;
mod memory;
mod metrics;
mod mounting;
mod processors;
mod properties;
mod recording;
mod rootless;
mod seen;
mod shim;
mod soak;
mod survival;
mod swap;
mod time;
