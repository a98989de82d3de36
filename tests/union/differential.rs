//! Random sequences of operations, on two file systems at once: each result and the trees at the
//! end must be equal. The kernel's overlayfs is the oracle.
//!
//! The oracle is mounted with `redirect_dir=off,index=on,xino=on,metacopy=off`
//! ([`KernelFeatures::Contract`]): what our daemon promises by default. `redirect_dir=off` is the
//! kernel's own default and gives EXDEV for directories with a lower part; `index=on` keeps hard
//! links together, which the kernel's default breaks; `xino=on` makes inode numbers unique; without
//! metacopy the upper layers can be compared with plain ones.
//!
//! `PALIMPSEST_SEQUENCES` sets how many sequences are tried. A failure is shrunk and printed in the
//! text form that `differential.regressions` holds; what stands there is replayed first. Sequences
//! come from a seed that is printed with a failure; `PALIMPSEST_SEED` sets it.

mod case;
mod generate;
mod op;
mod run;

use std::fmt::Write;

use proptest::strategy::{BoxedStrategy, Strategy};
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner};
use support::require;
use support::subject::{KernelFeatures, Subject};

use case::Case;
use run::{Check, Setup};

/// The oracle.
const KERNEL: Subject = Subject::Kernel(KernelFeatures::Contract);

/// Sequences tried if the environment doesn't say: about a minute.
const SEQUENCES: u32 = 200;

/// Tries random cases until one fails and returns it shrunk, with what went wrong and the seed.
fn search(
    left: &Setup,
    right: &Setup,
    check: Check,
    (cases, sequences): (BoxedStrategy<Case>, u32),
) -> Result<(), (Case, String)> {
    let seed = seed();
    let config = Config {
        cases: sequences,
        failure_persistence: None,
        max_shrink_iters: 3000,
        ..Config::default()
    };
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &seed);
    let mut runner = TestRunner::new_with_rng(config, rng);
    let result = runner
        .run(&cases, |case| run::compare(&case, left, right, check).map_err(TestCaseError::fail));
    match result {
        Ok(()) => Ok(()),
        Err(TestError::Fail(why, case)) => {
            let hex = seed.iter().fold(String::new(), |mut hex, b| {
                write!(hex, "{b:02x}").expect("write to a string");
                hex
            });
            Err((case, format!("{why}\nseed: PALIMPSEST_SEED={hex}")))
        }
        Err(TestError::Abort(why)) => panic!("no cases can be generated: {why}"),
    }
}

/// Returns `PALIMPSEST_SEED` (64 hexadecimal digits) or a new seed.
fn seed() -> [u8; 32] {
    let mut seed = [0; 32];
    if let Ok(hex) = std::env::var("PALIMPSEST_SEED") {
        assert_eq!(hex.len(), 64, "PALIMPSEST_SEED is 64 hexadecimal digits");
        for (i, byte) in seed.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&hex[2 * i..2 * i + 2], 16).expect("hexadecimal digits");
        }
    } else {
        let random = std::fs::File::open("/dev/urandom").expect("open /dev/urandom");
        std::io::Read::read_exact(&mut &random, &mut seed).expect("read a seed");
    }
    seed
}

fn sequences(default: u32) -> u32 {
    let chosen = std::env::var("PALIMPSEST_SEQUENCES").ok();
    chosen.map_or(default, |n| n.parse().expect("PALIMPSEST_SEQUENCES is a number"))
}

#[track_caller]
fn assert_none_differs(left: &Setup, right: &Setup, check: Check, sequences: u32) {
    let cases = generate::case().boxed();
    if let Err((case, why)) = search(left, right, check, (cases, sequences)) {
        panic!("{why}\nthe shortest sequence found, for differential.regressions:\n\n{case}");
    }
}

#[test]
fn every_operation_does_what_the_kernel_does() {
    let ours = crate::subjects::ours();
    require!("every_operation_does_what_the_kernel_does", ours.usable(), KERNEL.usable());
    assert_none_differs(&ours.into(), &KERNEL.into(), Check::Listing, sequences(SEQUENCES));
}

#[test]
fn with_redirects_and_metacopies_too() {
    let ours = crate::subjects::ours();
    let kernel = Subject::Kernel(KernelFeatures::All);
    require!("with_redirects_and_metacopies_too", ours.usable(), kernel.usable());
    let ours = Setup { subject: ours, options: &["redirect_dir=on", "metacopy=on"] };
    assert_none_differs(&ours, &kernel.into(), Check::Interchange, sequences(SEQUENCES) / 4);
}

#[test]
fn an_upper_layer_means_the_same_to_us_and_to_the_kernel() {
    let ours = crate::subjects::ours();
    require!("an_upper_layer_means_the_same", ours.usable(), KERNEL.usable());
    assert_none_differs(&ours.into(), &KERNEL.into(), Check::Interchange, sequences(SEQUENCES) / 4);
}

#[test]
fn a_layer_that_goes_to_and_fro_keeps_tree_and_inode_numbers() {
    let ours = crate::subjects::ours();
    require!("a_layer_that_goes_to_and_fro_keeps", ours.usable(), KERNEL.usable());
    let cases = (generate::swapping_case().boxed(), sequences(SEQUENCES) / 4);
    if let Err((case, why)) = search(&ours.into(), &KERNEL.into(), Check::Results, cases) {
        panic!("{why}\nthe shortest sequence found, for differential.regressions:\n\n{case}");
    }
}

#[test]
fn known_failures_stay_fixed() {
    let ours = crate::subjects::ours();
    require!("known_failures_stay_fixed", ours.usable(), KERNEL.usable());
    let cases = Case::parse_all(include_str!("differential.regressions"));
    assert!(!cases.is_empty(), "the file of regressions has cases");
    let (ours, kernel) = (ours.into(), KERNEL.into());
    let mut failures = String::new();
    for case in cases {
        if let Err(why) = run::compare(&case, &ours, &kernel, Check::Interchange) {
            write!(failures, "{why}\n{case}\n").expect("write to a string");
        }
    }
    assert!(failures.is_empty(), "{failures}");
}

#[test]
fn the_oracle_agrees_with_itself() {
    require!("the_oracle_agrees_with_itself", KERNEL.usable());
    let (one, other) = (KERNEL.into(), KERNEL.into());
    assert_none_differs(&one, &other, Check::Listing, sequences(SEQUENCES) / 10);
}

#[test]
fn the_comparison_finds_the_defects_of_fuse_overlayfs() {
    let peer = Subject::FuseOverlayfs;
    require!("the_comparison_finds_defects", peer.usable(), KERNEL.usable());
    let found =
        search(&peer.into(), &KERNEL.into(), Check::Results, (generate::case().boxed(), 50));
    assert!(found.is_err(), "fifty sequences find no difference, so the comparison is blind");
}

#[test]
fn a_case_is_the_same_after_it_was_written_down() {
    let config = Config { cases: 100, failure_persistence: None, ..Config::default() };
    let same = TestRunner::new(config).run(&generate::case(), |case| {
        let text = case.to_string();
        let again = Case::parse_all(&text);
        match again == [case] {
            true => Ok(()),
            false => Err(TestCaseError::fail(text)),
        }
    });
    assert_eq!(same, Ok(()));
}
