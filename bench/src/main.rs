//! The `bench` command: calls `bench::run` and nothing else.
#![forbid(unsafe_code)]

fn main() -> std::process::ExitCode {
    bench::run(std::env::args_os())
}
