//! Our program, and the macro that runs one test body on several subjects.

use support::Subject;

/// Returns our daemon, built with this package.
pub(crate) fn ours() -> Subject {
    Subject::ours(env!("CARGO_BIN_EXE_unionfs-under-test"))
}
