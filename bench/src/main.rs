//! Honest comparisons of file systems, which people can run on their own machines: `bench run`.
#![forbid(unsafe_code)]

mod checksum;
mod cli;
mod measure;
mod messages;
mod report;
mod round;
mod stop;
mod subject;
mod tree;
mod workload;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    let cli::Cli { command: cli::Command::Run(args) } = cli::Cli::parse();
    match round::run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("bench: {why}");
            ExitCode::FAILURE
        }
    }
}
