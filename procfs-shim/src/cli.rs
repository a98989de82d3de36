//! What the user typed.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::Parser;

use crate::verbs::Verb;

/// Show /proc and /sys files as the reader's own container sees them.
///
/// Serves proc/{meminfo,cpuinfo,stat,uptime,loadavg,swaps,diskstats,partitions,vmstat,slabinfo,pressure/*} and
/// sys/devices/system/cpu/{online,present,possible,offline} below MOUNTPOINT. Each reader is told its own container's figures,
/// taken from its cgroups (v1, v2 or both); bind the files over those of the container's /proc.
#[derive(Debug, Parser)]
#[command(
    name = "procfs-shim",
    version,
    disable_version_flag = true,
    disable_help_subcommand = true,
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true,
    after_help = "Exit codes: 0 fine, 1 can't start or the connection broke, 2 wrong usage."
)]
pub struct Args {
    /// Stay in the foreground; without it, the command returns as soon as the mount is live
    #[arg(short = 'f', long)]
    pub foreground: bool,

    /// Log each request; implies -f
    #[arg(short = 'd', long)]
    pub debug: bool,

    /// Mount options: allow_other, fsname=NAME, ro, nosuid, nodev, noexec, … (several with commas)
    #[arg(short = 'o', value_name = "OPTIONS")]
    pub options: Vec<OsString>,

    /// Show no swap
    #[arg(short = 'u', long)]
    pub disable_swap: bool,

    /// Show no compressed swap
    #[arg(short = 'z', long)]
    pub disable_zswap: bool,

    /// Show all processors of the cpuset, whatever the quota
    #[arg(long)]
    pub disable_cfs: bool,

    /// Number the processors shown from 0 instead of as the kernel does
    #[arg(long)]
    pub renumber_cpus: bool,

    /// Write the daemon's process number to FILE, which stays locked while it runs
    #[arg(short = 'p', long, value_name = "FILE")]
    pub pidfile: Option<PathBuf>,

    /// Serve metrics for Prometheus by HTTP on the unix socket FILE, at /metrics
    #[arg(long, value_name = "FILE")]
    pub metrics: Option<PathBuf>,

    /// Threads that answer requests: one works, the others help where it is busy or waits [default: 2]
    #[arg(long, value_name = "N")]
    pub threads: Option<usize>,

    /// Serve one container, whose first process is PID, whoever reads
    #[arg(long, value_name = "PID")]
    pub init_pid: Option<u32>,

    /// Refuse if the process PID didn't start at TICKS (field 22 of /proc/PID/stat)
    #[arg(long, value_name = "TICKS", requires = "init_pid")]
    pub init_start: Option<u64>,

    /// Show a memory limit that no cgroup enforces, in bytes (or with suffix K, M, G, T); the
    /// smaller of this and the cgroups' limits is shown
    #[arg(long, value_name = "BYTES", requires = "init_pid")]
    pub declared_memory: Option<String>,

    /// Show a processor limit that no cgroup enforces, such as 1.5
    #[arg(long, value_name = "CPUS", requires = "init_pid")]
    pub declared_cpus: Option<String>,

    /// Write a byte to the inherited descriptor N when the mount is live; implies -f
    #[arg(long, value_name = "N")]
    pub ready_fd: Option<i32>,

    /// Take over a connection from before an upgrade
    #[arg(long, hide = true, value_name = "FD,FD,FD,ID")]
    pub resume: Option<String>,

    /// Print the version
    #[arg(short = 'v', long, action = clap::ArgAction::Version)]
    version: Option<bool>,

    /// Always so here, as with lxcfs
    #[arg(short = 'l', long, hide = true)]
    enable_loadavg: bool,

    /// Always so here
    #[arg(long, hide = true)]
    enable_cfs: bool,

    /// Always so here
    #[arg(long, hide = true)]
    enable_pidfd: bool,

    /// Ignored, as lxcfs does
    #[arg(short = 's', hide = true)]
    single: bool,

    /// Nothing is kept there
    #[arg(long, hide = true, value_name = "DIR")]
    runtime_dir: Option<PathBuf>,

    /// Refused: see config
    #[arg(long, hide = true)]
    pub enable_cgroup: bool,

    /// Refused: see config
    #[arg(long, hide = true)]
    pub enable_psi_poll: bool,

    /// Where to mount: a directory, or /dev/fd/N for a descriptor of /dev/fuse that is mounted
    #[arg(value_name = "MOUNTPOINT", required = true)]
    pub mountpoint: Option<OsString>,

    /// Something else than serving
    #[command(subcommand)]
    pub verb: Option<Verb>,
}
