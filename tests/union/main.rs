//! What a union file system does, one file a behaviour, each test on ours and on the kernel's.
#![forbid(unsafe_code)]

mod differential;
mod subjects;
