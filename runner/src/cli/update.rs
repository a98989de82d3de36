//! `runner update`.

use std::path::Path;

use clap::Args;

use crate::cgroup;
use crate::cli::{print, values};
use crate::error::{Error, Result};
use crate::spec::Limits;
use crate::store::{self, Container, Status, Store, short};

/// Change the limits of a container, also of one that runs.
#[derive(Debug, Args)]
pub(crate) struct UpdateArgs {
    /// Limit memory to SIZE bytes (suffix k, M, G)
    #[arg(short, long, value_name = "SIZE", value_parser = values::size)]
    memory: Option<u64>,
    /// Limit memory and swap together to SIZE bytes; -1: as much swap as there is
    #[arg(long, value_name = "SIZE", value_parser = values::swap, requires = "memory",
          allow_hyphen_values = true)]
    memory_swap: Option<u64>,
    /// Let the container keep SIZE bytes where memory gets short
    #[arg(long, value_name = "SIZE", value_parser = values::size)]
    memory_reservation: Option<u64>,
    /// Limit CPU time to N processors' worth
    #[arg(long, value_name = "N", value_parser = values::cpus)]
    cpus: Option<u64>,
    /// Share of CPU time beside others
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u64).range(2..=262_144))]
    cpu_shares: Option<u64>,
    /// Run on these processors only (0-3,8)
    #[arg(long, value_name = "LIST", value_parser = values::list)]
    cpuset_cpus: Option<String>,
    /// Use memory of these nodes only
    #[arg(long, value_name = "LIST", value_parser = values::list)]
    cpuset_mems: Option<String>,
    /// Limit the number of processes and threads
    #[arg(long, value_name = "N", value_parser = values::pids)]
    pids_limit: Option<u64>,
    /// Share of disk time beside others
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(10..=1000))]
    blkio_weight: Option<u64>,
    /// Container
    #[arg(value_name = "CONTAINER")]
    container: String,
}

/// Changes limits, now and for later starts.
pub(super) fn update(args: UpdateArgs, state: Option<&Path>) -> Result<u8> {
    let entry = store::find(&Store::choose(state)?, &args.container)?;
    let new = Limits {
        memory: args.memory,
        memory_swap: args.memory_swap,
        memory_reservation: args.memory_reservation,
        cpus: args.cpus,
        cpu_shares: args.cpu_shares,
        cpuset_cpus: args.cpuset_cpus,
        cpuset_mems: args.cpuset_mems,
        pids: args.pids_limit,
        blkio_weight: args.blkio_weight,
        rates: Vec::new(),
    };
    if new == Limits::default() {
        return Err(Error::new("update", "no limit is given").hint("see `runner update --help`"));
    }
    if entry.status() == Status::Running {
        cgroup::update(&entry.state.cgroups, short(&entry.id), &new)?;
    }
    let mut record = entry.record.clone();
    let limits = &mut record.request.limits;
    if new.memory.is_some() {
        limits.memory = new.memory;
        limits.memory_swap = new.memory_swap;
    }
    limits.memory_reservation = new.memory_reservation.or(limits.memory_reservation);
    limits.cpus = new.cpus.or(limits.cpus);
    limits.cpu_shares = new.cpu_shares.or(limits.cpu_shares);
    limits.cpuset_cpus = new.cpuset_cpus.or(limits.cpuset_cpus.take());
    limits.cpuset_mems = new.cpuset_mems.or(limits.cpuset_mems.take());
    limits.pids = new.pids.or(limits.pids);
    limits.blkio_weight = new.blkio_weight.or(limits.blkio_weight);
    Container::replace_record(&entry.dir, &record)?;
    print(&format!("{}\n", entry.id)).map(|()| 0)
}
