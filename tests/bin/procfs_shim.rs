//! `procfs-shim`, built inside this package so that its suites find it by `CARGO_BIN_EXE_procfs-shim-under-test`.
#![forbid(unsafe_code)]

fn main() -> std::process::ExitCode {
    procfs_shim::run(std::env::args_os())
}
