//! Our program, and the macros that run one test body on ours and on the kernel's overlayfs.
//!
//! Each body is also entered in a `LIST` of its file, from which the suites in [`crate::matrix`] and
//! [`crate::namespaced`] run it once more, on other subjects and in other surroundings.

use support::Subject;

/// A test body that can be run on any subject.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Body {
    /// Name of the test: the sentence that it proves.
    pub(crate) name: &'static str,
    /// The body itself, which panics where the subject does otherwise.
    pub(crate) run: fn(&Subject),
}

/// Marks in a body's output that its question doesn't arise for a subject.
pub(crate) const NOT_APPLICABLE: &str = "NOT APPLICABLE: ";

/// Returns our daemon, built with this package.
pub(crate) fn ours() -> Subject {
    Subject::ours(env!("CARGO_BIN_EXE_unionfs-under-test"))
}

/// Returns the program of a subject, where it has one.
pub(crate) fn needs_a_daemon(fs: &Subject) -> std::path::PathBuf {
    fs.program().unwrap_or_else(|| {
        println!("{NOT_APPLICABLE}{} has no daemon", fs.name());
        panic!("{} has no daemon", fs.name());
    })
}

/// Defines tests that hold for ours and for the kernel, which proves the test itself right: each
/// body becomes `ours::NAME` and `kernel::NAME`.
macro_rules! both {
    ($($(#[doc = $doc:literal])* fn $name:ident($fs:ident) $body:block)*) => {
        pub(crate) mod bodies {
            use super::*;
            $($(#[doc = $doc])* pub(super) fn $name($fs: &support::Subject) $body)*
            /// The bodies of this file that hold for ours and for the kernel.
            pub(crate) const LIST: &[crate::subjects::Body] = &[$(crate::subjects::Body {
                name: stringify!($name),
                run: $name,
            }),*];
        }
        mod ours {
            $(#[test] fn $name() {
                let fs = crate::subjects::ours();
                support::require!(concat!(module_path!(), "::", stringify!($name)), fs.usable());
                super::bodies::$name(&fs);
            })*
        }
        mod kernel {
            $(#[test] fn $name() {
                let fs = support::Subject::Kernel(support::subject::KernelFeatures::Contract);
                support::require!(concat!(module_path!(), "::", stringify!($name)), fs.usable());
                super::bodies::$name(&fs);
            })*
        }
    };
}
pub(crate) use both;

/// Defines tests of what the kernel doesn't have or does otherwise, said why in each.
macro_rules! only_ours {
    ($($(#[doc = $doc:literal])* fn $name:ident($fs:ident) $body:block)*) => {
        pub(crate) mod alone {
            mod bodies {
                use super::super::*;
                $($(#[doc = $doc])* pub(super) fn $name($fs: &support::Subject) $body)*
            }
            /// The bodies of this file that hold for ours.
            pub(crate) const LIST: &[crate::subjects::Body] = &[$(crate::subjects::Body {
                name: stringify!($name),
                run: bodies::$name,
            }),*];
            $(#[test] fn $name() {
                let fs = crate::subjects::ours();
                support::require!(concat!(module_path!(), "::", stringify!($name)), fs.usable());
                bodies::$name(&fs);
            })*
        }
    };
}
pub(crate) use only_ours;
