//! `runner exec`.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::Args;
use clap::builder::{OsStringValueParser, TypedValueParser};

use crate::cli::values::{self, EnvArg};
use crate::cli::{make, stop};
use crate::error::{Error, Result};
use crate::launch::{self, Entering};
use crate::plan;
use crate::spec::{
    Audience, Driver, First, MissingCwd, Process, SeccompRequest, Stdin, Terminal, User, capability,
};
use crate::store::{Entry, Store};

/// Run a program in a running container.
#[derive(Debug, Args)]
pub(crate) struct ExecArgs {
    /// Return as soon as the program runs
    #[arg(short, long)]
    detach: bool,
    /// Set a variable; without a value, pass the command's own on; may be repeated
    #[arg(short, long = "env", value_name = "NAME[=VALUE]",
          value_parser = OsStringValueParser::new().try_map(|s| values::env(&s)))]
    env: Vec<EnvArg>,
    /// Set the variables of a file, one NAME[=VALUE] a line; may be repeated
    #[arg(long, value_name = "FILE")]
    env_file: Vec<PathBuf>,
    /// Let the program read standard input
    #[arg(short, long)]
    interactive: bool,
    /// Give the program a terminal of its own, with job control
    #[arg(short, long)]
    tty: bool,
    /// Run as this user of the container, by name or number [default: the container's]
    #[arg(short, long, value_name = "USER[:GROUP]", value_parser = values::user)]
    user: Option<User>,
    /// Working directory inside [default: the container's]
    #[arg(short, long, value_name = "DIR")]
    workdir: Option<PathBuf>,
    /// With all capabilities and system calls
    #[arg(long)]
    privileged: bool,
    /// Container
    #[arg(value_name = "CONTAINER")]
    container: String,
    /// Program and its arguments
    #[arg(
        required = true,
        trailing_var_arg = true,
        allow_hyphen_values = true,
        value_name = "COMMAND"
    )]
    command: Vec<OsString>,
}

/// Runs the program; returns its exit code.
pub(super) fn exec(args: ExecArgs, state: Option<&Path>) -> Result<u8> {
    let store = Store::choose(state)?;
    let entry = stop::running(&store, &args.container)?;
    if crate::cgroup::freezer::is_paused(&entry.state.cgroups) {
        return Err(Error::new(format!("container {}", args.container), "it is paused")
            .hint(format!("let it go on by `runner unpause {}`", args.container)));
    }
    let Some(first) = entry.state.first else {
        return Err(Error::new(format!("container {}", args.container), "it isn't running"));
    };
    let detach = args.detach;
    let container = entry.dir.clone();
    let request = &entry.record.request;
    let entering = Entering {
        first,
        cgroups: entry.state.cgroups.clone(),
        identity: entry.record.identity.clone(),
        namespaces: launch::own_namespaces(request.network.net, &entry.record.identity),
        declared: plan::declared(&request.limits, &entry.state.cgroups),
        process: process(args, &entry)?,
    };
    if !detach {
        return launch::exec(entering, Audience::Caller, None);
    }
    let log = container.join("supervisor.log");
    launch::in_background(&log, |started| launch::exec(entering, Audience::Nobody, Some(started)))
        .map(|()| 0)
}

fn process(args: ExecArgs, entry: &Entry) -> Result<Process> {
    let mut request = entry.record.request.clone();
    let mut typed = Vec::new();
    for file in &args.env_file {
        typed.extend(make::env_file(file)?);
    }
    typed.extend(args.env);
    for (name, value) in values::resolve_env(typed) {
        request.process.env.retain(|(n, _)| *n != name);
        request.process.env.push((name, value));
    }
    if args.privileged && request.driver == Driver::None {
        return Err(Error::new(
            "--privileged",
            "the root is a directory, which it could make writable",
        )
        .hint("use another --driver for the container"));
    }
    if args.privileged {
        request.security.capabilities = capability::ALL;
        request.security.seccomp = SeccompRequest::Unconfined;
        request.security.no_new_privs = false;
    }
    let asked = &mut request.process;
    asked.args = args.command;
    asked.cwd = args.workdir.unwrap_or(std::mem::take(&mut asked.cwd));
    asked.missing_cwd = MissingCwd::Fail;
    asked.user = args.user.unwrap_or(asked.user.clone());
    asked.terminal = if args.tty { Terminal::New } else { Terminal::Inherited };
    asked.stdin = if args.interactive { Stdin::Inherited } else { Stdin::Null };
    asked.first = First::Init;
    plan::process_beside(&request, entry.state.first.map(|f| f.pid))
}
