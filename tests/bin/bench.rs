//! `bench`, built inside this package so that its suite finds it by `CARGO_BIN_EXE_bench-under-test`.
#![forbid(unsafe_code)]

fn main() -> std::process::ExitCode {
    bench::run(std::env::args_os())
}
