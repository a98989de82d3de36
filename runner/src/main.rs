//! The `runner` command: calls `runner::run` and nothing else.
#![forbid(unsafe_code)]

fn main() -> std::process::ExitCode {
    runner::run(std::env::args_os())
}
