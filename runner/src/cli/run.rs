//! `runner run`: its options, and what it does with them.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use clap::Args;
use clap::builder::{OsStringValueParser, TypedValueParser};

use crate::cli::print;
use crate::cli::values::{self, EnvArg};
use crate::error::{Error, Result, warn};
use crate::launch::{self, Strict};
use crate::plan::{self, ProcessRequest, Request, RootRequest, Trace};
use crate::spec::{Access, Driver, First, Limits, Net, Stdin, Terminal, User, Volume};

/// Run a program in a new container.
///
/// Without --rootfs or --layers the root is the host's own `/`, seen through a throw-away layer: try
/// anything, nothing on the host changes. File systems mounted below a layer are not part of it; use
/// -v to bring a directory in.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES, after_long_help = AFTER)]
pub(crate) struct RunArgs {
    /// Limit memory to SIZE bytes (suffix k, M, G)
    #[arg(short, long, value_name = "SIZE", value_parser = values::size, help_heading = "Limits")]
    pub(crate) memory: Option<u64>,
    /// Limit CPU time to N processors' worth (0.5, 2, ...)
    #[arg(long, value_name = "N", value_parser = values::cpus, help_heading = "Limits")]
    pub(crate) cpus: Option<u64>,
    /// Limit the number of processes and threads
    #[arg(long, value_name = "N", value_parser = values::pids, help_heading = "Limits")]
    pub(crate) pids_limit: Option<u64>,
    /// Fail where a limit or an isolation is not possible here, instead of warning
    #[arg(long, help_heading = "Limits")]
    pub(crate) strict: bool,

    /// Use DIR as the root; it is only read, changes go to the upper layer
    #[arg(long, value_name = "DIR", conflicts_with = "layers", help_heading = "Root")]
    pub(crate) rootfs: Option<PathBuf>,
    /// Merge these directories into the root, the topmost first (`\:` is a colon in a name)
    #[arg(long, value_name = "DIR:DIR...", help_heading = "Root",
          value_parser = OsStringValueParser::new().try_map(|s| values::layers(&s)))]
    pub(crate) layers: Option<std::vec::Vec<OsString>>,
    /// Keep the changes in DIR (without: they are thrown away at the end)
    #[arg(long, value_name = "DIR", help_heading = "Root")]
    pub(crate) upper: Option<PathBuf>,
    /// Which file system merges the layers
    #[arg(long, value_name = "DRIVER", default_value = "unionfs", help_heading = "Root")]
    pub(crate) driver: Driver,
    /// Make the root read-only; volumes and /dev/shm stay as they are
    #[arg(long, help_heading = "Root")]
    pub(crate) read_only: bool,
    /// Show the host's SRC at DST; may be repeated
    #[arg(short, long = "volume", value_name = "SRC:DST[:ro]", help_heading = "Root",
          value_parser = OsStringValueParser::new().try_map(|s| values::volume(&s)))]
    pub(crate) volumes: Vec<Volume>,
    /// Throw the changes away at the end, which is the default: refused with --upper
    #[arg(long, conflicts_with = "upper", help_heading = "Root")]
    pub(crate) rm: bool,

    /// Name of the container, while it runs [default: 12 random hex digits]
    #[arg(long, value_parser = values::name, help_heading = "Identity")]
    pub(crate) name: Option<String>,
    /// Host name inside [default: the container's name]
    #[arg(long, value_parser = values::hostname, help_heading = "Identity")]
    pub(crate) hostname: Option<String>,
    /// Run as this user of the container, by name or number
    #[arg(short, long, value_name = "USER[:GROUP]", value_parser = values::user,
          default_value = "0:0", help_heading = "Identity")]
    pub(crate) user: User,
    /// Network: `none` has a loopback interface only, `host` is the host's
    #[arg(long, value_name = "MODE", default_value = "none", help_heading = "Identity")]
    pub(crate) net: Net,

    /// Set a variable; without a value, pass the command's own on; may be repeated
    #[arg(short, long = "env", value_name = "NAME[=VALUE]", help_heading = "Program",
          value_parser = OsStringValueParser::new().try_map(|s| values::env(&s)))]
    pub(crate) env: Vec<EnvArg>,
    /// Working directory inside
    #[arg(short, long, value_name = "DIR", default_value = "/", help_heading = "Program")]
    pub(crate) workdir: PathBuf,
    /// Let the program read standard input (without: it reads nothing)
    #[arg(short, long, help_heading = "Program")]
    pub(crate) interactive: bool,
    /// Give the program a terminal of its own, with job control
    #[arg(short, long, help_heading = "Program")]
    pub(crate) tty: bool,
    /// Make the program itself process 1, without an init that reaps and forwards signals
    #[arg(long, help_heading = "Program")]
    pub(crate) no_init: bool,

    /// Print what would be done, and do nothing
    #[arg(long, help_heading = "Diagnosis")]
    pub(crate) dry_run: bool,
    /// Print each step of the start with its time
    #[arg(long, help_heading = "Diagnosis")]
    pub(crate) trace_start: bool,

    /// Program and its arguments
    #[arg(
        required = true,
        trailing_var_arg = true,
        allow_hyphen_values = true,
        value_name = "CMD"
    )]
    pub(crate) command: Vec<OsString>,
}

