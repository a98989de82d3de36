//! The runner as a user drives it, as root and as somebody else.
#![forbid(unsafe_code)]

mod errors;
mod escape;
mod fixture;
mod kill;
mod limits;
mod process;
mod programs;
mod root;
mod terminal;
mod users;
mod volumes;
