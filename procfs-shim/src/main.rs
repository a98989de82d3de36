//! The `procfs-shim` command: calls `procfs_shim::run` and nothing else.
#![forbid(unsafe_code)]

fn main() -> std::process::ExitCode {
    procfs_shim::run(std::env::args_os())
}
