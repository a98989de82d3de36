//! What a container is asked to be, on the command line of `run` and `create`.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;

use clap::Args;
use clap::builder::{OsStringValueParser, TypedValueParser};

use crate::cli::values::{self, EnvArg, SecurityOption};
use crate::error::{Error, Result};
use crate::spec::{
    Device, DeviceRate, Driver, Figures, Net, OwnCgroups, Port, Tmpfs, Ulimit, User, Volume,
};

/// Options that describe a container.
#[derive(Debug, Args)]
pub(crate) struct ContainerArgs {
    /// Limit memory to SIZE bytes (suffix k, M, G)
    #[arg(short, long, value_name = "SIZE", value_parser = values::size, help_heading = "Limits")]
    pub(crate) memory: Option<u64>,
    /// Limit memory and swap together to SIZE bytes; -1: as much swap as there is [default: as --memory]
    #[arg(long, value_name = "SIZE", value_parser = values::swap, requires = "memory",
          allow_hyphen_values = true, help_heading = "Limits")]
    pub(crate) memory_swap: Option<u64>,
    /// Let the container keep SIZE bytes where memory gets short
    #[arg(long, value_name = "SIZE", value_parser = values::size, help_heading = "Limits")]
    pub(crate) memory_reservation: Option<u64>,
    /// Limit CPU time to N processors' worth (0.5, 2, ...)
    #[arg(long, value_name = "N", value_parser = values::cpus, help_heading = "Limits")]
    pub(crate) cpus: Option<u64>,
    /// Share of CPU time beside others; the usual one is 1024
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u64).range(2..=262_144),
          help_heading = "Limits")]
    pub(crate) cpu_shares: Option<u64>,
    /// Run on these processors only (0-3,8)
    #[arg(long, value_name = "LIST", value_parser = values::list, help_heading = "Limits")]
    pub(crate) cpuset_cpus: Option<String>,
    /// Use memory of these nodes only
    #[arg(long, value_name = "LIST", value_parser = values::list, help_heading = "Limits")]
    pub(crate) cpuset_mems: Option<String>,
    /// Limit the number of processes and threads
    #[arg(long, value_name = "N", value_parser = values::pids, help_heading = "Limits")]
    pub(crate) pids_limit: Option<u64>,
    /// Share of disk time beside others
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(10..=1000),
          help_heading = "Limits")]
    pub(crate) blkio_weight: Option<u64>,
    /// Limit reading from a disk to RATE bytes a second
    #[arg(long, value_name = "DEVICE:RATE", value_parser = values::read_bytes, help_heading = "Limits")]
    pub(crate) device_read_bps: Vec<DeviceRate>,
    /// Limit writing to a disk to RATE bytes a second
    #[arg(long, value_name = "DEVICE:RATE", value_parser = values::write_bytes, help_heading = "Limits")]
    pub(crate) device_write_bps: Vec<DeviceRate>,
    /// Limit reading from a disk to RATE requests a second
    #[arg(long, value_name = "DEVICE:RATE", value_parser = values::read_requests, help_heading = "Limits")]
    pub(crate) device_read_iops: Vec<DeviceRate>,
    /// Limit writing to a disk to RATE requests a second
    #[arg(long, value_name = "DEVICE:RATE", value_parser = values::write_requests, help_heading = "Limits")]
    pub(crate) device_write_iops: Vec<DeviceRate>,
    /// Limit of each process, such as nofile=1024:4096
    #[arg(long, value_name = "NAME=SOFT[:HARD]", value_parser = values::ulimit, help_heading = "Limits")]
    pub(crate) ulimit: Vec<Ulimit>,
    /// Whether the container has cgroups of its own: without, there are no limits, figures of its use,
    /// or pauses, and /sys/fs/cgroup is empty
    #[arg(long, value_name = "MODE", default_value = "enabled", help_heading = "Limits")]
    pub(crate) cgroups: OwnCgroups,
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
    /// Keep the changes in DIR
    #[arg(long, value_name = "DIR", help_heading = "Root")]
    pub(crate) upper: Option<PathBuf>,
    /// Which file system merges the layers
    #[arg(long, value_name = "DRIVER", default_value = "unionfs", help_heading = "Root")]
    pub(crate) driver: Driver,
    /// Make the root read-only; volumes, /dev/shm, /run, /tmp and /var/tmp stay writable
    #[arg(long, help_heading = "Root")]
    pub(crate) read_only: bool,
    /// Show the host's SRC, or the volume of that name, at DST; may be repeated
    #[arg(short, long = "volume", value_name = "[SRC:]DST[:ro]", help_heading = "Root",
          value_parser = OsStringValueParser::new().try_map(|s| values::volume(&s)))]
    pub(crate) volumes: Vec<Volume>,
    /// Mount a file system in memory; options are those of tmpfs(5), ro, exec, suid and dev
    #[arg(long, value_name = "DST[:OPTIONS]", value_parser = values::tmpfs, help_heading = "Root")]
    pub(crate) tmpfs: Vec<Tmpfs>,
    /// Size of /dev/shm
    #[arg(long, value_name = "SIZE", value_parser = values::size, default_value = "64M",
          help_heading = "Root")]
    pub(crate) shm_size: u64,
    /// Let the container use the host's device SRC
    #[arg(long, value_name = "SRC[:DST][:rwm]", value_parser = values::device, help_heading = "Root")]
    pub(crate) device: Vec<Device>,

    /// Name of the container [default: made up]
    #[arg(long, value_parser = values::name, help_heading = "Identity")]
    pub(crate) name: Option<String>,
    /// Host name inside [default: the container's --name, else the beginning of its id]
    #[arg(long, value_parser = values::hostname, help_heading = "Identity")]
    pub(crate) hostname: Option<String>,
    /// Run as this user of the container, by name or number [default: the image's, else root]
    #[arg(short, long, value_name = "USER[:GROUP]", value_parser = values::user,
          help_heading = "Identity")]
    pub(crate) user: Option<User>,
    /// Note something on the container; may be repeated
    #[arg(short, long, value_name = "KEY=VALUE", value_parser = values::label, help_heading = "Identity")]
    pub(crate) label: Vec<(String, String)>,

    /// Network: `none` has a loopback interface only, `host` is the host's, `pasta` reaches what the
    /// host reaches [default: none, with -p pasta]
    #[arg(long, alias = "network", value_name = "MODE", help_heading = "Network")]
    pub(crate) net: Option<Net>,
    /// Let a port of the host lead inside; may be repeated
    #[arg(short, long, value_name = "[ADDRESS:]PORT:PORT[/udp]", value_parser = values::port,
          help_heading = "Network")]
    pub(crate) publish: Vec<Port>,
    /// Name server instead of the host's; may be repeated
    #[arg(long, value_name = "ADDRESS", value_parser = values::address, help_heading = "Network")]
    pub(crate) dns: Vec<String>,
    /// Add a name to /etc/hosts; may be repeated
    #[arg(long, value_name = "NAME:ADDRESS", value_parser = values::host, help_heading = "Network")]
    pub(crate) add_host: Vec<(String, String)>,

    /// Grant a capability, or ALL
    #[arg(long, value_name = "CAP", value_parser = values::capability, help_heading = "Rights")]
    pub(crate) cap_add: Vec<u64>,
    /// Don't grant a capability, or ALL
    #[arg(long, value_name = "CAP", value_parser = values::capability, help_heading = "Rights")]
    pub(crate) cap_drop: Vec<u64>,
    /// seccomp=unconfined, seccomp=FILE, no-new-privileges=BOOL, mask=PATH[:PATH], unmask=ALL|PATH[:PATH]
    #[arg(long, value_name = "OPTION", value_parser = values::security, help_heading = "Rights")]
    pub(crate) security_opt: Vec<SecurityOption>,
    /// Grant all capabilities, devices and system calls: what runs inside can take over the host
    #[arg(long, help_heading = "Rights")]
    pub(crate) privileged: bool,
    /// Who fills /proc/meminfo, /proc/stat and their like: the kernel with the host's figures, or we with
    /// the container's own
    #[arg(long, value_name = "WHO", default_value = "container", help_heading = "Rights")]
    pub(crate) procfs: Figures,
    /// Who answers sysinfo(2) and sched_getaffinity(2): the kernel with the host's figures, or we with
    /// the container's [auto: we, where memory or CPUs are limited, the kernel
    /// can ask us, and --procfs doesn't say that it shows its own]
    #[arg(long, value_name = "WHO", default_value = "auto", help_heading = "Rights")]
    pub(crate) sysinfo: values::WhoAnswers,

    /// Set a variable; without a value, pass the command's own on; may be repeated
    #[arg(short, long = "env", value_name = "NAME[=VALUE]", help_heading = "Program",
          value_parser = OsStringValueParser::new().try_map(|s| values::env(&s)))]
    pub(crate) env: Vec<EnvArg>,
    /// Set the variables of a file, one NAME[=VALUE] a line; may be repeated
    #[arg(long, value_name = "FILE", help_heading = "Program")]
    pub(crate) env_file: Vec<PathBuf>,
    /// Working directory inside [default: the image's, else /]
    #[arg(short, long, value_name = "DIR", help_heading = "Program")]
    pub(crate) workdir: Option<PathBuf>,
    /// Program instead of the image's entry point
    #[arg(long, value_name = "PROGRAM", help_heading = "Program")]
    pub(crate) entrypoint: Option<String>,
    /// Let the program read standard input (without: it reads nothing)
    #[arg(short, long, help_heading = "Program")]
    pub(crate) interactive: bool,
    /// Give the program a terminal of its own, with job control
    #[arg(short, long, help_heading = "Program")]
    pub(crate) tty: bool,
    /// Make the program itself process 1, without an init that reaps and forwards signals
    #[arg(long, help_heading = "Program")]
    pub(crate) no_init: bool,
    /// Always so, unless --no-init
    #[arg(long, hide = true)]
    pub(crate) init: bool,
    /// Signal that asks the program to end [default: the image's, else TERM]
    #[arg(long, value_name = "SIGNAL", value_parser = values::signal, help_heading = "Program")]
    pub(crate) stop_signal: Option<i32>,
    /// Seconds that `stop` waits before it kills
    #[arg(long, value_name = "SECONDS", default_value_t = 10, help_heading = "Program")]
    pub(crate) stop_timeout: u32,
    /// Write the container's id to FILE, which must not exist
    #[arg(long, value_name = "FILE", help_heading = "Program")]
    pub(crate) cidfile: Option<PathBuf>,

    /// Image and what its entry point is started with; or, after `--`, a program and its arguments, on
    /// the host's own root, --rootfs or --layers
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "IMAGE|COMMAND")]
    pub(crate) words: Vec<OsString>,
    /// Whether `--` came before them, which clap doesn't tell.
    #[arg(skip)]
    pub(crate) is_command: bool,
}

impl ContainerArgs {
    /// Finds out what the words are, from the whole command line.
    ///
    /// # Errors
    /// They begin with an option, which clap takes for one of them.
    pub(crate) fn tell_words(&mut self, typed: &[OsString]) -> Result<()> {
        // The words are the last ones that were typed.
        let before = typed.len().checked_sub(self.words.len() + 1);
        self.is_command = before.and_then(|n| typed.get(n)).is_some_and(|w| w == "--");
        match self.words.first() {
            Some(first) if first.as_encoded_bytes().starts_with(b"-") => {
                Err(Error::new("unknown option", "there is no such option of `runner run`")
                    .at(first)
                    .hint("see `runner run --help`; write a program of that name as ./NAME"))
            }
            _ => Ok(()),
        }
    }

    /// Returns the labels.
    pub(crate) fn labels(&self) -> BTreeMap<String, String> {
        self.label.iter().cloned().collect()
    }
}
