//! `runner run` and `runner create`.

use std::ffi::OsStr;
use std::fs;
use std::io::Write;
use std::path::Path;

use clap::Args;

use crate::cli::container::ContainerArgs;
use crate::cli::{make, print};
use crate::error::{Context, Error, Result, best_effort, warn};
use crate::launch::{self, Builder, Launch, Purpose, Started};
use crate::plan::{self, Trace, Which};
use crate::spec::{Audience, Strict};
use crate::store::{Container, Entry, Keep, Record, State, Store, Volumes};

/// Run a program in a new container.
///
/// `run IMAGE` runs what the image names; `run -- COMMAND` runs a command on the host's own `/`, seen
/// through a throw-away layer: try anything, nothing on the host changes. File systems mounted below a
/// layer are not part of it; use -v to bring a directory in.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES, after_long_help = AFTER)]
pub(crate) struct RunArgs {
    /// Return as soon as the program runs, and print the container's id
    #[arg(short, long, help_heading = "Program")]
    detach: bool,
    /// Remove the container when its program has ended: the default for a command on directories that
    /// is neither detached nor named
    #[arg(long, conflicts_with = "upper", help_heading = "Root")]
    rm: bool,
    /// Print what would be done, and do nothing
    #[arg(long, help_heading = "Diagnosis")]
    dry_run: bool,
    /// Print each step of the start with its time
    #[arg(long, help_heading = "Diagnosis")]
    trace_start: bool,
    #[command(flatten)]
    pub(super) container: Box<ContainerArgs>,
}

/// Make a container, to be started by `runner start`.
#[derive(Debug, Args)]
pub(crate) struct CreateArgs {
    /// Remove the container when its program has ended
    #[arg(long, conflicts_with = "upper", help_heading = "Root")]
    rm: bool,
    #[command(flatten)]
    pub(super) container: Box<ContainerArgs>,
}

const EXAMPLES: &str = "\
Examples:
  runner run --memory 256M --cpus 1 -- sh -c 'free -m; nproc; uptime'
  runner run -it --net host -- bash
  runner run -d --name db -v data:/var/lib/db -p 5432:5432 postgres
  runner run --rootfs ./debian --upper ./changes -v ./src:/src:ro -w /src -- make

Exit code: the program's own; 128+N if signal N killed it; 125 if the container
could not be made; 126 if the program can't be run; 127 if there is none.";

const AFTER: &str = "\
Examples:
  runner run --memory 256M --cpus 1 -- sh -c 'free -m; nproc; uptime'
  runner run -it --net host -- bash
  runner run -d --name db -v data:/var/lib/db -p 5432:5432 postgres
  runner run --rootfs ./debian --upper ./changes -v ./src:/src:ro -w /src -- make

What stays: a container of an image, a detached one and one with a --name stay
with their changes until `runner rm`, unless --rm is given. A command on the
host's root or on directories leaves nothing.

What the container gets: mount, pid, UTS, IPC, network, cgroup and time
namespaces, and a user namespace unless root starts it; the capabilities and
system calls that Docker grants by default, no_new_privs, and no descriptor but
standard input, output and error. Devices can't be opened but those of /dev.
Memory is limited without swap on top.

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

/// Makes a container and runs it; returns the exit code of the program.
pub(crate) fn run(args: RunArgs, state: Option<&Path>) -> Result<u8> {
    let store = Store::choose(state)?;
    let RunArgs { detach, rm, dry_run, trace_start, container } = args;
    let cidfile = container.cidfile.clone();
    let keep = |a: &make::Args<'_>| match rm || !(detach || a.has_image || a.name.is_some()) {
        true => Keep::Thrown,
        false => Keep::Kept,
    };
    let made = make::make(*container, keep, &store)?;
    let trace = if trace_start { Trace::On } else { Trace::Off };
    if dry_run {
        let planned = plan(&made.record, &store, Audience::Caller, trace)?;
        return print(&plan::describe(&planned)).map(|()| 0);
    }
    if !detach {
        // Decided before anything is touched.
        let planned = plan(&made.record, &store, Audience::Caller, trace)?;
        let builder = launch::start_builder(&planned.spec, &planned.cgroup)?;
        let container = write_down(&store, &made.record, cidfile.as_deref())?;
        drop(made._images);
        return start_planned(
            planned,
            made.record,
            container,
            State::default(),
            (Audience::Caller, None),
            builder,
        );
    }
    let container = write_down(&store, &made.record, cidfile.as_deref())?;
    drop(made._images);
    let id = made.record.id.clone();
    start_detached(&store, made.record, container, State::default(), trace)?;
    print(&format!("{id}\n")).map(|()| 0)
}

