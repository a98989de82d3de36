//! What the user typed: the commands, their help and their exit codes.

mod container;
mod cp;
mod describe;
mod doctor;
mod exec;
pub(crate) mod format;
mod image;
mod logs;
mod make;
mod ps;
mod rm;
mod run;
mod shell;
mod start;
mod stop;
mod top;
mod update;
pub(crate) mod values;
mod volume;

use std::ffi::OsString;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::error::{Context, Error, Exit, Result, say};

/// Run a process in a container: a layered root, honest limits, an honest /proc.
#[derive(Debug, Parser)]
#[command(name = "runner", version, max_term_width = 100, disable_help_subcommand = true)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

/// The same with the one command that is run for each container: to make the options of all others takes
/// as long as to plan one, and memory for as long as it runs.
#[derive(Debug, Parser)]
#[command(name = "runner", version, max_term_width = 100, disable_help_subcommand = true)]
struct RunCli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Run,
}

#[derive(Debug, Subcommand)]
enum Run {
    Run(Box<run::RunArgs>),
}

#[derive(Debug, Args)]
struct Global {
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
}

#[derive(Debug, Subcommand)]
enum Command {
    Run(Box<run::RunArgs>),
    Create(Box<run::CreateArgs>),
    Start(start::StartArgs),
    Restart(start::RestartArgs),
    Attach(start::AttachArgs),
    #[command(alias = "list", alias = "ls")]
    Ps(ps::PsArgs),
    Exec(exec::ExecArgs),
    Cp(cp::CpArgs),
    Logs(logs::LogsArgs),
    Stop(stop::StopArgs),
    Kill(stop::KillArgs),
    Wait(stop::WaitArgs),
    Pause(stop::PauseArgs),
    /// Let paused containers go on
    #[command(visible_alias = "resume")]
    Unpause(stop::PauseArgs),
    #[command(alias = "remove")]
    Rm(rm::RmArgs),
    Prune(rm::PruneArgs),
    Inspect(ps::InspectArgs),
    Top(top::TopArgs),
    Stats(top::StatsArgs),
    Update(update::UpdateArgs),
    Volume(volume::VolumeArgs),
    /// Say what this host offers to containers, what it lacks, and what then happens
    Doctor,
    /// Be the runtime of podman, containerd and others, as when called by the name `runner-oci`
    Oci(Box<crate::oci::Options>),
    Completion(shell::CompletionArgs),
    #[command(hide = true)]
    Man(shell::ManArgs),
    #[command(flatten)]
    Image(image::Verb),
}

/// Runs the command line and returns its exit code.
pub(crate) fn run(args: Vec<OsString>) -> ExitCode {
    let parsed = match args.get(1) {
        Some(verb) if verb == "run" => RunCli::try_parse_from(&args).map(|cli| {
            let Run::Run(run) = cli.command;
            (Command::Run(run), cli.global.state)
        }),
        _ => Cli::try_parse_from(&args).map(|cli| (cli.command, cli.global.state)),
    };
    let (mut command, state) = match parsed {
        Ok(parsed) => parsed,
        Err(e) => return explain(&e),
    };
    let told = match &mut command {
        Command::Run(run) => run.container.tell_words(&args),
        Command::Create(create) => create.container.tell_words(&args),
        _ => Ok(()),
    };
    match told.and_then(|()| dispatch(command, state.as_deref())) {
        Ok(code) => ExitCode::from(code),
        Err(e) => {
            say(&e);
            ExitCode::from(e.exit() as u8)
        }
    }
}

fn dispatch(command: Command, state: Option<&Path>) -> Result<u8> {
    match command {
        Command::Run(args) => run::run(*args, state),
        Command::Create(args) => run::create(*args, state),
        Command::Start(args) => start::start(args, state),
        Command::Restart(args) => start::restart(args, state),
        Command::Attach(args) => start::attach(args, state),
        Command::Ps(args) => ps::ps(args, state),
        Command::Exec(args) => exec::exec(args, state),
        Command::Cp(args) => cp::cp(&args, state),
        Command::Logs(args) => logs::logs(args, state),
        Command::Stop(args) => stop::stop(args, state),
        Command::Kill(args) => stop::kill(args, state),
        Command::Wait(args) => stop::wait(args, state),
        Command::Pause(args) => stop::pause(args, state),
        Command::Unpause(args) => stop::unpause(args, state),
        Command::Rm(args) => rm::rm(args, state),
        Command::Prune(args) => rm::prune(args, state),
        Command::Inspect(args) => ps::inspect(args, state),
        Command::Top(args) => top::top(args, state),
        Command::Stats(args) => top::stats(args, state),
        Command::Update(args) => update::update(args, state),
        Command::Volume(args) => volume::volume(args, state),
        Command::Doctor => doctor::doctor(state),
        Command::Image(verb) => image::run(verb, state),
        Command::Oci(_) if state.is_some() => {
            Err(Error::new("--state", "the runtime keeps its state elsewhere: see --root"))
        }
        Command::Oci(options) => Ok(crate::oci::main(*options)),
        Command::Completion(args) => shell::completion(&args),
        Command::Man(args) => shell::man(&args),
    }
}

/// Does something for each of several containers; all are tried, and the code says whether one failed.
fn each(names: &[String], mut work: impl FnMut(&str) -> Result<()>) -> Result<u8> {
    let mut first: Option<Error> = None;
    for name in names {
        if let Err(e) = work(name)
            && let Some(another) = first.replace(e)
        {
            say(&another);
        }
    }
    match first {
        Some(e) => Err(e),
        None => Ok(0),
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
