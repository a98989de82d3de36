//! `unionctl`, built inside this package so that its suites find it by `CARGO_BIN_EXE_unionctl-under-test`.
#![forbid(unsafe_code)]

fn main() -> std::process::ExitCode {
    unionfs::offline::cli::run(std::env::args_os())
}
