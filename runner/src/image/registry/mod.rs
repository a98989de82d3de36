//! Registries (the OCI distribution specification): images pulled from them and pushed to them.

mod auth;
mod client;
mod pull;
mod push;

use std::path::PathBuf;

pub(crate) use pull::pull;
pub(crate) use push::push;

/// How registries are spoken to.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    /// Whether their certificates are checked; if not, plain HTTP will do as well.
    pub(crate) verify: Verify,
    /// File with passwords, instead of the usual ones.
    pub(crate) authfile: Option<PathBuf>,
    /// `USER:PASSWORD`.
    pub(crate) creds: Option<String>,
}

/// Whether certificates are checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verify {
    /// They are.
    Certificates,
    /// They aren't.
    Nothing,
}
