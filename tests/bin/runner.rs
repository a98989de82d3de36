//! `runner`, built inside this package so that its suites find it by `CARGO_BIN_EXE_runner-under-test`.
#![forbid(unsafe_code)]

fn main() -> std::process::ExitCode {
    runner::run(std::env::args_os())
}