/// Makes a container and prints its id.
pub(crate) fn create(args: CreateArgs, state: Option<&Path>) -> Result<u8> {
    let store = Store::choose(state)?;
    let cidfile = args.container.cidfile.clone();
    let keep = if args.rm { Keep::Thrown } else { Keep::Kept };
    let made = make::make(*args.container, |_| keep, &store)?;
    // What can't be planned is told now, not at the start.
    plan(&made.record, &store, Audience::Caller, Trace::Off)?;
    // It stays until it was started, also if it goes with its program then.
    let record = Record { keep: Keep::Kept, ..made.record };
    let container = write_down(&store, &record, cidfile.as_deref())?;
    if keep == Keep::Thrown {
        Container::replace_record(container.dir(), &Record { keep, ..record.clone() })?;
    }
    print(&format!("{}\n", record.id)).map(|()| 0)
}

/// Writes a container down, with the volumes that it names.
fn write_down(store: &Store, record: &Record, cidfile: Option<&Path>) -> Result<Container> {
    let mut file = match cidfile {
        Some(path) => Some(
            fs::File::options()
                .write(true)
                .create_new(true)
                .open(path)
                .step_at("--cidfile", path)?,
        ),
        None => None,
    };
    let container = store.create(record)?;
    for volume in &record.request.volumes {
        if let Some(name) = &volume.name {
            let mut managed = Volumes::unnamed(name.clone());
            managed.anonymous = volume.anonymous;
            Volumes::of(store).ensure(&managed)?;
        }
    }
    if let Some(file) = &mut file {
        file.write_all(record.id.as_bytes()).step("write --cidfile")?;
    }
    Ok(container)
}

fn plan(record: &Record, store: &Store, audience: Audience, trace: Trace) -> Result<plan::Planned> {
    let which = Which { id: &record.id, store, keep: record.keep, audience, trace };
    let planned = plan::plan(&record.request, which)?;
    if let Some(first) = planned.warnings.first()
        && record.request.strict == Strict::On
    {
        return Err(Error::new("--strict", first.clone()));
    }
    planned.warnings.iter().for_each(warn);
    Ok(planned)
}

/// Starts a container, and watches it to its end.
pub(crate) fn start(
    store: &Store,
    record: Record,
    container: Container,
    state: State,
    audience: Audience,
    on_start: Option<Started>,
    trace: Trace,
) -> Result<u8> {
    let planned = plan(&record, store, audience, trace)?;
    start_planned(planned, record, container, state, (audience, on_start), None)
}

fn start_planned(
    planned: plan::Planned,
    record: Record,
    container: Container,
    state: State,
    (audience, on_start): (Audience, Option<Started>),
    builder: Option<Builder>,
) -> Result<u8> {
    let volumes: Vec<String> = match record.keep {
        Keep::Thrown => {
            let own = record.request.volumes.iter().filter(|v| v.anonymous);
            own.filter_map(|v| v.name.clone()).collect()
        }
        Keep::Kept => Vec::new(),
    };
    let store = planned.store.clone();
    let outcome = launch::launch(Launch {
        spec: planned.spec,
        cgroup: &planned.cgroup,
        container,
        keep: record.keep,
        strict: record.request.strict,
        state,
        audience,
        on_start,
        purpose: Purpose::Program,
        builder,
    });
    if !volumes.is_empty() {
        let store = Store::choose(Some(&store))?;
        for name in volumes {
            let removed = Volumes::of(&store).remove(&name, &record.identity);
            best_effort("remove the container's volume", removed);
        }
    }
    outcome
}

/// Starts a container in the background.
pub(crate) fn start_detached(
    store: &Store,
    record: Record,
    container: Container,
    state: State,
    trace: Trace,
) -> Result<()> {
    let dir = container.dir().to_path_buf();
    let keep = record.keep;
    let identity = record.identity.clone();
    let log = dir.join("supervisor.log");
    let started = launch::in_background(&log, |on_start| {
        start(store, record, container, state, Audience::Nobody, Some(on_start), trace)
    });
    if started.is_err() && keep == Keep::Thrown {
        // What could not even be planned is there still.
        if let Ok(Some(entry)) = Entry::read(&dir)
            && let Ok(left) = entry.lock()
        {
            best_effort("clear the container", left.clear(&identity));
        }
    }
    started
}

/// Returns arguments as a person would type them.
pub(crate) fn shown(args: &[impl AsRef<OsStr>]) -> String {
    let words: Vec<_> = args.iter().map(|a| a.as_ref().to_string_lossy()).collect();
    words.join(" ")
}
