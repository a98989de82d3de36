//! The `unionfs` command: calls `unionfs::run` and nothing else.
#![forbid(unsafe_code)]

fn main() -> std::process::ExitCode {
    unionfs::run(std::env::args_os())
}
