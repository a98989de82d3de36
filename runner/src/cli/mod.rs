//! What the user typed: the commands, their help and their exit codes.

mod doctor;
mod format;
mod image;
mod run;
pub(crate) mod values;

use std::ffi::OsString;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::error::{Context, Exit, Result, say};

pub(crate) use run::RunArgs;

/// Run a process in a container: a layered root, honest limits, an honest /proc.
#[derive(Debug, Parser)]
#[command(name = "runner", version, max_term_width = 100, disable_help_subcommand = true)]
struct Cli {
    /// Directory for what containers need while they live
    #[arg(
        long,
        global = true,
        value_name = "DIR",
        help_heading = "Global options",
        long_help = "Directory for what containers need while they live [default: \
                       /var/lib/palimpsest for root, else $XDG_DATA_HOME/palimpsest, \
                       ~/.local/share/palimpsest or /var/tmp/palimpsest-UID]"
    )]
    state: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a program in a new container
    Run(Box<RunArgs>),
    /// Say what this host offers to containers, what it lacks, and what then happens
    Doctor,
    #[command(flatten)]
    Image(image::Verb),
}

/// Runs the command line and returns its exit code.
pub(crate) fn run(args: Vec<OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(e) => return explain(&e),
    };
    let state = cli.state.as_deref();
    let outcome = match cli.command {
        Command::Run(args) => run::run(*args, state),
        Command::Doctor => doctor::doctor(state),
        Command::Image(verb) => image::run(verb, state),
    };
    match outcome {
        Ok(code) => ExitCode::from(code),
        Err(e) => {
            say(&e);
            ExitCode::from(e.exit() as u8)
        }
    }
}

/// Writes to standard output; that nobody reads on, as behind a pipe to `head`, is no failure.
fn print(text: &str) -> Result<()> {
    print_bytes(text.as_bytes())
}

/// As [`print`], for paths, which are bytes.
fn print_bytes(text: &[u8]) -> Result<()> {
    match std::io::stdout().write_all(text) {
        Err(e) if e.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        r => r.step("write output"),
    }
}

/// Prints what clap has to say: help on standard output, a mistake as one line on standard error.
fn explain(e: &clap::Error) -> ExitCode {
    use clap::error::ErrorKind;
    match e.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            // A closed pipe is no failure of `runner --help | head`.
            match e.print() {
                Ok(()) | Err(_) => ExitCode::SUCCESS,
            }
        }
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            say("no command: try `runner run -- sh`, or `runner --help`");
            ExitCode::from(Exit::Ours as u8)
        }
        _ => {
            let text = e.render().to_string();
            let lines: Vec<&str> =
                text.lines().map(str::trim).take_while(|l| !l.starts_with("Usage:")).collect();
            let said: Vec<&str> = lines.into_iter().filter(|l| !l.is_empty()).collect();
            let said = said.join(" ");
            let said = said.strip_prefix("error: ").unwrap_or(&said);
            let said = said.replace(" For more information, try '--help'.", "");
            say(format_args!("{said}: see `runner run --help`"));
            ExitCode::from(Exit::Ours as u8)
        }
    }
}
