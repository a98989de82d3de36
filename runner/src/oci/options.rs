//! The command line of runc, as far as tools use it.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

/// Run a bundle of the OCI runtime specification, for podman, containerd and other tools.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Directory for the state of containers [default: /run/runner-oci, without root
    /// $XDG_RUNTIME_DIR/runner-oci]
    #[arg(long, value_name = "DIR")]
    pub(super) root: Option<PathBuf>,
    /// File to which errors and warnings are added
    #[arg(long, value_name = "FILE")]
    pub(super) log: Option<PathBuf>,
    /// Form of that file
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub(super) log_format: LogFormat,
    /// Refused: cgroups are made without systemd
    #[arg(long)]
    pub(super) systemd_cgroup: bool,
    /// Taken for the sake of tools; there is nothing more to say
    #[arg(long, hide = true)]
    pub(super) debug: bool,
    /// Print the version, and that of the specification
    #[arg(short = 'v', long)]
    pub(super) version: bool,
    #[command(subcommand)]
    pub(super) verb: Option<Verb>,
}

/// Form of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum LogFormat {
    /// `key=value`
    Text,
    /// An object a line
    Json,
}

#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Create a container, whose program waits for `start`
    Create(CreateArgs),
    /// Start the program of a created container
    Start(IdArgs),
    /// Create a container, start its program, and wait for it
    Run(RunArgs),
    /// Print the state of a container as JSON
    State(IdArgs),
    /// Send a signal to a container's program
    Kill(KillArgs),
    /// Remove a container that has ended
    Delete(DeleteArgs),
    /// Run a further program in a container
    Exec(ExecArgs),
    /// List the processes of a container
    Ps(PsArgs),
    /// List containers
    List(ListArgs),
    /// Stop all processes of a container for a while
    Pause(IdArgs),
    /// Let a paused container go on
    Resume(IdArgs),
    /// Change the limits of a container
    Update(UpdateArgs),
    /// Print what this runtime knows, as JSON
    Features,
}

/// A container.
#[derive(Debug, Args)]
pub(super) struct IdArgs {
    /// Container
    #[arg(value_name = "ID")]
    pub(super) id: String,
}

#[derive(Debug, Args)]
pub(super) struct CreateArgs {
    /// Directory of the bundle, which holds config.json
    #[arg(short, long, value_name = "DIR", default_value = ".")]
    pub(super) bundle: PathBuf,
    /// Socket to which the terminal's other end is sent
    #[arg(long, value_name = "SOCKET")]
    pub(super) console_socket: Option<PathBuf>,
    /// File for the number of the container's first process
    #[arg(long, value_name = "FILE")]
    pub(super) pid_file: Option<PathBuf>,
    /// Change the root by a move and chroot, where it can't be by pivot_root
    #[arg(long)]
    pub(super) no_pivot: bool,
    /// Leave the container the caller's session keyring
    #[arg(long)]
    pub(super) no_new_keyring: bool,
    /// Hand N descriptors from 3 on to the program
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(super) preserve_fds: u32,
    /// Container
    #[arg(value_name = "ID")]
    pub(super) id: String,
}

#[derive(Debug, Args)]
pub(super) struct RunArgs {
    /// Return as soon as the program runs
    #[arg(short, long)]
    pub(super) detach: bool,
    /// Keep the container once its program has ended
    #[arg(long)]
    pub(super) keep: bool,
    #[command(flatten)]
    pub(super) create: CreateArgs,
}

#[derive(Debug, Args)]
pub(super) struct KillArgs {
    /// Send it to all processes
    #[arg(short, long)]
    pub(super) all: bool,
    /// Container
    #[arg(value_name = "ID")]
    pub(super) id: String,
    /// Signal, by name or number
    #[arg(value_name = "SIGNAL", default_value = "SIGTERM")]
    pub(super) signal: String,
}

#[derive(Debug, Args)]
pub(super) struct DeleteArgs {
    /// End it first; one that isn't there is no error
    #[arg(short, long)]
    pub(super) force: bool,
    /// Container
    #[arg(value_name = "ID")]
    pub(super) id: String,
}

