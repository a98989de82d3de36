//! What `procfs-shim` shows: goldens of recorded machines, properties of the pure parts, and live
//! containers in real cgroups.
#![forbid(unsafe_code)]

mod cli;
mod container;
mod golden;
mod live;
mod properties;
mod recording;
mod rootless;
mod shim;
