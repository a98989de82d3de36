//! Our program, and the macro that runs one test body on ours and on the kernel's overlayfs.

use support::Subject;

/// Returns our daemon, built with this package.
pub(crate) fn ours() -> Subject {
    Subject::ours(env!("CARGO_BIN_EXE_unionfs-under-test"))
}

/// Defines tests that hold for ours and for the kernel, which proves the test itself right: each
/// body becomes `ours::NAME` and `kernel::NAME`.
macro_rules! both {
    ($($(#[doc = $doc:literal])* fn $name:ident($fs:ident) $body:block)*) => {
        mod bodies {
            use super::*;
            $($(#[doc = $doc])* pub(super) fn $name($fs: &support::Subject) $body)*
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
        mod alone {
            use super::*;
            $($(#[doc = $doc])* #[test] fn $name() {
                let subject = crate::subjects::ours();
                support::require!(concat!(module_path!(), "::", stringify!($name)), subject.usable());
                let $fs = &subject;
                $body
            })*
        }
    };
}
pub(crate) use only_ours;
