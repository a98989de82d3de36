//! What a piece of work costs: time, CPU, memory, descriptors, bytes, messages, system calls.

pub(crate) mod latency;
pub(crate) mod names;
pub(crate) mod process;
pub(crate) mod strace;
pub(crate) mod told;
pub(crate) mod trace;