#[derive(Debug, Args)]
pub(super) struct ExecArgs {
    /// Socket to which the terminal's other end is sent
    #[arg(long, value_name = "SOCKET")]
    pub(super) console_socket: Option<PathBuf>,
    /// Working directory [default: that of the container]
    #[arg(long, value_name = "DIR")]
    pub(super) cwd: Option<String>,
    /// Set a variable; may be repeated
    #[arg(short, long, value_name = "NAME=VALUE")]
    pub(super) env: Vec<String>,
    /// Give the program a terminal
    #[arg(short, long)]
    pub(super) tty: bool,
    /// Run as this user, by number
    #[arg(short, long, value_name = "UID[:GID]")]
    pub(super) user: Option<String>,
    /// Add a group, by number; may be repeated
    #[arg(short = 'g', long, value_name = "GID")]
    pub(super) additional_gids: Vec<u32>,
    /// File with the process as config.json has it
    #[arg(short, long, value_name = "FILE")]
    pub(super) process: Option<PathBuf>,
    /// Return as soon as the program runs
    #[arg(short, long)]
    pub(super) detach: bool,
    /// File for the number of the program's process
    #[arg(long, value_name = "FILE")]
    pub(super) pid_file: Option<PathBuf>,
    /// Set-user-ID programs give no rights
    #[arg(long)]
    pub(super) no_new_privs: bool,
    /// Grant a capability; may be repeated
    #[arg(short, long, value_name = "CAP")]
    pub(super) cap: Vec<String>,
    /// Hand N descriptors from 3 on to the program
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(super) preserve_fds: u32,
    /// Also in a container that is paused, in which it waits
    #[arg(long)]
    pub(super) ignore_paused: bool,
    /// Container
    #[arg(value_name = "ID")]
    pub(super) id: String,
    /// Program and arguments
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "COMMAND")]
    pub(super) command: Vec<String>,
}

#[derive(Debug, Args)]
pub(super) struct PsArgs {
    /// Form of the list
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    pub(super) format: ListFormat,
    /// Container
    #[arg(value_name = "ID")]
    pub(super) id: String,
    /// Options of ps(1) [default: -ef]
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "OPTION")]
    pub(super) options: Vec<String>,
}

#[derive(Debug, Args)]
pub(super) struct ListArgs {
    /// Form of the list
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    pub(super) format: ListFormat,
    /// Names only
    #[arg(short, long)]
    pub(super) quiet: bool,
}

/// Form of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum ListFormat {
    /// Columns
    Table,
    /// JSON
    Json,
}

#[derive(Debug, Args)]
pub(super) struct UpdateArgs {
    /// File with the limits as config.json has them; `-` is standard input
    #[arg(short, long, value_name = "FILE")]
    pub(super) resources: Option<PathBuf>,
    /// Bytes of memory; -1 is no limit
    #[arg(long, value_name = "BYTES", allow_hyphen_values = true)]
    pub(super) memory: Option<i64>,
    /// Bytes of memory and swap together; -1 is no limit
    #[arg(long, value_name = "BYTES", allow_hyphen_values = true)]
    pub(super) memory_swap: Option<i64>,
    /// Bytes of memory to keep where it gets short
    #[arg(long, value_name = "BYTES", allow_hyphen_values = true)]
    pub(super) memory_reservation: Option<i64>,
    /// Microseconds of CPU time a period; -1 is no limit
    #[arg(long, value_name = "MICROSECONDS", allow_hyphen_values = true)]
    pub(super) cpu_quota: Option<i64>,
    /// Length of the period in microseconds
    #[arg(long, value_name = "MICROSECONDS")]
    pub(super) cpu_period: Option<u64>,
    /// Share of CPU time beside others
    #[arg(long, value_name = "N")]
    pub(super) cpu_share: Option<u64>,
    /// CPUs to run on
    #[arg(long, value_name = "LIST")]
    pub(super) cpuset_cpus: Option<String>,
    /// Memory nodes to use
    #[arg(long, value_name = "LIST")]
    pub(super) cpuset_mems: Option<String>,
    /// Processes; -1 is no limit
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    pub(super) pids_limit: Option<i64>,
    /// Share of disk time beside others
    #[arg(long, value_name = "N")]
    pub(super) blkio_weight: Option<u16>,
    /// Container
    #[arg(value_name = "ID")]
    pub(super) id: String,
}
