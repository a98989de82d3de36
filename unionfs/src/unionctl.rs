//! The `unionctl` command: calls `unionfs::offline::cli::run` and nothing else.
#![forbid(unsafe_code)]

fn main() -> std::process::ExitCode {
    unionfs::offline::cli::run(std::env::args_os())
}