const EXAMPLES: &str = "\
Examples:
  runner run --memory 256M --cpus 1 -- sh -c 'free -m; nproc; uptime'
  runner run -it --net host -- bash
  runner run --rootfs ./debian --upper ./changes -v ./src:/src:ro -w /src -- make

Exit code: the program's own; 128+N if signal N killed it; 125 if the container
could not be made; 126 if the program can't be run; 127 if there is none.";

const AFTER: &str = "\
Examples:
  runner run --memory 256M --cpus 1 -- sh -c 'free -m; nproc; uptime'
  runner run -it --net host -- bash
  runner run --rootfs ./debian --upper ./changes -v ./src:/src:ro -w /src -- make

What the container gets: mount, pid, UTS, IPC, network, cgroup and time
namespaces, and a user namespace unless root starts it; the capabilities that
Docker grants by default, no_new_privs, and no descriptor but standard input,
output and error. Devices can't be opened but those of /dev. Memory is limited
without swap on top.

Without root: ids are mapped by newuidmap and newgidmap from /etc/subuid and
/etc/subgid; without such ranges only root exists inside. Files of the host's
root are shown as root's, and what only the host's root may read stays closed;
where that is /root, an empty one is there instead.

As files of /proc are covered, the kernel refuses a new `mount -t proc` in a
user namespace that the program makes inside.

Exit code:
  125    the container could not be made, or the command line is wrong
  126    the program was found, but can't be run
  127    there is no such program
  128+N  signal N ended the program
  else   the program's own";

/// Plans the container and runs it; returns the exit code of the program.
pub(crate) fn run(args: RunArgs, state: Option<&Path>) -> Result<u8> {
    let dry = args.dry_run;
    let strict = if args.strict { Strict::On } else { Strict::Off };
    // Where a program is expected, clap takes what it doesn't know for one.
    if let Some(first) = args.command.first()
        && first.as_bytes().starts_with(b"-")
    {
        return Err(Error::new("unknown option", "there is no such option of `runner run`")
            .at(first)
            .hint("see `runner run --help`; write a program of that name as ./NAME"));
    }
    let planned = plan::plan(request(args, state))?;
    if let Some(first) = planned.warnings.first()
        && strict == Strict::On
    {
        return Err(Error::new("--strict", first.clone()));
    }
    planned.warnings.iter().for_each(warn);
    if dry {
        return print(&plan::describe(&planned)).map(|()| 0);
    }
    launch::launch(planned.spec, &planned.cgroup, &planned.store, strict)
}

/// Says in typed values what was asked for.
fn request(args: RunArgs, state: Option<&Path>) -> Request {
    let root = match (args.rootfs, args.layers) {
        (Some(dir), _) => RootRequest::Layers(vec![dir]),
        (None, Some(layers)) => {
            RootRequest::Layers(layers.into_iter().map(PathBuf::from).collect())
        }
        (None, None) => RootRequest::Host,
    };
    // A variable without a value that the command itself lacks stays unset.
    let env = args.env.into_iter().filter_map(|e| {
        let value = e.value.or_else(|| std::env::var_os(&e.name))?;
        Some((e.name, value))
    });
    let process = ProcessRequest {
        args: args.command,
        env: env.collect(),
        cwd: args.workdir,
        user: args.user,
        terminal: if args.tty { Terminal::New } else { Terminal::Inherited },
        stdin: if args.interactive { Stdin::Inherited } else { Stdin::Null },
        first: if args.no_init { First::Program } else { First::Init },
    };
    Request {
        limits: Limits { memory: args.memory, cpus: args.cpus, pids: args.pids_limit },
        root,
        upper: args.upper,
        driver: args.driver,
        root_access: if args.read_only { Access::ReadOnly } else { Access::ReadWrite },
        volumes: args.volumes,
        name: args.name,
        hostname: args.hostname,
        net: args.net,
        process,
        trace: if args.trace_start { Trace::On } else { Trace::Off },
        state: state.map(Path::to_path_buf),
    }
}
