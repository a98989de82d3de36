//! The second front: a runtime as podman, containerd and others use one (OCI runtime specification,
//! <https://github.com/opencontainers/runtime-spec>, with the command line of runc). A bundle's
//! configuration becomes the same [`crate::spec::Spec`] that `runner run` has.

mod bundle;
mod create;
mod delete;
mod exec;
mod features;
mod kill;
mod list;
mod mounts;
mod options;
mod process;
mod seccomp;
mod state;
mod translate;
mod update;
mod validate;

use std::ffi::OsString;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;

use crate::error::{Context, Error, Exit, Result};

pub(crate) use options::Options;
use options::{LogFormat, Verb};

/// Name (`argv[0]`) under which this program is the runtime.
pub(crate) const NAME: &str = "runner-oci";
/// The version of the specification that is followed.
const SPECIFICATION: &str = "1.2.1";

/// The runtime's own command line.
#[derive(Debug, Parser)]
#[command(name = NAME, disable_version_flag = true, disable_help_subcommand = true,
          max_term_width = 100)]
struct Cli {
    #[command(flatten)]
    options: Options,
}

/// Runs the command line of the runtime.
pub(crate) fn run(args: Vec<OsString>) -> ExitCode {
    match Cli::try_parse_from(args) {
        Ok(cli) => ExitCode::from(main(cli.options)),
        Err(e) => {
            let code = if e.use_stderr() { ExitCode::FAILURE } else { ExitCode::SUCCESS };
            match e.print() {
                // Where nobody reads, there is nobody to be told.
                Ok(()) | Err(_) => code,
            }
        }
    }
}

/// Does what was asked for; returns the exit code, 1 where it failed.
pub(crate) fn main(options: Options) -> u8 {
    let log = Log { path: options.log.clone(), format: options.log_format };
    match dispatch(options, &log) {
        Ok(code) => code,
        Err(e) => {
            log.add("error", &e.to_string());
            say(&e);
            match e.exit() {
                Exit::Ours => 1,
                other => other as u8,
            }
        }
    }
}

fn dispatch(options: Options, log: &Log) -> Result<u8> {
    if options.version {
        let version = env!("CARGO_PKG_VERSION");
        return print(&format!("{NAME} version {version}\nspec: {SPECIFICATION}\n")).map(|()| 0);
    }
    if options.systemd_cgroup {
        return Err(Error::new("--systemd-cgroup", "cgroups are made without systemd here")
            .hint("set cgroup_manager = \"cgroupfs\" in containers.conf, or SystemdCgroup = false in containerd's"));
    }
    let root = match options.root {
        Some(root) => std::path::absolute(&root).step_at("--root", &root)?,
        None => state::default_root(),
    };
    let Some(verb) = options.verb else {
        return Err(Error::new("no command", format!("see `{NAME} --help`")));
    };
    match verb {
        Verb::Create(args) => create::create(args, &root, log),
        Verb::Run(args) => create::run(args, &root, log),
        Verb::Start(args) => create::start(&args, &root, log),
        Verb::State(args) => list::state(&args, &root),
        Verb::Kill(args) => kill::kill(&args, &root),
        Verb::Delete(args) => delete::delete(&args, &root, log),
        Verb::Exec(args) => exec::exec(args, &root, log),
        Verb::Ps(args) => list::ps(&args, &root),
        Verb::List(args) => list::list(&args, &root),
        Verb::Pause(args) => kill::pause(&args, &root),
        Verb::Resume(args) => kill::resume(&args, &root),
        Verb::Update(args) => update::update(&args, &root, log),
        Verb::Features => features::features(),
    }
}

/// Where callers want to find what went wrong.
#[derive(Clone, Debug)]
struct Log {
    path: Option<PathBuf>,
    format: LogFormat,
}

impl Log {
    /// Tells what is weaker than asked for; without a log on standard error, which may be the container's.
    fn warn(&self, text: &str) {
        match self.path {
            Some(_) => self.add("warning", text),
            None => crate::error::warn(text),
        }
    }

    fn add(&self, level: &str, text: &str) {
        let Some(path) = &self.path else { return };
        let time = crate::store::rfc3339(crate::store::now());
        let line = match self.format {
            LogFormat::Json => {
                serde_json::json!({ "level": level, "msg": text, "time": time }).to_string()
            }
            LogFormat::Text => format!("time=\"{time}\" level={level} msg={text:?}"),
        };
        let file = fs::File::options().create(true).append(true).open(path);
        if let Err(e) = file.and_then(|mut f| f.write_all(format!("{line}\n").as_bytes())) {
            say(Error::new("write log", e).at(path));
        }
    }
}

fn say(text: impl std::fmt::Display) {
    match std::io::stderr().lock().write_all(format!("{NAME}: {text}\n").as_bytes()) {
        Ok(()) | Err(_) => {}
    }
}

fn print(text: &str) -> Result<()> {
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(e) if e.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        r => r.step("write output"),
    }
}

/// Makes a path absolute, from where the command was started.
fn absolute(path: &Path) -> Result<PathBuf> {
    std::path::absolute(path).step_at("path", path)
}
